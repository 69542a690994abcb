"""Statistics against rliable, and the start of the commands that show them (bench_scale.py has the way to a table).

    python -m pytest benchmarks/bench_stats.py -s

Against rliable, times are CPU seconds of one process, A B A B, for the same input and the same number of replicates;
`extra_info["ratio"]` is the median over pairs of theirs / ours. The input is 5 agents of 5 runs on 6 tasks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bench_store import EVALUATIONS, line

from analysis.statistics import bootstrap
from results.store import read, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCORES = {f"agent{n}": np.random.default_rng(n).random((5, 6)) for n in range(5)}
TAUS = np.linspace(0, 1, 81)


def cpu_s(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(benchmark: Any, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> None:
    ours()
    pairs = [(cpu_s(ours), cpu_s(theirs)) for _ in range(rounds)]
    ratio = median(b / a for a, b in pairs)
    benchmark.extra_info |= {"ratio": ratio, "ours_s": [a for a, _ in pairs], "theirs_s": [b for _, b in pairs]}
    benchmark.pedantic(ours, rounds=3)
    print(
        f"\n{benchmark.name}: {ratio:.0f}x ({median(a for a, _ in pairs):.4f} s, {median(b for _, b in pairs):.2f} s)"
    )


def test_iqm_of_five_agents(benchmark: Any) -> None:
    """50,000 replicates."""
    from rliable import library, metrics

    def theirs() -> object:
        return library.get_interval_estimates(SCORES, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=50_000)

    compare(benchmark, lambda: [bootstrap.aggregates(x, ("iqm",)) for x in SCORES.values()], theirs, rounds=2)


def test_all_four_aggregates_of_one_agent(benchmark: Any) -> None:
    """10,000 replicates."""
    from rliable import library, metrics

    def all_four(x: np.ndarray) -> np.ndarray:
        means = (metrics.aggregate_iqm, metrics.aggregate_median, metrics.aggregate_mean)
        return np.array([function(x) for function in (*means, metrics.aggregate_optimality_gap)])

    one = {"agent0": SCORES["agent0"]}
    compare(
        benchmark,
        lambda: bootstrap.aggregates(one["agent0"], reps=10_000),
        lambda: library.get_interval_estimates(one, all_four, reps=10_000),
        rounds=3,
    )


def test_performance_profiles_of_five_agents(benchmark: Any) -> None:
    """2,000 replicates, 81 thresholds."""
    from rliable import library

    def theirs() -> object:
        return library.create_performance_profile(SCORES, TAUS, reps=2_000)

    compare(benchmark, lambda: [bootstrap.profile(x, TAUS) for x in SCORES.values()], theirs, rounds=3)


@pytest.mark.parametrize("reps", [2_000])
def test_probability_of_improvement_of_one_pair(benchmark: Any, reps: int) -> None:
    from rliable import library, metrics

    x, y = SCORES["agent0"], SCORES["agent1"]

    def theirs() -> object:
        return library.get_interval_estimates({"pair": (x, y)}, metrics.probability_of_improvement, reps=reps)

    compare(benchmark, lambda: bootstrap.improvement(x, y, reps=reps), theirs, rounds=3)


@pytest.mark.parametrize("verb", [("table",), ("table", "--paper", "T4"), ("stats", "--reps", "1000")])
def test_start_of_a_command(verb: tuple[str, ...], tmp_path: Path, benchmark: Any) -> None:
    """A whole `covr-bench` on a store of two runs: wall and CPU seconds of the process."""
    for seed in range(2):
        folder = run_folder(tmp_path, f"dmc6@paper/walker_walk/sac/{seed}")
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text("".join(line(seed, index) for index in range(EVALUATIONS)))
    read(tmp_path)
    command = [sys.executable, "-m", "covr_bench.cli.app", *verb, "--out", str(tmp_path)]
    before = os.times()
    benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, check=True), rounds=5)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    benchmark.extra_info["cpu_s"] = cpu / 5
    print(f"\ncovr-bench {' '.join(verb)}: CPU {cpu / 5:.2f} s, wall {benchmark.stats.stats.min:.2f} s at best")
