"""What the ray launcher decides, without Ray: what a run takes of a node, and what follows from a death."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_launch import SESSION, catch_runs

from covr_bench.config.request import request
from covr_bench.face import prepare
from covr_bench.kit.errors import UserError
from covr_bench.launch import cluster, ray
from covr_bench.launch.base import Job, State
from covr_bench.launch.find import make_launcher
from covr_bench.launch.memory import memory_to_retry
from covr_bench.launch.place import Report
from covr_bench.launch.ray import MARGIN, STEP, UNKNOWN, RayLauncher
from covr_bench.launch.remote import DIED, RemoteRun
from covr_bench.run.session import INTERRUPTED
from results.cancel import cancel
from results.holding import LEASE_FILE, holding_of_this_process
from results.layout import run_folder

GB = 10**9
NODES = [
    {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0, "memory": 16e9}},
    {"Alive": True, "Resources": {"CPU": 2.0, "memory": 64e9}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 512e9}},
]


class Ray:
    """As much of Ray as these decisions ask for."""

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        return NODES


class Ended:
    """A run that died."""

    def __init__(self, job: Job, memory: int = 0, peak: int = 0) -> None:
        self.job, self.cause, self.out_of_memory = job, "killed", bool(memory)
        self.needs = cluster.Needs(1, 0.0, memory)
        leave_lease(job, peak)


def leave_lease(job: Job, peak: int, **fields: Any) -> None:
    """As a process leaves it that had so much memory and was killed."""
    folder = run_folder(job.config.out, job.config.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LEASE_FILE).write_text(replace(holding_of_this_process(1, "its"), peak_memory=peak, **fields).to_json())


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> RayLauncher:
    monkeypatch.setattr(cluster, "_ray", Ray)
    made = make_launcher("ray", {"restarts": "1"})
    assert isinstance(made, RayLauncher)
    return made


def job(tmp_path: Path, **fields: Any) -> Job:
    (config,) = catch_runs(tmp_path, ["random"])
    return Job(replace(config, **fields))


def test_as_many_runs_are_executed_as_living_nodes_hold(launcher: RayLauncher) -> None:
    assert launcher.places("cpu") == 6  # by cores: 4 and 2
    assert launcher.places("cuda") == 2
    placement = launcher.share_gpus(2, "egl")
    assert placement.workers == 4
    assert placement.remarks == ("GPUs: 2 of the Ray cluster, 2 runs on each; Ray chooses which",)
    assert launcher.share_gpus(3, "").workers == 4  # as many as its node has cores


def test_what_no_node_holds_is_refused_with_the_most_that_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ray", Ray)
    with pytest.raises(UserError, match=r"takes 1 CPU, 100\.0 GB of memory: .* 4 CPUs, 2 GPUs, 64\.0 GB"):
        make_launcher("ray", {"memory_gb": "100"}).places("cpu")
    assert make_launcher("ray", {"memory_gb": "100", "ahead": "3"}).places("cpu") == 3


def test_a_run_takes_what_was_measured_for_it(
    launcher: RayLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = job(tmp_path, threads=2)
    assert launcher._needs_of(one) == cluster.Needs(2, 0.0, UNKNOWN)
    monkeypatch.setattr(ray, "remembered_memory", lambda configs, renderer: [5e9])
    launcher._remember_memory([one], SESSION)
    memory = launcher._needs_of(one).memory
    assert MARGIN * 5e9 <= memory < MARGIN * 5e9 + STEP
    launcher.share_gpus(4, "")
    assert launcher._needs_of(job(tmp_path, device="cuda")).gpus == 0.25
    with pytest.raises(UserError, match=r"device cuda:1: Ray chooses the GPU of a run; give --device cuda"):
        launcher._needs_of(job(tmp_path, device="cuda:1"))


def test_a_run_that_died_goes_on_as_often_as_it_may(launcher: RayLauncher, tmp_path: Path) -> None:
    one = job(tmp_path)
    launcher._start_again(Ended(one))
    assert (one.state, one.restarts) == (State.WAITING, 1)
    launcher._start_again(Ended(one))
    assert one.state is State.FAILED
    assert one.error == f"killed, after 1 restart; see {one.log}"


def test_a_run_out_of_memory_gets_more_until_no_node_has_more(launcher: RayLauncher, tmp_path: Path) -> None:
    one = job(tmp_path)
    launcher._start_again(Ended(one, memory=10 * GB, peak=GB))
    assert launcher._needs_of(one).memory == 2 * 10 * GB
    one.restarts = 0
    launcher._start_again(Ended(one, memory=20 * GB, peak=40 * GB))
    assert launcher._needs_of(one).memory == memory_to_retry(40 * GB) > 40 * GB
    one.restarts = 0
    launcher._start_again(Ended(one, memory=50 * GB, peak=GB))
    assert launcher._needs_of(one).memory == 64 * GB
    one.restarts = 0
    launcher._start_again(Ended(one, memory=64 * GB, peak=GB))
    assert one.state is State.FAILED
    assert one.error == "killed, and no node has more than the 64.0 GB that were set aside for it"


class Ended75:
    """What a run hears of Ray when its process has ended with status 75."""

    class Exceptions:
        OutOfMemoryError = RayTaskError = RayError = ZeroDivisionError

    exceptions = Exceptions

    @staticmethod
    def get(reference: Any) -> Report:
        return Report(INTERRUPTED, "checkpointed at 20 of 60 env steps")


@pytest.mark.parametrize("by", ["", "this command", "cancel", "another writer", "a dead writer"])
def test_a_run_that_stops_though_nobody_asked_it_has_died(by: str, tmp_path: Path) -> None:
    """Its node is about to go; but who asked for its end gets it."""
    one = RemoteRun.__new__(RemoteRun)
    one.ray, one.job, one.result, one._warned = Ended75(), job(tmp_path), None, []
    one.job.state = State.STOPPING if by == "this command" else State.RUNNING
    if by == "cancel":
        cancel(tmp_path, one.job.config.run_id)
    elif by:
        leave_lease(one.job, 0, **({"machine": "another"} if by == "another writer" else {"born": 1}))
    assert one.status() == (DIED if by in ("", "a dead writer") else INTERRUPTED)
    assert one.lives


def test_a_launcher_with_nodes_says_how_many_runs_there_are_at_a_time(tmp_path: Path) -> None:
    """And each has one thread, however many cores this machine has."""
    (tmp_path / "many.py").write_text(
        "from dataclasses import dataclass\n"
        "from covr_bench.launch.base import LauncherSpec\n"
        "@dataclass(frozen=True)\nclass Settings:\n    pass\n"
        "class Many:\n"
        "    def __init__(self, settings): pass\n"
        "    def places(self, device): return 3\n"
        "    def run(self, jobs, workers, session, watch): pass\n"
        "LAUNCHER = LauncherSpec('many', Settings, Many, 'Elsewhere.')\n"
    )
    given = {"suite": "catch", "tasks": ["catch"], "agents": ["random"], "budget": "smoke", "out": tmp_path / "out"}
    for seeds, workers, expected in (("0-4", None, 3), ("0-4", 5, 5), ("0", None, 1)):
        values = given | {"seeds": seeds, "workers": workers, "launcher": str(tmp_path / "many.py")}
        preparation = prepare(request(values, "this test"))
        assert preparation.workers == expected
        assert {each.config.threads for each in preparation.plan.runs} == {1}
