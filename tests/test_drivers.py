"""Two commands on one store, and a run that is taken over from a frozen process: the same bits as undisturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_DRQV2
from test_runner import rows_of

from covr_bench.run.checkpoint import load_saved
from results import provenance
from results.holding import read_lease
from results.store import read_run, run_folder

PATIENCE_S = 600.0

pytestmark = pytest.mark.cluster  # minutes: real commands, and a frozen process over a lease's length


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVR_BENCH_LEASE_S", "4")


@pytest.fixture
def command(start: Any) -> Callable[..., subprocess.Popen[str]]:
    """A small plan, in a store, by processes that are forked."""

    def call(out: Path, seeds: str) -> subprocess.Popen[str]:
        options = ["--suite", "catch", "--task", "catch", "--agent", "drqv2", "--budget", "short", "--device", "cpu"]
        options += ["--env-steps", "600", "--seeds", seeds, "--workers", "1", "--conv-kernel", "torch"]
        options += [word for text in (*SMALL_DRQV2, "drqv2.update_every=1") for word in ("--set", text)]
        running: subprocess.Popen[str] = start("run", *options, "--launcher", "forked", "--out", out)
        return running

    return call


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    return out


def contents(out: Path) -> dict[str, Any]:
    """Of each run: its rows that count, but for times, and the checksum of its final weights."""
    found = {}
    for run_id, record in provenance.statuses(out).items():
        assert record["status"] == "finished"
        frame = read_run(out, run_id)
        frame = frame[~frame["kind"].isin(["resume", "throughput"])]
        saved = load_saved(run_folder(out, run_id) / "checkpoint")
        assert saved is not None
        ends = [row for row in rows_of(out, run_id) if row["kind"] == "end"]
        assert len(ends) == 1
        assert [path.name for path in run_folder(out, run_id).rglob("*") if path.suffix in (".tmp", ".part")] == []
        found[run_id] = (frame[["kind", "env_steps", "metric", "value", "episodes"]].to_json(), saved.sha256)
    assert list(out.rglob("lease.json")) == []
    return found


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_two_commands_and_a_frozen_worker_leave_what_one_undisturbed_command_does(command: Any, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    first = command(shared, "0,1")

    def trains() -> int | None:
        """The process of a run that has been training for some steps."""
        for run_id in provenance.statuses(shared) if shared.exists() else ():
            holding = read_lease(run_folder(shared, run_id))
            if holding and holding.lives() and any(row["kind"] == "episode" for row in rows_of(shared, run_id)):
                return holding.pid
        return None

    frozen = wait_for(trains)
    os.kill(frozen, signal.SIGSTOP)
    try:
        finished(command(shared, "0,1"))  # takes the frozen run over, and does the other
    finally:
        os.kill(frozen, signal.SIGCONT)
    out, err = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 1, out + err
    assert "interrupted: run catch@short-600" in out and "was taken over by another process" in out
    assert "2 of 2 runs did not finish" not in out  # the other counts as finished
    finished(command(shared, "0,1"))
    finished(command(whole, "0,1"))
    assert contents(shared) == contents(whole)
    assert len(contents(whole)) == 2


def test_two_commands_at_once_share_the_work(command: Any, tmp_path: Path) -> None:
    both = [command(tmp_path, "0,1") for _ in range(2)]
    printed = [process.communicate(timeout=PATIENCE_S) for process in both]
    for process, (out, err) in zip(both, printed, strict=True):
        assert process.returncode in (0, 1), out + err
        assert "Traceback" not in out + err
        unfinished = [line for line in out.splitlines() if " interrupted: " in line]
        assert process.returncode == (1 if unfinished else 0)
        assert all("is being written by process " in line for line in unfinished), unfinished
    finished(command(tmp_path, "0,1"))
    assert len(contents(tmp_path)) == 2
