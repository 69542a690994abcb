"""What the ray launcher asks of nodes and actors, without Ray: a place executes runs, and a probe is answered."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from test_launch import AGENT, SESSION, catch_runs, evaluated
from test_runner import wait_for

from covr_bench.config.run_config import RunConfig
from covr_bench.kit.errors import UserError
from covr_bench.launch import cluster, place, writers
from covr_bench.launch.base import Job
from covr_bench.launch.cluster import Cluster, Needs, runtime_env
from covr_bench.launch.find import make_launcher
from covr_bench.launch.place import Place, Probe, Report
from covr_bench.run.session import FAILED, FINISHED, INTERRUPTED
from results.holding import Holding
from results.store import run_folder


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No actor of Ray, and this process's folder as before after each test."""
    monkeypatch.setattr(place, "_actor", lambda: "an actor")
    monkeypatch.setenv("COVR_BENCH_JOB", "")
    monkeypatch.chdir(tmp_path)


def given(config: RunConfig, patience_s: float = 60.0) -> Report:
    """What a new place reports of a run whose folder exists."""
    run_folder(config.out, config.run_id).mkdir(parents=True)
    return Place().run(config, SESSION, os.getcwd(), patience_s)


def test_a_place_executes_one_run_after_the_other(tmp_path: Path) -> None:
    one = Place()
    for config in catch_runs(tmp_path / "out", ["random"], seeds=[0, 1]):
        run_folder(config.out, config.run_id).mkdir(parents=True)
        report = one.run(config, SESSION, str(tmp_path), 60.0)
        assert (report.status, report.error) == (FINISHED, "")
        assert report.progress["env_steps"] == 60
        assert not report.out_of_memory
        assert evaluated(config) == [0, 60]


def test_a_place_that_is_stopped_lets_its_run_checkpoint_and_runs_no_more(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(AGENT.format(name="slow", update="time.sleep(0.01)"))
    first, second = catch_runs(tmp_path / "out", [str(tmp_path / "slow.py")], env_steps=2000, seeds=[0, 1])
    one, reports = Place(), []
    for config in (first, second):
        run_folder(config.out, config.run_id).mkdir(parents=True)
    thread = threading.Thread(target=lambda: reports.append(one.run(first, SESSION, str(tmp_path), 60.0)))
    thread.start()
    wait_for(lambda: one.look().progress.get("phase") == "train")
    one.stop()
    thread.join()
    assert reports[0].status == INTERRUPTED
    assert "checkpointed at" in reports[0].error
    assert one.run(second, SESSION, str(tmp_path), 60.0) == Report(INTERRUPTED)


@pytest.mark.deep
def test_a_run_whose_process_is_killed_is_told_from_one_that_fails(tmp_path: Path) -> None:
    dies = AGENT.format(name="dies", update="import os; os.kill(os.getpid(), 9)")
    (tmp_path / "dies.py").write_text(dies)
    (tmp_path / "fails.py").write_text(AGENT.format(name="fails", update="1 / 0"))
    died, failed = map(given, catch_runs(tmp_path / "out", [str(tmp_path / "dies.py"), str(tmp_path / "fails.py")]))
    assert (died.status, failed.status) == (-9, FAILED)
    assert "ZeroDivisionError" in failed.error


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    (config,) = catch_runs(tmp_path / "out", ["random"])
    assert f"does not see {run_folder(config.out, config.run_id)}" in Place().run(config, SESSION, ".", 1.0).error
    assert "cannot work in /nowhere" in Place().run(config, SESSION, "/nowhere", 1.0).error


def test_a_probe_is_answered(tmp_path: Path) -> None:
    (config,) = catch_runs(tmp_path / "out", ["random"])
    file = tmp_path / "probe"
    file.write_text("token")
    probe = Probe(str(file), "token", str(tmp_path), {"random": config.code["agent"]})
    assert probe.answer() == ""
    assert not list(tmp_path.glob("probe-*"))
    for other, complaint in (
        (Probe(str(tmp_path / "no" / "probe"), "token", str(tmp_path), {}), r"cannot use .*/no \(No such file"),
        (Probe(str(file), "another", str(tmp_path), {}), "has another folder at"),
        (Probe(str(file), "token", "/nowhere", {}), "has no folder /nowhere, where this command was given"),
        (Probe(str(file), "token", str(tmp_path), {"random": "0"}), "has other code of random: install the same"),
    ):
        with pytest.raises(AssertionError, match=complaint):
            raise AssertionError(other.answer())


@pytest.mark.parametrize(
    ("needs", "node", "held"),
    [
        (Needs(1, 0.0, 0), {"CPU": 4.0}, 4),
        (Needs(2, 0.0, 3), {"CPU": 4.0, "memory": 5.0}, 1),
        (Needs(1, 1 / 3, 1), {"CPU": 16.0, "GPU": 2.0, "memory": 100.0}, 6),
        (Needs(1, 1.0, 1), {"CPU": 16.0, "memory": 100.0}, 0),
        (Needs(1, 0.0, 1), {"memory": 100.0}, 0),
    ],
)
def test_a_node_holds_as_many_runs_as_its_scarcest_resource(needs: Needs, node: dict[str, float], held: int) -> None:
    assert needs.fit(node) == held


def test_only_named_variables_go_to_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s")
    monkeypatch.setenv("WANTED", "w")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("COVR_BENCH_LAUNCHER", "slurm")
    passed = runtime_env(["WANTED", "ABSENT"])["env_vars"]
    assert {"SECRET", "ABSENT"}.isdisjoint(passed)
    assert (passed["WANTED"], passed["MUJOCO_GL"], passed["COVR_BENCH_LAUNCHER"]) == ("w", "egl", "ray")
    assert json.dumps(passed)


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'covr-bench\[ray\]'"):
        make_launcher("ray")


def test_a_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        def is_initialized(self) -> bool:
            return False

    monkeypatch.setattr(cluster, "_ray", Ray)
    with pytest.raises(UserError, match=r"address=ray://head:10001: .* give this command on a node of the cluster"):
        Cluster("ray://head:10001").join()


def test_a_writer_that_beats_is_waited_for_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], 0
    leases = iter([Holding(1, "another", beat=beat, length_s=60.0) for beat in range(5)])
    monkeypatch.setattr(writers, "clock", lambda: now[0])
    monkeypatch.setattr(writers, "lease_of", lambda job: next(leases, None))

    def pause() -> None:
        nonlocal pauses
        pauses, now[0] = pauses + 1, now[0] + 40.0

    writers.wait_for_writer(Job(*catch_runs(tmp_path, ["random"])), 1e9, pause)
    assert pauses == 5
