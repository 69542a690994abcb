"""What a step and a reset of the driving tasks cost: physics, traffic, drawing and the wire, in three processes.

    python -m pytest benchmarks/bench_driving.py --benchmark-json=driving.json

`extra_info`: CPU milliseconds a step of the environment's process, of the one that has the CARLA client and of the
server; `steps_per_s_one_core` is 1000 over their sum, which other work on the machine does not disturb. `reset_ms` is
wall time, `reset_cpu_ms` the CPU time of all three; `process_boundary_cpu_ms` is what it costs to ask a process of its
own, with a picture in the answer.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suites.driving import make

STEPS, RESETS, CALLS = 300, 10, 500
CRUISE = np.array([0.0, 0.3], np.float32)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.parametrize("scenario", ["hw", "gp", "a"])
def test_step_and_reset(benchmark: Any, scenario: str) -> None:
    env: Any = make(scenario, 0, end_on_collision=False)
    env.reset(seed=0)
    session = env.unwrapped._session
    pids = {"worker": os.getpid(), "client": session._process.pid, "server": session._server.pid}
    resets: list[float] = []

    def reset(seed: int) -> None:
        begun = time.perf_counter()
        env.reset(seed=seed)
        resets.append((time.perf_counter() - begun) * 1e3)

    def steps() -> dict[str, float]:
        used = dict.fromkeys(pids, 0.0)
        done = True
        for step in range(STEPS):
            if done:
                reset(step)
                before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            _, _, terminated, truncated, _ = env.step(CRUISE)
            if done := terminated or truncated or step == STEPS - 1:
                used = {name: used[name] + cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        return {name: seconds / STEPS * 1e3 for name, seconds in used.items()}

    used = benchmark.pedantic(steps, rounds=1)
    begun = sum(map(cpu_seconds, pids.values()))
    for seed in range(RESETS):
        reset(seed)
    reset_cpu = (sum(map(cpu_seconds, pids.values())) - begun) / RESETS * 1e3
    begun = sum(map(cpu_seconds, pids.values()))
    for _ in range(CALLS):
        session.picture(84, 84)
    boundary = (sum(map(cpu_seconds, pids.values())) - begun) / CALLS * 1e3
    benchmark.extra_info |= {f"{name}_cpu_ms": value for name, value in used.items()}
    benchmark.extra_info |= {
        "steps_per_s_one_core": 1e3 / sum(used.values()),
        "reset_ms": statistics.median(resets),
        "reset_cpu_ms": reset_cpu,
        "process_boundary_cpu_ms": boundary,
        **{f"{name}_mib": resident(pid) for name, pid in pids.items()},
    }
    print("\n", {name: round(value, 2) for name, value in benchmark.extra_info.items()})
    env.close()
