"""Writing and reading the store: rows per second, a fresh cache, one changed run, and the memory it takes.

    python -m pytest benchmarks/bench_store.py --benchmark-json=store.json
    COVR_BENCH_RUNS=100000 python -m pytest benchmarks/bench_store.py -k fresh_cache

Times are wall time. Reading from the cache alternates, A B A B, with parsing all files anew;
`extra_info["ratio"]` is anew / cached, medians of the rounds. COVR_BENCH_RUNS sets the number of runs (2,000 if unset),
each of 11 evaluations of 10 episodes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from results.store import RunWriter, read, run_folder

if TYPE_CHECKING:
    from pathlib import Path

RUNS = int(os.environ.get("COVR_BENCH_RUNS", "2000"))
EVALUATIONS, EPISODES, TASKS, AGENTS = 11, 10, 6, 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store")
    for number in range(RUNS):
        folder = run_folder(out, f"dmc6@paper/task{number % TASKS}/agent{number // TASKS % AGENTS}/{number}")
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text("".join(line(number, index) for index in range(EVALUATIONS)))
    return out


def line(number: int, index: int) -> str:
    """One row as `RunWriter` writes it, without its lock and fsync."""
    episodes = [number * 0.37 + index * 0.1 + episode for episode in range(EPISODES)]
    steps = {"env_steps": 10_000 * index, "agent_steps": 5_000 * index, "action_repeat": 2}
    measured = {"metric": "return", "value": sum(episodes) / EPISODES, "episodes": episodes}
    return json.dumps({"schema": 1, "kind": "eval", **steps, "wall_s": 1.0 * index, "time": 1.7e9, **measured}) + "\n"


def seconds(out: Path) -> float:
    start = time.perf_counter()
    assert len(read(out)) == RUNS * EVALUATIONS
    return time.perf_counter() - start


def test_read_from_a_fresh_cache(store: Path, benchmark: Any) -> None:
    read(store)
    code = (
        "import resource, sys, time; start = time.perf_counter(); from results.store import read; read(sys.argv[1])\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    process = subprocess.run([sys.executable, "-c", code, store], capture_output=True, text=True, check=True)
    wall_s, peak_mib = map(float, process.stdout.split())
    benchmark.extra_info |= {"runs": RUNS, "wall_s_with_imports": wall_s, "peak_mib_of_a_new_process": peak_mib}
    benchmark.pedantic(read, args=(store,), rounds=5)


def test_read_cached_against_anew(store: Path, benchmark: Any) -> None:
    read(store)
    anew: list[float] = []
    cached: list[float] = []

    def both() -> None:
        shutil.rmtree(store / "cache")
        anew.append(seconds(store))
        cached.append(seconds(store))

    benchmark.pedantic(both, rounds=3)
    benchmark.extra_info |= {"runs": RUNS, "anew_s": median(anew), "cached_s": median(cached)}
    benchmark.extra_info["ratio"] = median(anew) / median(cached)


def test_read_after_one_run_grew(store: Path, benchmark: Any) -> None:
    read(store)
    path = run_folder(store, "dmc6@paper/task0/agent0/0") / "rows.jsonl"
    original = path.read_bytes()

    def grow() -> None:
        with path.open("a") as file:
            file.write(line(0, EVALUATIONS))

    benchmark.pedantic(read, args=(store,), setup=grow, rounds=5)
    benchmark.extra_info["runs"] = RUNS
    path.write_bytes(original)


@pytest.mark.parametrize("kind", ["eval", "train"])
def test_write(kind: str, tmp_path: Path, benchmark: Any) -> None:
    """One call: 10 episodes with fsync, or 6 losses without."""
    losses = {f"loss{n}": float(n) for n in range(6)}
    metrics: dict[str, Any] = {"return": [1.0] * 10} if kind == "eval" else losses
    with RunWriter(tmp_path, "dmc6@paper/task/agent/0", action_repeat=2) as writer:
        benchmark(writer.write, kind, 100, 50, metrics)
