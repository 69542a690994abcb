"""Damaged runs under the verbs that act on runs: each is named with what mends it, the others go on, nothing hangs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Result
from experiments import configure
from test_damage import DAMAGES, spoiled

from covr_bench import face
from covr_bench.cli import run as run_verb
from covr_bench.config import registry
from covr_bench.gate.measure import Broken
from covr_bench.gate.references import References
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.remote import publish
from covr_bench.run.checkpoint import Checkpoints, load_saved
from covr_bench.run.plan import State, plan
from results import provenance
from results.holding import read_lease
from results.layout import PROVENANCE_FILE, ROWS_FILE, StoreError
from results.lock import writer_pid
from results.overview import Place, as_dict, view
from results.store import RunWriter, run_folder

COMMAND = ("--suite", "catch", "--budget", "smoke", "--agent", "random", "--task", "catch", "--device", "cpu")
RUNS = [f"catch@smoke/catch/random/{seed}" for seed in range(3)]
BAD = RUNS[1]
NEVER_BEGUN = "gone"  # nothing is damaged where nothing is


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three finished runs, as `COMMAND` asks for."""
    for config in configs(tmp_path / "out"):
        with RunWriter(config.out, config.run_id, action_repeat=2) as writer:
            code = {"config": config.as_dict(), "seeds": {"run": config.seed}, "command": "covr-bench run"}
            provenance.begin(config.out, config.run_id, **code)
            for step in (0, 200, 400):
                writer.write("eval", step, step // 2, {"return": [1.0, 2.0]})
            writer.end()
            provenance.finish(config.out, config.run_id, "finished", wall_s=8.0)
    return tmp_path / "out"


def configs(out: Path) -> list[Any]:
    suite, agents = registry.suite("catch"), {"random": registry.agent("random")}
    return configure(suite, "catch", agents, suite.budgets["smoke"], tasks=["catch"], seeds=range(3), out=str(out))


def damaged(out: Path, damage: str, file: str = PROVENANCE_FILE) -> Path:
    path = run_folder(out, BAD) / file
    DAMAGES[damage](path)
    return path


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != NEVER_BEGUN])
def test_status_shows_a_record_it_cannot_read_as_such(cli: Callable[..., Result], out: Path, damage: str) -> None:
    """It said `waiting`, gave up on the whole store, or waited for ever."""
    path = damaged(out, damage)
    told = json.loads(cli("status", "--out", out, "--json").out)
    assert [run["state"] for run in told["runs"]] == ["done", "unreadable", "done"]
    assert str(path) in told["runs"][1]["problem"]
    shown = cli("status", "--out", out)
    assert shown.code == 0 and f"unreadable  {BAD}" in shown.out and str(path) in shown.out


def test_no_field_of_a_record_breaks_the_overview_or_the_plan(out: Path) -> None:
    record = provenance.read(run_folder(out, BAD) / PROVENANCE_FILE)
    config = configs(out)[1]
    for each in spoiled(record):
        (run_folder(out, BAD) / PROVENANCE_FILE).write_text(json.dumps(each))
        as_dict(view(out, BAD, lambda run_id, holding: False))
        with suppress(UserError):  # it has other settings
            plan([config])


@pytest.mark.parametrize("damage", ["folder", "pipe", "loop", "nul", "deep"])
def test_a_lease_or_a_lock_that_is_no_file_hides_no_run(out: Path, damage: str) -> None:
    folder = run_folder(out, BAD)
    record = provenance.read(folder / PROVENANCE_FILE)
    provenance.write(folder / PROVENANCE_FILE, record | {"status": "running"})
    (folder / "lease.json").write_text("{}")
    for file in ("lease.json", "writer.lock"):
        DAMAGES[damage](folder / file)
    held = read_lease(folder)
    assert held is not None and held.lives() is None
    assert writer_pid(out, BAD) is None
    assert len(provenance.statuses(out)) == 3
    assert view(out, BAD, lambda run_id, holding: True).place is Place.LOST


def test_numbers_beyond_all_machines_make_a_lease_a_damaged_one(out: Path) -> None:
    (run_folder(out, BAD) / "lease.json").write_text('{"token": 1, "owner": "x", "peak_memory": 1' + "0" * 400 + "}")
    held = read_lease(run_folder(out, BAD))
    assert held is not None and (held.token, held.peak_memory) == (0, 0)


def test_cancel_goes_on_past_a_run_that_it_cannot_mark(cli: Callable[..., Result], out: Path) -> None:
    for run_id in RUNS:
        (run_folder(out, run_id) / PROVENANCE_FILE).unlink()
    (run_folder(out, RUNS[0])).rename(out / "aside")
    run_folder(out, RUNS[0]).symlink_to("0")
    told = cli("cancel", *COMMAND[:-2], "--seeds", "0-2", "--out", out)
    assert told.code == 2 and f"{RUNS[0]} is not cancelled" in told.err
    assert "2 of 3 runs cancelled" in told.out
    assert all((run_folder(out, run_id) / "cancel").exists() for run_id in RUNS[1:])


class Heard:
    """A tracker that notes whom it hears of."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def begin(self, run_id: str, *_: object) -> None:
        self.runs.append(run_id)

    def rows(self, *_: object) -> None: ...

    def end(self, *_: object) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    found = Heard()
    monkeypatch.setattr("covr_bench.track.late.made", lambda refs, settings: [("heard", found)])
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [PROVENANCE_FILE, ROWS_FILE])
def test_track_tells_of_the_others_and_names_what_it_cannot_tell(
    cli: Callable[..., Result], out: Path, heard: Heard, file: str, damage: str
) -> None:
    """Rows of a newer version, and none at all, were told of; a record that was no file did not count."""
    path = damaged(out, damage, file)
    told = cli("track", out, "--track", "heard")
    assert str(path) in told.out + told.err
    assert {RUNS[0], RUNS[2]} <= set(heard.runs)
    readable = file == ROWS_FILE and damage == "half"  # a write was cut short: a note
    assert told.code == int(not readable)


def test_a_tracker_that_exits_or_cannot_be_closed_keeps_nothing_from_others(
    cli: Callable[..., Result], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ended with it, once as if all were well."""

    class Leaving(Heard):
        def begin(self, run_id: str, *_: object) -> None:
            raise SystemExit(0)

        def close(self) -> None:
            raise ConnectionError("network is gone")

    other = Heard()
    monkeypatch.setattr("covr_bench.track.late.made", lambda *_: [("leaving", Leaving()), ("other", other)])
    told = cli("track", out, "--track", "leaving", "--track", "other")
    assert told.code == 1
    assert other.runs == list(RUNS)
    assert "leaving: 0 of 3 runs told" in told.out + told.err
    assert "the end is not told to leaving: ConnectionError: network is gone" in told.out + told.err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "half"])
def test_a_policy_whose_rows_are_damaged_is_not_published(out: Path, tmp_path: Path, damage: str) -> None:
    """It ended in a traceback, or blamed the folder it wrote to."""
    path = damaged(out, damage, ROWS_FILE)
    with pytest.raises((UserError, StoreError), match=str(path)):
        publish.policy(run_folder(out, BAD), tmp_path / "policy", "x")
    assert not (tmp_path / "policy").exists()


def test_a_published_store_says_which_finished_runs_have_no_rows(out: Path, tmp_path: Path) -> None:
    damaged(out, "empty", ROWS_FILE)
    with pytest.warns(match=f"run {BAD} is finished and has no rows"):
        publish.store(out, tmp_path / "data", "x")
    assert len((tmp_path / "data" / "provenance.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("damage", ["empty", "gone", "half"])
def test_a_finished_run_without_its_last_rows_is_not_done(
    cli: Callable[..., Result], out: Path, tmp_path: Path, damage: str
) -> None:
    """Only tables told of it: `status` and `run` called it done, and `push` copied the nothing; of rows that a copy
    had cut short `table` alone told, too."""
    path = damaged(out, damage, ROWS_FILE)
    asked = cli("status", "--out", out)
    assert "2 done" in asked.out and "1 unreadable" in asked.out and str(path) in asked.out.replace("\n", "")
    planned = {each.config.run_id: each for each in plan(configs(out)).runs}
    assert [planned[run].state for run in RUNS] == [State.DONE, State.UNREADABLE, State.DONE]
    assert str(path) in planned[BAD].problem
    anew = {each.config.run_id: each for each in plan(configs(out), restart=True).runs}[BAD]
    assert anew.state is State.TO_DO and anew.replaced
    sent = cli("push", f"file://{tmp_path / 'there'}", "--out", out)
    assert sent.code == 1 and str(path) in (sent.out + sent.err).replace("\n", "")
    assert sorted(found.parent.name for found in tmp_path.glob(f"there/runs/*/*/*/*/{ROWS_FILE}")) == ["0", "2"]


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != NEVER_BEGUN])
@pytest.mark.parametrize(
    "verb", [("eval", BAD, RUNS[0]), ("publish", BAD, "--no-video", "--to", "policy"), ("show", BAD)]
)
def test_a_run_whose_record_is_damaged_is_not_an_unknown_one(
    cli: Callable[..., Result], out: Path, verb: tuple[str, ...], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out.parent)
    path = damaged(out, damage)
    told = cli(*verb, "--out", out)
    assert told.code == 2 and str(path) in told.err and "unknown" not in told.err
    if verb[0] == "eval":
        assert f"run {RUNS[0]} has no checkpoint left" in told.err  # the other was tried


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != NEVER_BEGUN])
def test_run_goes_on_without_a_run_whose_record_is_damaged(cli: Callable[..., Result], out: Path, damage: str) -> None:
    """One such record kept every other run from starting."""
    path = damaged(out, damage)
    told = cli("run", *COMMAND, "--seeds", "0-2", "--out", out)
    assert told.code == 1, told.err
    assert f"{BAD} left out: " in told.out and str(path) in told.out and "--restart" in told.out
    assert "2 done" in told.out and "nothing to do: every other run is in" in told.out
    (anew,) = [each for each in plan(configs(out), restart=True).runs if each.state is not State.DONE]
    assert anew.state is State.TO_DO and anew.replaced is not None


def test_the_call_from_python_names_it_too(out: Path) -> None:
    damaged(out, "nul")
    outcome = face.run("catch", agents=["random"], tasks=["catch"], budget="smoke", seeds="0-2", out=out, device="cpu")
    assert list(outcome.failed) == [BAD] and not outcome.plan.todo


def test_a_plan_that_cannot_be_run_keeps_none_after_it_from_running(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = []

    def run_suite(request: Any, console: Any, **options: Any) -> int:
        ran.append(request.suite)
        if len(ran) == 1:
            raise UserError("its store is damaged")
        return 0

    monkeypatch.setattr(run_verb, "run_suite", run_suite)
    told = cli("run", "--paper", "T1,T4", "--out", tmp_path, "--yes")
    assert len(ran) > 1 and told.code == 2
    assert "its store is damaged" in told.out and f"1 of {len(ran)} plans cannot be run here" in told.err


@pytest.mark.parametrize("damage", ["folder", "pipe", "loop"])
def test_rows_that_are_no_file_end_a_run_with_a_message(out: Path, damage: str) -> None:
    """To open a pipe waits for its other end."""
    path = damaged(out, damage, ROWS_FILE)
    with pytest.raises(StoreError, match=str(path)), RunWriter(out, BAD, action_repeat=2):
        pass


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    Checkpoints(tmp_path / "checkpoint").save_final(100, {"agent": {"w": torch.ones(3)}, "env_steps": 100})
    return tmp_path / "checkpoint" / "000000000100-final"


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "newer"])
@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_every_damage_of_a_checkpoint_is_named(checkpoint: Path, file: str, damage: str) -> None:
    DAMAGES[damage](checkpoint / file)
    with pytest.raises(UserError, match=f"the checkpoint {checkpoint} cannot be read"):
        load_saved(checkpoint.parent)


def test_what_a_checkpoint_says_beside_its_tensors_has_a_checksum(checkpoint: Path) -> None:
    path = checkpoint / "state.json"
    path.write_text(path.read_text().replace('"env_steps": 100', '"env_steps": 900'))
    with pytest.raises(UserError, match=r"state\.json does not match its checksum"):
        load_saved(checkpoint.parent)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "seal"}))
    saved = load_saved(checkpoint.parent)  # of a version that wrote none
    assert saved is not None and saved.state["env_steps"] == 900


def test_a_pipe_in_place_of_a_part_of_the_replay_is_named(tmp_path: Path) -> None:
    replay = Replay(8, (9, 4, 4), 2, seed=5)
    replay.start(np.zeros((9, 4, 4), np.uint8))
    checkpoints = Checkpoints(tmp_path / "checkpoint")
    checkpoints.save(1, {"agent": {}}, replay)
    (part,) = (tmp_path / "checkpoint" / "replay").iterdir()
    part.unlink()
    os.mkfifo(part)
    with pytest.raises(UserError, match=f"{part} is no file"):
        checkpoints.load(replay)


@pytest.mark.parametrize("damage", ["deep", "pipe", "nul", "list"])
def test_a_damaged_reference_of_the_gate_is_a_broken_one(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "reference.json").write_text('{"format": 1, "settings": {}, "probed": false}')
    DAMAGES[damage](tmp_path / "a" / "reference.json")
    found = References(tmp_path, {"a": "a"}, {}).get("a")
    assert isinstance(found, Broken) and str(tmp_path / "a") in found.reason


def test_a_cache_that_cannot_be_written_is_a_note(cli: Callable[..., Result], out: Path) -> None:
    """As on a disk that is mounted for reading only: it was a warning with a line of our code."""
    (out / "cache").write_text("")
    told = cli("table", "--out", out)
    assert told.code == 0 and "note: results were read, but the cache in" in told.err
    assert "Warning" not in told.err


@pytest.mark.parametrize("damage", ["empty", "gone"])
def test_a_finished_run_that_lost_its_rows_is_named_whenever_rows_are_read(
    cli: Callable[..., Result], out: Path, damage: str
) -> None:
    DAMAGES[damage](run_folder(out, BAD) / ROWS_FILE)
    for _ in ("parsed", "cached"):
        said = cli("table", "--out", str(out))
        assert said.code == 0
        assert "2 seeds" in said.out
        assert f"note: run {BAD} is left out: it finished, but " in " ".join(said.err.split())
