"""One thread, and the ways the tests run covr-bench, as it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from covr_bench.run.worker import keep_heap

os.environ["OMP_NUM_THREADS"] = "1"
keep_heap()
# How long an example takes says something of the machine, which may be busy, and nothing of the code.
settings.register_profile(
    "busy machines", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machines")
SMALL_DRQV2 = (  # learns from its first steps, and wraps its replay within a hundred
    "drqv2.batch_size=4", "drqv2.hidden_dim=16", "drqv2.feature_dim=8", "drqv2.seed_steps=20",
    "drqv2.replay_capacity=32",
)  # fmt: skip


LONGEST = (
    "test_gate_runs.py",
    "test_carla_traffic.py",
    "test_runner.py",
    "test_covr.py",
    "test_carla_contract.py",
    "test_probe.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes first: begun last, one process would be at them while the others have nothing."""
    names = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: names.get(item.path.name, len(names)))


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`covr-bench ARGS` inside this process: quick, for everything that starts no run."""
    from covr_bench.cli.app import main

    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["covr-bench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Result(int(ended.value.code or 0), printed.out, printed.err)

    return call


def _heed_interrupts() -> None:
    """A shell's background jobs, and all they start, ignore SIGINT; a person's terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start() -> Any:
    """`covr-bench ARGS` as a process of its own, from any folder; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def call(
        *arguments: object, path: tuple[Path, ...] = (), before: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        found = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(found), "COLUMNS": "80"}
        command = [*before, sys.executable, "-m", "covr_bench", *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        options = {"preexec_fn": _heed_interrupts} | options
        started.append(subprocess.Popen(command, env=env, **(pipes | options)))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
