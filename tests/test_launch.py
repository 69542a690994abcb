"""Launchers: what every one of them does with runs that end well, badly, or are stopped; and how they are found."""

from __future__ import annotations

import io
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import SMALL_DRQV2
from experiments import configure

from covr_bench.config import registry
from covr_bench.config.request import parse_pairs
from covr_bench.config.run_config import RunConfig
from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job, State
from covr_bench.launch.execute import execute
from covr_bench.launch.find import launcher, launcher_names, make_launcher
from covr_bench.launch.worker import listen
from covr_bench.run.checkpoint import Checkpoints
from covr_bench.run.session import Session
from covr_bench.track.trackers import made
from results import provenance
from results.store import read_run, run_folder
from suites.base import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "launcher_plugin.py")
SESSION = Session("covr-bench run ...", {"seen": "before the start"})
AGENT = """
import time
from baselines.random import Config, Random
from covr_bench import AgentSpec

class Mine(Random):
    def update(self, replay, step):
        {update}
        return {{}}

AGENT = AgentSpec("{name}", Config, Mine, "control")
"""


def test_what_else_prints_on_a_childs_channel_is_passed_over(tmp_path: Path) -> None:
    (config,) = configure(
        registry.suite("catch"),
        "catch",
        {"random": registry.agent("random")},
        registry.suite("catch").budgets["smoke"],
        tasks=["catch"],
        seeds=[0],
        out=str(tmp_path),
    )
    job = Job(config)
    said = io.StringIO('hello from sitecustomize\n3\n{"warning": "heed"}\n{"warning": "cut')
    listen(job, said)
    assert job.warnings == ["heed"]


NEEDS_RAY = [
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'covr-bench[ray]'"),
]


def every_launcher() -> list[Any]:
    """Slurm's is in `test_slurm.py`, which starts one."""
    others = [name for name in launcher_names() if name not in ("ray", "slurm")]
    return [*others, pytest.param("ray", marks=NEEDS_RAY), EXAMPLE]


def catch_runs(out: Path, agents: Sequence[str], env_steps: int = 60, seeds: Sequence[int] = (0,)) -> list[RunConfig]:
    """Runs of a second each."""
    suite = registry.suite("catch")
    specs = {ref: registry.agent(ref) for ref in agents}
    overrides = parse_pairs(SMALL_DRQV2) if "drqv2" in agents else {}
    budget = Budget("tried", env_steps, env_steps, 1)
    return configure(suite, "catch", specs, budget, tasks=["catch"], seeds=seeds, overrides=overrides, out=str(out))


def evaluated(config: RunConfig) -> list[int]:
    rows = read_run(config.out, config.run_id).query("kind == 'eval' and metric == 'return'")
    return rows["env_steps"].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("ref", every_launcher())
def test_every_launcher_gives_each_job_its_outcome(ref: str, tmp_path: Path) -> None:
    """Two runs end well, one fails and stops no other; every watcher sees the jobs before and after."""
    (tmp_path / "broken.py").write_text(AGENT.format(name="broken", update="1 / 0"))
    configs = catch_runs(tmp_path / "out", ["random", str(tmp_path / "broken.py"), "drqv2"])
    seen: list[list[State]] = []
    watchers = [lambda jobs: seen.append([job.state for job in jobs])]
    jobs = execute(make_launcher(ref), configs, 2, SESSION, watchers)
    assert [job.config for job in jobs] == configs
    assert [job.state for job in jobs] == [State.FINISHED, State.FAILED, State.FINISHED]
    assert jobs[1].error.strip().endswith("ZeroDivisionError: division by zero")
    assert seen[0] == [State.WAITING] * 3
    assert seen[-1] == [job.state for job in jobs]
    assert {State.RUNNING} <= {states[0] for states in seen}
    assert all(evaluated(config) == [0, 60] for config in (configs[0], configs[2]))
    for config in configs:
        record = provenance.statuses(config.out)[config.run_id]
        assert record["sessions"][-1]["command"] == SESSION.command
        assert record["environment"]["seen"] == "before the start"


@pytest.mark.deep
@pytest.mark.parametrize("ref", every_launcher())
def test_every_launcher_lets_runs_checkpoint_when_it_is_stopped(ref: str, tmp_path: Path) -> None:
    """`watch` raises once the first run trains; that run then goes on to its end."""
    (tmp_path / "slow.py").write_text(AGENT.format(name="slow", update="time.sleep(0.03)"))
    configs = catch_runs(tmp_path, [str(tmp_path / "slow.py")], env_steps=200, seeds=[0, 1])
    jobs: list[Job] = []

    def stop_in_training(seen: Sequence[Job]) -> None:
        jobs[:] = seen
        if jobs[0].progress.get("phase") == "train" and jobs[0].state is State.RUNNING:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(make_launcher(ref), configs, 1, SESSION, [stop_in_training])
    assert [job.state for job in jobs] == [State.INTERRUPTED, State.WAITING], jobs[0].error
    assert "checkpointed at" in jobs[0].error
    assert Checkpoints(run_folder(tmp_path, configs[0].run_id) / "checkpoint").exists()
    assert provenance.statuses(tmp_path)[configs[0].run_id]["status"] == "interrupted"
    (job,) = execute(make_launcher(ref), configs[:1], 1, SESSION)
    assert job.state is State.FINISHED
    assert evaluated(configs[0]) == [0, 200]
    assert len(provenance.statuses(tmp_path)[configs[0].run_id]["sessions"]) == 2


DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); time.sleep(600)"


@pytest.mark.parametrize(("patience_s", "wishes"), [("600", 2), ("0.3", 1)])
def test_a_run_that_cannot_stop_is_killed(
    patience_s: str, wishes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fine-tuning round, for example: at a second wish to stop, or when patience ends."""
    deaf = [sys.executable, "-c", DEAF.replace("{}", '{"env_steps": 7}')]
    monkeypatch.setattr("covr_bench.launch.worker.python_child", lambda module: deaf)
    jobs: list[Job] = []
    looks = 0

    def impatient(seen: Sequence[Job]) -> None:
        nonlocal looks
        jobs[:] = seen
        if jobs[0].progress and not jobs[0].state.ended:
            looks += 1
            if looks in (1, 3)[:wishes]:
                raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(
            make_launcher("local", {"stop_patience_s": patience_s}),
            catch_runs(tmp_path, ["random"]),
            1,
            SESSION,
            [impatient],
        )
    assert jobs[0].state is State.INTERRUPTED
    assert jobs[0].progress == {"env_steps": 7}
    assert "killed before it could write a checkpoint" in jobs[0].error
    assert time.monotonic() - begun < 60


class Lazy:
    """A launcher that forgets its jobs."""

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Any) -> None:
        jobs[0].end(0)


def test_a_job_that_a_launcher_forgets_has_failed(tmp_path: Path) -> None:
    jobs = execute(Lazy(), catch_runs(tmp_path, ["random"], seeds=[0, 1]), 1, SESSION)
    assert [job.state for job in jobs] == [State.FINISHED, State.FAILED]
    assert "left it waiting" in jobs[1].error


def test_a_run_that_cannot_be_started_says_where(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    (job,) = execute(make_launcher(), catch_runs(tmp_path / "out", ["random"]), 1, SESSION)
    assert job.state is State.FAILED
    assert f"cannot start it in {job.log.parent}" in job.error


def test_a_state_is_text() -> None:
    assert f"{State.RUNNING} {State.FAILED!s}" == "running failed"
    assert json.dumps(State.RUNNING) == '"running"'
    assert [state for state in State if state.ended] == [
        State.FINISHED,
        State.INTERRUPTED,
        State.FAILED,
        State.SUBMITTED,
    ]


def test_launchers_are_found_by_name_and_file(tmp_path: Path) -> None:
    assert launcher("local").name == "local"
    assert launcher(EXAMPLE).name == "in_process"
    for name in launcher_names():
        spec = launcher(name)
        assert spec.name == name
        assert spec.doc
        assert name == "ray" or spec.make(spec.Settings())  # which says that it needs Ray, where there is none
    with pytest.raises(UserError, match=r"unknown launcher 'locl'. Did you mean 'local'"):
        launcher("locl")
    taken = tmp_path / "taken.py"
    taken.write_text("from covr_bench.launch.local import LAUNCHER")
    with pytest.raises(UserError, match=r"calls its launcher 'local', and there is another"):
        launcher(str(taken))


MADE = """
from dataclasses import dataclass
from covr_bench.launch.base import LauncherSpec
from covr_bench.track.base import TrackerSpec

@dataclass(frozen=True)
class Settings:
    patience: int = 1

{kind} = {spec}("mine", {settings}, {make}, "For a test.")
"""


@pytest.mark.parametrize(
    ("kind", "spec", "find"), [("LAUNCHER", "LauncherSpec", make_launcher), ("TRACKER", "TrackerSpec", made)]
)
@pytest.mark.parametrize(
    ("settings", "make", "complaint"),
    [
        ("int", "print", r"of .*mine.py cannot be run: its Settings is <class 'int'>, which is no dataclass"),
        ("3", "print", r"of .*mine.py: Settings = 3: Input should be a type"),
        ("Settings", "print", r"er mine makes a NoneType, which has no .*; see covr_bench.*er$"),
        (
            "Settings",
            "lambda own: 1 / 0",
            r"er mine cannot be made: ZeroDivisionError: division by zero \(.*mine.py, line 10",
        ),
        ("Settings", "lambda: 1", r"er mine cannot be made: TypeError: .* 0 positional arguments"),
    ],
)
def test_what_is_no_launcher_or_tracker_is_named(
    kind: str, spec: str, find: Any, settings: str, make: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MADE.format(kind=kind, spec=spec, settings=settings, make=make))
    with pytest.raises(UserError, match=complaint):
        find(str(file) if kind == "LAUNCHER" else [str(file)], {})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"restart": "2"}, r"unknown setting of launcher local 'restart'. Did you mean 'restarts'"),
        ({"restarts": "many"}, r"bad setting of launcher local: restarts = 'many'"),
        ({"restarts": "-1"}, r"bad setting of launcher local: restarts = '-1'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make_launcher("local", settings)


def test_settings_reach_the_launcher(tmp_path: Path) -> None:
    configs = catch_runs(tmp_path, ["random"], seeds=[0, 1])
    jobs = execute(make_launcher(EXAMPLE, {"at_most": "1"}), configs, 1, SESSION)
    assert [job.state for job in jobs] == [State.FINISHED, State.INTERRUPTED]
