"""What the embedded CARLA server costs, seen from the real client in a process of its own.

    python -m pytest benchmarks/bench_carla.py --benchmark-json=carla.json

A step is: control, tick, the pictures of that frame, every vehicle's transform and velocity. `extra_info` has wall
milliseconds (10th, 50th and 90th percentile) and, steadier on a shared machine, CPU milliseconds a step of either
side; their sum is what a step takes on one core. Protocol overhead is a step of vehicles at rest without physics and
with rendering off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from suites.carla.launch import ServerProcess, launch

STEPS = 500
CLIENT = Path(__file__).with_name("carla_client.py")


def ask(server: ServerProcess, what: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(CLIENT), what, str(server.port), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(benchmark: Any, seconds: list[float], **more: object) -> None:
    ordered = sorted(seconds)
    benchmark.extra_info |= {
        "p10_ms": ordered[len(ordered) // 10] * 1e3,
        "median_ms": statistics.median(ordered) * 1e3,
        "p90_ms": ordered[len(ordered) * 9 // 10] * 1e3,
        "mean_ms": statistics.fmean(ordered) * 1e3,
        **more,
    }
    print("\n", {name: round(v, 3) if isinstance(v, float) else v for name, v in benchmark.extra_info.items()})


@pytest.mark.parametrize(
    ("vehicles", "cameras", "size", "moving"),
    [(12, 1, 84, 0), (50, 1, 84, 0), (12, 1, 84, 1), (12, 3, 84, 1), (12, 1, 256, 1), (50, 1, 84, 1)],
)
def test_step(benchmark: Any, vehicles: int, cameras: int, size: int, moving: int) -> None:
    """`moving` 0 is the protocol alone; 1 is the whole step, with traffic, physics and rendering."""
    with launch("highway") as server:
        ask(server, "ticks", 50, vehicles, cameras, size, moving)
        found, before = dict[str, Any](), cpu_seconds(server.pid)
        run = lambda: found.update(ask(server, "ticks", STEPS, vehicles, cameras, size, moving))  # noqa: E731
        benchmark.pedantic(run, rounds=1)
        used = (cpu_seconds(server.pid) - before) / STEPS * 1e3
    report(benchmark, found["seconds"], server_cpu_ms=used, client_cpu_ms=found["cpu"] / STEPS * 1e3)


def test_long_run(benchmark: Any) -> None:
    """10,000 steps: neither side grows."""
    with launch("highway") as server:
        ask(server, "ticks", 600, 12, 1, 84, 1)
        ask(server, "resets", 2)
        before, found = resident(server.pid), dict[str, Any]()
        benchmark.pedantic(lambda: found.update(ask(server, "ticks", 10_000, 12, 1, 84, 1)), rounds=1)
        grown = resident(server.pid) - before
    report(benchmark, found["seconds"], server_grown_mib=grown, client_grown_mib=found["grown_mib"])


def test_start_to_first_frame(benchmark: Any) -> None:
    """From starting the process to the first picture in the client's hands."""
    seconds: list[float] = []

    def once() -> None:
        begun = time.time()
        with launch("highway") as server:
            seconds.append(ask(server, "first_frame")["at"] - begun)

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    report(benchmark, seconds[1:])


def test_episode_resets(benchmark: Any) -> None:
    """200 episodes begun, none leaving an actor behind."""
    with launch("highway") as server:
        found: dict[str, Any] = {}
        benchmark.pedantic(lambda: found.update(ask(server, "resets", 200)), rounds=1)
        memory = resident(server.pid)
    report(benchmark, found["seconds"][5:], actors_left=found["actors_left"], server_mib=memory)
    assert found["actors_left"] == 0
