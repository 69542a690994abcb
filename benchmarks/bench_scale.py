"""A large store: seconds and memory from 100,000 runs to a table of 50 agents, and what each command takes to start.

    python -m pytest benchmarks/bench_scale.py -s
    COVR_BENCH_RUNS=100000 COVR_BENCH_STORE=/tmp/scale python -m pytest benchmarks/bench_scale.py -s

COVR_BENCH_RUNS sets the number of runs (2,000 if unset), each of 11 evaluations of 10 episodes and a row that ends it,
of 50 agents on 6 tasks. COVR_BENCH_STORE keeps the store in a folder for the next time: 100,000 runs are as many files
of 3 KB. Each measurement is a process of its own; wall and CPU seconds (user and system) and peak memory are printed,
since on a shared machine only CPU seconds can be compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_store import EVALUATIONS, line

from results.layout import ROWS_FILE, run_folder

RUNS = int(os.environ.get("COVR_BENCH_RUNS", "2000"))
TASKS = ("finger_spin", "cartpole_swingup", "reacher_easy", "cheetah_run", "walker_walk", "ball_in_cup_catch")
AGENTS = 50
END = '{"schema": 1, "kind": "end", "env_steps": 100000, "agent_steps": 50000, "action_repeat": 2, "wall_s": 10.0, '
END += '"time": 1.7e9, "metric": "end", "value": 1}\n'


def run_id(number: int) -> str:
    agent, seed = number // len(TASKS) % AGENTS, number // len(TASKS) // AGENTS
    return f"dmc6@paper/{TASKS[number % len(TASKS)]}/agent{agent}/{seed}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNS runs; those that a kept store lacks are written."""
    kept = os.environ.get("COVR_BENCH_STORE")
    out = Path(kept) if kept else tmp_path_factory.mktemp("store")
    for number in range(RUNS):
        folder = run_folder(out, run_id(number))
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / ROWS_FILE).write_text("".join(line(number, index) for index in range(EVALUATIONS)) + END)
    return out


CLOCK = """
import resource, sys, time
def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
clocks = [clock()]
{}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss / 1024, *(b - a for x, y in zip(clocks, clocks[1:]) for a, b in zip(x, y)))
"""


def measure(code: str, *arguments: object) -> tuple[float, list[tuple[float, float]]]:
    """Peak MiB, and wall and CPU seconds between the times at which `code` appends `clock()` to `clocks`."""
    command = [sys.executable, "-c", CLOCK.format(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, *spans = map(float, done.stdout.splitlines()[-1].split())
    return peak, list(zip(spans[::2], spans[1::2], strict=True))


def say(benchmark: Any, names: tuple[str, ...], peak: float, spans: list[tuple[float, float]]) -> None:
    benchmark.extra_info |= {"runs": RUNS, "peak_mib": peak}
    print(f"\n{RUNS:,} runs, peak {peak:.0f} MiB")
    for name, (wall, cpu) in zip(names, spans, strict=True):
        benchmark.extra_info |= {f"{name}_s": wall, f"{name}_cpu_s": cpu}
        print(f"  {name}: {wall:.2f} s, CPU {cpu:.2f} s")


def test_parse_anew(store: Path, benchmark: Any) -> None:
    """Without a cache; leaves one."""
    import shutil

    shutil.rmtree(store / "cache", ignore_errors=True)
    code = "from results.store import read\nread(sys.argv[1])\nclocks.append(clock())"
    say(benchmark, ("parse",), *benchmark.pedantic(measure, args=(code, store)))


def test_store_to_table(store: Path, benchmark: Any) -> None:
    """From the cache. `check` is the part of `load` that asks every run's file whether it has changed."""
    from results.store import read

    read(store)
    code = """
from results.layout import ROWS_FILE, scan
list(scan(sys.argv[1], ROWS_FILE))
clocks.append(clock())
from analysis.tables.scores import tables, to_markdown
from results.store import read
clocks.append(clock())
frame = read(sys.argv[1])
clocks.append(clock())
(table,) = tables(frame)
to_markdown([table])
clocks.append(clock())
"""
    peak, spans = benchmark.pedantic(measure, args=(code, store))
    say(benchmark, ("check", "imports", "load", "table"), peak, spans)


@pytest.mark.parametrize(
    "verb", [("table", "--format", "csv"), ("stats", "--reps", "2000", "--format", "csv")], ids=lambda verb: verb[0]
)
def test_a_whole_command(store: Path, verb: tuple[str, ...], benchmark: Any) -> None:
    """`covr-bench` on the store, as a user gives it."""
    code = f"""
from covr_bench.cli.app import main
sys.argv = ["covr-bench", *{verb!r}, "--out", sys.argv[1]]
try:
    main()
except SystemExit:
    clocks.append(clock())
"""
    say(benchmark, verb[:1], *benchmark.pedantic(measure, args=(code, store)))
