"""What launchers add to a run: milliseconds per run that does nothing, and the memory of the command that starts it.

    OMP_NUM_THREADS=1 python -m pytest -s benchmarks/bench_launchers.py
    COVR_BENCH_RUNS=10000 COVR_BENCH_WORKERS=8 python -m pytest -s benchmarks/bench_launchers.py

`local` starts /bin/true for each run, which is compared with starting it by `subprocess` alone. `ray` has actors that
return at once: their processes are started once per worker, and the rest is what Ray and the launcher take per run.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from experiments import configure

from covr_bench.config import registry
from covr_bench.launch import cluster, worker
from covr_bench.launch.base import State
from covr_bench.launch.execute import execute
from covr_bench.launch.find import make_launcher
from covr_bench.launch.place import Place, Report
from covr_bench.run.session import FINISHED, Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from covr_bench.config.run_config import RunConfig

RUNS = int(os.environ.get("COVR_BENCH_RUNS", "500"))
WORKERS = int(os.environ.get("COVR_BENCH_WORKERS", "2"))
NOTHING = ["/bin/true"]
SETTINGS = {"local": {}, "ray": {"memory_gb": "0.1"}}


class Idle(Place):
    """Returns at once."""

    def run(self, config: RunConfig, session: Session, folder: str, patience_s: float) -> Report:
        return Report(FINISHED)


def configs(out: Path) -> list[RunConfig]:
    suite = registry.suite("catch")
    (one,) = configure(
        suite, "catch", {"random": registry.agent("random")}, suite.budgets["smoke"], tasks=["catch"], seeds=[0],
        out=str(out),
    )  # fmt: skip
    stem = one.run_id.rpartition("/")[0]
    return [replace(one, run_id=f"{stem}/{seed}", seed=seed) for seed in range(RUNS)]


def seconds(act: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


@pytest.mark.parametrize("name", ["local", "ray"])
def test_overhead_per_run(name: str, tmp_path: Path, benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "ray" and find_spec("ray") is None:
        pytest.skip("needs Ray: pip install 'covr-bench[ray]'")
    monkeypatch.setattr(worker, "python_child", lambda module: NOTHING)
    monkeypatch.setattr(cluster, "Place", Idle)
    runs, launcher = configs(tmp_path), make_launcher(name, SETTINGS[name])
    if name == "ray":
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes cannot import a benchmark
        launcher.cluster.join()
        execute(launcher, runs[:1], 1, Session("warm-up"))
        launcher.cluster.join()
    bare = seconds(lambda: [subprocess.run(NOTHING) for _ in range(100)]) / 100 if name == "local" else 0.0
    jobs = benchmark.pedantic(execute, args=(launcher, runs, WORKERS, Session("nothing")))
    taken = benchmark.stats.stats.max / RUNS
    assert all(job.state is State.FINISHED for job in jobs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    benchmark.extra_info |= {"runs": RUNS, "workers": WORKERS, "ms_per_run": 1e3 * taken, "peak_mib": peak}
    print(f"\n{name}: {RUNS:,} runs, {WORKERS} at a time: {1e3 * taken:.1f} ms a run, peak {peak:.0f} MiB")
    if bare:
        print(f"  starting the process alone takes {1e3 * bare:.1f} ms")
