"""Trackers: what every one of them hears and in which order, and that none can stop a run."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_launch import EXAMPLE as IN_PROCESS
from test_launch import SESSION, catch_runs

from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job, State
from covr_bench.launch.execute import execute
from covr_bench.launch.find import make_launcher
from covr_bench.track import trackers as track
from covr_bench.track.base import facts_of, lasting_name
from covr_bench.track.follow import MEASURED, Rows
from covr_bench.track.line import Line
from covr_bench.track.trackers import Trackers, make_trackers, tracker, tracker_names
from results import provenance
from results.layout import PROVENANCE_FILE
from results.store import RunWriter, read_run, run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from covr_bench.config.run_config import RunConfig

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "tracker_plugin.py")


class Heard:
    """Keeps what it hears; raises at the hook it is given."""

    def __init__(self, fails_at: str = "") -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails_at = fails_at

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.note("begin", (run_id, config, facts))

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.note("rows", list(rows))

    def end(self, run_id: str, status: str) -> None:
        self.note("end", status)

    def close(self) -> None:
        self.note("close", None)

    def note(self, hook: str, value: Any) -> None:
        self.calls.append((hook, value))
        if hook == self.fails_at:
            raise OSError(f"no network in {hook}")

    @property
    def hooks(self) -> list[str]:
        return [hook for hook, _ in self.calls]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [row for hook, rows in self.calls if hook == "rows" for row in rows]


def watched(configs: Sequence[RunConfig], trackers: Trackers) -> list[Job]:
    with trackers:
        return execute(make_launcher(IN_PROCESS), configs, 1, SESSION, [trackers.watch])


def line_of(tracker: Heard, said: list[str] | None = None) -> Trackers:
    return Trackers([Line("heard", tracker)], (said if said is not None else []).append)


def steps(out: Path, run_id: str, kind: str, metric: str) -> list[int]:
    rows = read_run(out, run_id).query(f"kind == {kind!r} and metric == {metric!r}")
    return rows["env_steps"].tolist()  # type: ignore[no-any-return]


def test_a_tracker_hears_every_row_once_between_begin_and_end(tmp_path: Path) -> None:
    (config,) = catch_runs(tmp_path, ["random"])
    heard = Heard()
    (job,) = watched([config], line_of(heard))
    assert job.state is State.FINISHED
    assert heard.hooks[0] == "begin"
    assert heard.hooks[-2:] == ["end", "close"]
    assert heard.calls[-2][1] == "finished"
    run_id, told, facts = heard.calls[0][1]
    assert run_id == config.run_id
    assert told == config.as_dict()
    assert facts["seen"] == "before the start"
    lines = (run_folder(tmp_path, config.run_id) / "rows.jsonl").read_text().splitlines()
    assert heard.told == [json.loads(line) for line in lines]


@pytest.mark.parametrize("hook", ["begin", "rows", "end", "close"])
def test_a_tracker_that_fails_is_told_once_and_stops_no_run(hook: str, tmp_path: Path) -> None:
    configs = catch_runs(tmp_path, ["random"], env_steps=20, seeds=[0, 1])
    failing, other, said = Heard(hook), Heard(), []
    trackers = Trackers([Line("failing", failing), Line("other", other)], said.append)
    jobs = watched(configs, trackers)
    assert [job.state for job in jobs] == [State.FINISHED, State.FINISHED]
    assert said == [f"tracker failing failed and is silent from now on; the runs go on: OSError: no network in {hook}"]
    assert failing.hooks.count(hook) == 1
    assert failing.hooks[-1] == "close"
    assert other.hooks.count("end") == 2


def test_a_tracker_that_ends_its_thread_is_told_of(tmp_path: Path) -> None:
    class Exits:
        def begin(self, *told: Any) -> None:
            sys.exit("no licence")

        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    line = Line("mine", cast("Any", Exits()))
    line.tell("begin", "run")
    assert line.close(10.0)
    assert (line.failure, closed) == ("SystemExit: no licence", [True])


def test_a_tracker_that_hangs_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "CLOSE_PATIENCE_S", 0.05)
    let_go = threading.Event()

    class Hangs(Heard):
        def begin(self, *arguments: Any) -> None:
            let_go.wait()

    said: list[str] = []
    (job,) = watched(catch_runs(tmp_path, ["random"], env_steps=20), line_of(Hangs(), said))
    let_go.set()
    assert job.state is State.FINISHED
    assert said == ["tracker heard is left behind: it had not heard all after 0.05 s"]


def test_a_failed_run_ends_as_failed_also_before_its_first_row(tmp_path: Path) -> None:
    (config,) = catch_runs(tmp_path, ["random"])
    (tmp_path / "runs").write_text("a file where the runs should be")
    heard = Heard()
    trackers = line_of(heard)
    with trackers:
        execute(make_launcher(), [config], 1, SESSION, [trackers.watch])
    assert heard.hooks == ["begin", "end", "close"]
    assert heard.calls[0][1] == (config.run_id, config.as_dict(), {})
    assert heard.calls[1][1] == "failed"


RUN = "catch@tried/catch/random/0"


def file_of(out: Path) -> Path:
    return run_folder(out, RUN) / "rows.jsonl"


def brief(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(row["kind"], row["env_steps"]) for row in rows]


def test_a_run_that_goes_on_repeats_nothing(tmp_path: Path) -> None:
    """Its checkpoint is older than its newest rows: it measures some steps again."""
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        for step in (0, 50, 100):
            writer.write("eval", step, step, {"return": 1.0})
        writer.write("episode", 110, 110, {"return": 1.0})
        writer.error("killed")
    rows = Rows(file_of(tmp_path))  # of a new command
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.resume(60, 60)
        for step in (80, 110, 140):
            writer.write("episode", step, step, {"return": 1.0})
        assert brief(rows.new()) == [("resume", 60), ("episode", 140)]
        writer.write("eval", 100, 100, {"return": 1.0, "success": 0.5})
        assert [row["metric"] for row in rows.new()] == ["success"]
        writer.error("killed")
        writer.resume(120, 120)  # in the same command
        writer.write("episode", 140, 140, {"return": 1.0})
        writer.write("episode", 170, 170, {"return": 1.0})
        writer.error("killed")
    assert brief(rows.new()) == [("error", 100), ("resume", 120), ("episode", 170), ("error", 170)]
    assert rows.new() == []


def test_two_lost_episodes_at_one_step_are_two_rows(tmp_path: Path) -> None:
    rows = Rows(file_of(tmp_path))
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("episode", 10, 10, {"lost": 1.0})
        writer.write("episode", 10, 10, {"lost": 1.0})
    assert len(rows.new()) == 2


def test_half_a_line_is_told_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = Rows(file)
    assert rows.new() == []
    whole = json.dumps({"kind": "eval", "metric": "return", "env_steps": 0, "value": 1.0}).encode()
    file.write_bytes(whole[:20])
    assert rows.new() == []
    file.write_bytes(whole + b"\n" + whole[:9] + b"\n" + b'[1]\n"x"\n{"kind": 3}\n' + whole.replace(b"0", b"5") + b"\n")
    assert brief(rows.new()) == [("eval", 0), ("eval", 5)]


def every_tracker() -> list[str]:
    return [*tracker_names(), EXAMPLE]


@pytest.mark.parametrize("ref", every_tracker())
def test_every_tracker_goes_with_runs_that_end_and_go_on(
    ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run that finishes, one that fails, and a second command that finds them."""
    if ref != EXAMPLE:
        pytest.importorskip(ref, reason=f"needs covr-bench[{ref}]")
    monkeypatch.setattr(track, "CLOSE_PATIENCE_S", 120.0)  # the first start of a database, on a busy machine
    monkeypatch.chdir(tmp_path)
    configs = catch_runs(tmp_path, ["random"], env_steps=20, seeds=[0, 1])
    run_folder(tmp_path, configs[1].run_id).parent.mkdir(parents=True)
    blocked = run_folder(tmp_path, configs[1].run_id)
    blocked.write_text("a file where the run's folder should be")
    said: list[str] = []
    jobs = watched(configs, make_trackers([ref], {}, said.append))
    assert [job.state for job in jobs] == [State.FINISHED, State.FAILED]
    blocked.unlink()
    (job,) = watched(configs[1:], make_trackers([ref], {}, said.append))
    assert job.state is State.FINISHED
    assert said == []


def test_tensorboard_gets_the_rows_as_scalars(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (config,) = catch_runs(tmp_path, ["random"])
    watched([config], make_trackers(["tensorboard"], {"tensorboard.folder": str(tmp_path / "events")}, print))
    (folder,) = (tmp_path / "events" / config.run_id).iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    stored = read_run(tmp_path, config.run_id).query("kind in @MEASURED", local_dict={"MEASURED": list(MEASURED)})
    assert set(events.Tags()["scalars"]) == {f"{row.kind}/{row.metric}" for row in stored.itertuples()}
    written = [(event.step, event.value) for event in events.Scalars("eval/return")]
    wanted = stored.query("kind == 'eval' and metric == 'return'")
    assert written == list(zip(wanted["env_steps"], wanted["value"].astype("float32"), strict=True))
    assert json.loads(text_of(events, "config"))["run_id"] == config.run_id
    assert "packages" in json.loads(text_of(events, "facts"))
    assert text_of(events, "status", fence="") == "finished"


def test_tensorboard_has_the_time_at_which_a_row_was_measured(tmp_path: Path) -> None:
    """`covr-bench track` tells it long after."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    spec = tracker("tensorboard")
    board = spec.make(spec.Settings(folder=str(tmp_path)))
    board.begin(RUN, {}, {})
    board.rows(RUN, [{"kind": "eval", "metric": "return", "value": 1.0, "env_steps": 40, "time": 1.5e9}])
    board.end(RUN, "finished")
    events = EventAccumulator(str(tmp_path / RUN))
    events.Reload()
    assert [event.wall_time for event in events.Scalars("eval/return")] == [1.5e9]


def test_a_run_that_begins_anew_is_another_in_a_service(tmp_path: Path) -> None:
    """Its rows were added to the old one's curve; so were those of an equal run on another machine."""
    (config,) = catch_runs(tmp_path, ["random"])
    heard = Heard()
    names = []
    for began in ("2026-11-28T07:43:56+00:00", "2026-11-28T07:43:56+00:00", "2026-12-01T10:00:00+00:00"):
        record = {"environment": {"cpu": "some"}, "sessions": [{"started": began}, {"started": "2027-01-01T00:00:00"}]}
        names.append(lasting_name(config.run_id, facts_of(record)))
    assert names[0] == names[1] == f"{config.run_id}/20261128-074356" != names[2]
    watched([config], line_of(heard))
    facts = heard.calls[0][1][2]
    recorded = provenance.read(run_folder(tmp_path, config.run_id) / PROVENANCE_FILE)
    assert facts["began"] == recorded["sessions"][0]["started"]
    assert lasting_name(config.run_id, {}) == config.run_id  # it failed before its first step


def text_of(events: Any, name: str, fence: str = "```") -> str:
    (event,) = events.Tensors(f"{name}/text_summary")
    return str(event.tensor_proto.string_val[0].decode().strip().strip(fence or None))


def test_the_example_keeps_the_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (config,) = catch_runs(tmp_path, ["random"])
    watched([config], make_trackers([EXAMPLE], {"evaluations.file": "mine.jsonl"}, print))
    lines = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
    assert lines[0]["begins"] == 60
    assert [line["env_steps"] for line in lines if "return" in line] == [0, 60]
    assert lines[-1] == {"run": config.run_id, "ends": "finished"}


@pytest.mark.parametrize(
    ("refs", "settings", "complaint"),
    [
        (["tensorbord"], {}, r"unknown tracker 'tensorbord'. Did you mean 'tensorboard'"),
        (["tensorboard", "tensorboard"], {}, r"'tensorboard' is named twice"),
        (["tensorboard"], {"tensorboard.dir": "x"}, r"unknown setting of tracker tensorboard 'dir'.* Valid: folder"),
        (["tensorboard"], {"folder": "x"}, r"unknown setting of a tracker 'folder'.*tensorboard.folder"),
        (["tensorboard"], {"wandb.folder": "x"}, r"unknown setting of a tracker 'wandb.folder'"),
        ([], {"tensorboard.folder": "x"}, r"unknown setting of a tracker .* Valid: none"),
    ],
)
def test_what_is_wrong_with_a_choice_is_said(refs: list[str], settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make_trackers(refs, settings, print)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'covr-bench\[tensorboard\]'"):
        make_trackers(["tensorboard"], {}, print)


def test_names_are_those_of_the_specs() -> None:
    for name in tracker_names():
        assert tracker(name).name == name
        assert tracker(name).doc


def test_a_run_that_is_killed_twice_repeats_nothing(tmp_path: Path) -> None:
    """The second time before it was as far as the first."""
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("episode", 110, 110, {"return": 1.0})
    rows = Rows(file_of(tmp_path))
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        for last in (80, 140):
            writer.resume(60, 60)
            for step in (80, 110, 140):
                if step <= last:
                    writer.write("episode", step, step, {"return": 1.0})
    assert brief(rows.new()) == [("resume", 60), ("resume", 60), ("episode", 140)]


def test_signals_that_a_resumed_run_measures_again_are_told_once(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        rows = Rows(file_of(tmp_path))
        writer.write("signal", 40, 40, {"loss": 1.0})
        first = brief(rows.new())
        writer.resume(20, 20)
        for step in (40, 60):
            writer.write("signal", step, step, {"loss": 1.0})
    assert first == [("signal", 40)] and brief(rows.new()) == [("resume", 20), ("signal", 60)]
