"""Processes killed for want of memory are told from those that crash, and tried again with room."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_launch import SESSION, catch_runs

from covr_bench.launch import memory
from covr_bench.launch.base import Job, State
from covr_bench.launch.local import LocalLauncher, Settings
from covr_bench.launch.memory import OomWatch, memory_limit, memory_to_retry, peak_of
from covr_bench.run import cgroups
from results.holding import holding_of_this_process
from results.store import run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

EATS = "import sys; held = bytearray(int(sys.argv[1])); held[::4096] = b'x' * len(held[::4096])"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of 64 MB, of either version."""
    for parent in (*cgroups.own_groups(), cgroups.CGROUPS / "memory", cgroups.CGROUPS):
        folder = parent / f"covr-bench-{uuid.uuid4().hex[:8]}"
        for limit in ("memory.max", "memory.limit_in_bytes"):
            try:
                folder.mkdir(exist_ok=True)
                if (folder / limit).exists():
                    (folder / limit).write_text(str(64 << 20))
                    yield folder
                    return
            except OSError:
                continue
            finally:
                if folder.exists():
                    folder.rmdir()
    pytest.skip("this process may make no control groups")


def status_in(group: Path, code: str, *arguments: str) -> int:
    """Of a process that lives in a control group."""
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0');"
    return subprocess.run([sys.executable, "-c", enter + code, *arguments], capture_output=True).returncode


def test_the_kernels_kill_is_told_from_anothers(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "own_groups", lambda: [group])
    monkeypatch.setattr(memory, "own_groups", lambda: [group])
    monkeypatch.setattr(cgroups, "CGROUPS", group)
    assert memory_limit() == 64 << 20
    watch = OomWatch()
    assert not watch.explains(status_in(group, "import os; os.kill(os.getpid(), 9)"), 0)
    assert not watch.explains(status_in(group, "raise MemoryError"), 0)
    status = status_in(group, EATS, str(128 << 20))
    assert status == -signal.SIGKILL
    assert watch.explains(status, 0)
    assert not watch.explains(status, 0)  # that kill is accounted for


@pytest.mark.parametrize(
    ("before", "after", "status", "peak", "expected"),
    [
        (3, 4, -9, 0, True),
        (3, 4, 137, 0, True),
        (3, 3, -9, 50, False),
        (3, 3, -9, 95, True),  # a daemon's kill, which the kernel does not count
        (None, None, -9, 95, True),
        (None, None, -9, 50, False),
        (3, 4, -11, 95, False),
        (3, 4, 1, 95, False),
    ],
)
def test_what_speaks_for_want_of_memory(
    before: int | None, after: int | None, status: int, peak: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [before, after]
    monkeypatch.setattr(memory, "oom_kills", lambda: counts.pop(0))
    assert OomWatch(limit=100).explains(status, peak) is expected


DIES = "import os, sys, time; print('{\"env_steps\": 1}', flush=True); time.sleep(0.5); os.kill(os.getpid(), 9)"
LIVES = "import time; time.sleep(2)"


@pytest.mark.parametrize("alone", [False, True])
def test_a_run_without_memory_is_tried_again_with_fewer_beside_it(
    alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two dies, which the kernel counts; by itself it lives, or dies for good."""
    configs = catch_runs(tmp_path, ["random"], seeds=[0, 1])
    codes = iter([DIES, LIVES, DIES if alone else LIVES])
    kills = 0
    monkeypatch.setattr(memory, "oom_kills", lambda: kills)
    monkeypatch.setattr("covr_bench.launch.worker.python_child", lambda module: [sys.executable, "-c", next(codes)])
    folder = run_folder(tmp_path, configs[0].run_id)
    folder.mkdir(parents=True)
    (folder / "lease.json").write_text(
        holding_of_this_process(1, "its").to_json().replace('"peak_memory": 0', '"peak_memory": 2000000000')
    )
    most: list[int] = []

    def watch(jobs: Sequence[Job]) -> None:
        nonlocal kills
        kills = 1 + jobs[0].restarts
        most.append(sum(job.state is State.RUNNING for job in jobs) if jobs[0].restarts else 0)

    launcher: Any = LocalLauncher(Settings(restarts=0))
    launcher._oom = OomWatch(limit=4 * 10**9)
    jobs = [Job(config) for config in configs]
    launcher.run(jobs, 2, SESSION, watch)
    assert jobs[0].restarts == 1
    assert max(most) == 1
    assert jobs[0].memory == memory_to_retry(2 * 10**9) > 2 * 10**9
    assert "out of memory: the kernel killed it (it had 2.0 GB" in jobs[0].warnings[0]
    assert "from now on 1 run at a time" in jobs[0].warnings[0]
    assert jobs[1].state is State.FINISHED
    assert jobs[0].state is (State.FAILED if alone else State.FINISHED)
    assert ("though it ran by itself" in jobs[0].error) is alone


def test_of_processes_killed_between_two_looks_each_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter([3, 5, 5, 5])
    monkeypatch.setattr(memory, "oom_kills", lambda: next(kills))
    watch = OomWatch(limit=100)
    assert [watch.explains(-signal.SIGKILL, 0) for _ in range(3)] == [True, True, False]


def test_a_run_without_a_lease_has_no_known_peak(tmp_path: Path) -> None:
    (config,) = catch_runs(tmp_path, ["random"])
    assert peak_of(Job(config)) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_every_signal_that_sites_send_asks_a_worker_to_stop(signum: signal.Signals) -> None:
    code = (
        "import os, sys; from covr_bench.run.worker import Stopping\n"
        "stop = Stopping(); assert not stop(); os.kill(os.getpid(), int(sys.argv[1])); print(stop())"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(int(signum))], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr
