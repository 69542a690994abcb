"""The store loses nothing, mixes nothing up, and reads what it wrote."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import provenance
from results.batch import to_table
from results.layout import LOCK_FILE, PROVENANCE_FILE, ROWS_FILE, StoreWarning, variant_of
from results.source import read_source
from results.store import RunId, RunWriter, StoreError, read, read_run, run_folder, writer_pid

RUN = "dmc6@paper/cartpole_swingup/drqv2/0"
OTHER = "dmc6@paper/cartpole_swingup/drqv2/1"


def write_run(out: Path, run_id: str = RUN, evaluations: int = 2, **labels: object) -> None:
    with RunWriter(out, run_id, action_repeat=8, labels=labels) as writer:
        for index in range(evaluations):
            writer.write("eval", 8000 * index, 1000 * index, {"return": [float(index), index + 1.0]})


def rows_file(out: Path, run_id: str = RUN) -> Path:
    return run_folder(out, run_id) / "rows.jsonl"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def outcome(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return stdout


# Identity

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}", fullmatch=True)
agents = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+]{0,20}", fullmatch=True)
variants = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), max_size=40)


def test_an_agent_may_change_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a relative folder of results the run failed at its end, and its record went on saying `running`."""
    monkeypatch.chdir(tmp_path)
    with RunWriter("rel", "s@b/t/a/0", action_repeat=1) as writer:
        provenance.begin(writer.out, "s@b/t/a/0", config={}, seeds={}, command="", lease=writer.lease)
        monkeypatch.chdir("/")
        writer.write("eval", 1, 1, {"return": [1.0]})
        writer.end()
        provenance.finish(writer.out, "s@b/t/a/0", "finished", wall_s=1.0, lease=writer.lease)
    assert provenance.is_finished(tmp_path / "rel", "s@b/t/a/0")


@given(st.builds(RunId, names, names, names, agents, variants, st.integers(0, 10**9)))
def test_run_id_reads_back_from_its_text(run_id: RunId) -> None:
    assert RunId.parse(str(run_id)) == run_id


def test_first_dash_splits_off_the_variant() -> None:
    run_id = RunId.parse("dmc-hard@paper/cartpole_swingup/drqv2-batch_size=64,nstep=1-b/3")
    assert (run_id.suite, run_id.agent, run_id.variant, run_id.seed) == (
        "dmc-hard", "drqv2", "batch_size=64,nstep=1-b", 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "dmc6/cartpole/drqv2/0", "dmc6@paper/cartpole/drqv2", "dmc6@paper/cartpole/drqv2/00", "dmc6@paper/../drqv2/0",
     "dmc6@paper/cartpole/drqv2/0/rows", "dmc6@paper/cartpole/drqv2/-1", "dmc6@paper/cartpole/drqv2/0\n",
     "dmc6@paper/cartpole/drqv2-/0"],
)  # fmt: skip
def test_malformed_run_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        RunId.parse(text)


@pytest.mark.parametrize(
    "field", [{"agent": "dr-q"}, {"task": "a/b"}, {"seed": -1}, {"suite": ".."}, {"variant": "v" * 300}]
)
def test_run_id_that_no_folder_can_hold_is_refused(field: dict[str, Any]) -> None:
    valid: dict[str, Any] = {"suite": "s", "budget": "b", "task": "t", "agent": "a"}
    with pytest.raises(ValueError, match=repr(next(iter(field.values())))[1:4]):
        RunId(**(valid | field))


# Writing


numbers = st.floats(width=64)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(numbers, st.lists(numbers, min_size=1, max_size=4), st.text(max_size=20)), min_size=1, max_size=5
    )
)
def test_rows_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, list[float], str]]
) -> None:
    out = tmp_path_factory.mktemp("out")
    with RunWriter(out, RUN, action_repeat=8, labels={"b": 2, "a": "x"}) as writer:
        for step, (number, episodes, text) in enumerate(rows):
            writer.write("eval", 8 * step, step, {"return": episodes, "loss": number}, text=text)
    for frame in (read(out), read(out), read_run(out, RUN)):  # parsed, cached, direct
        assert set(frame["labels"]) == {"a=x,b=2"}
        assert set(frame["action_repeat"]) == {8}
        for step, (number, episodes, text) in enumerate(rows):
            at = frame[frame["env_steps"] == 8 * step].set_index("metric")
            assert at.loc["loss", "value"] == pytest.approx(number, rel=0, abs=0, nan_ok=True)
            assert list(at.loc["return", "episodes"]) == pytest.approx(episodes, rel=0, abs=0, nan_ok=True)
            mean = sum(episodes) / len(episodes)
            assert at.loc["return", "value"] == pytest.approx(mean, rel=1e-12, nan_ok=True)
            assert at.loc["return", "text"] == text.encode("utf-8", "backslashreplace").decode()
            assert at.loc["return", "agent_steps"] == step


def test_lines_are_strict_json(tmp_path: Path) -> None:
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("train", 0, 0, {"a": math.nan, "b": math.inf, "c": [-math.inf, 1.0]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    values = [json.loads(line, parse_constant=refuse)["value"] for line in rows_file(tmp_path).read_text().splitlines()]
    assert values == ["nan", "inf", "-inf"]


@pytest.mark.parametrize("value", [[], [[1.0]]])
def test_metric_that_is_no_number_is_refused_before_anything_is_written(tmp_path: Path, value: Any) -> None:
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        with pytest.raises(ValueError, match="loss"):
            writer.write("train", 0, 0, {"ok": 1.0, "loss": value})
        with pytest.raises(ValueError, match="valid: eval"):
            writer.write("evaluation", 0, 0, {"return": 1.0})
    assert rows_file(tmp_path).read_bytes() == b""


def test_label_that_would_be_ambiguous_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a=b"):
        RunWriter(tmp_path, RUN, action_repeat=1, labels={"rendering": "a=b"})


def test_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    code = "import sys; from results.store import RunWriter\nwith RunWriter(*sys.argv[1:], action_repeat=1): pass"
    with RunWriter(tmp_path, RUN, action_repeat=1):
        assert writer_pid(tmp_path, RUN) == os.getpid()
        process = start(code, tmp_path, RUN)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"run {RUN} is being written by process {os.getpid()}" in stderr
    assert writer_pid(tmp_path, RUN) is None
    outcome(start(code, tmp_path, RUN))


def test_processes_appending_to_one_file_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from results.writer import append\n"
        "file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "for i in range(2000): append(file, f'{sys.argv[2]} {i} {\"x\" * (i % 300)}\\n'.encode())"
    )
    for process in [start(code, tmp_path / "rows", name) for name in "ab"]:
        outcome(process)
    expected = {f"{name} {i} {'x' * (i % 300)}" for name in "ab" for i in range(2000)}
    lines = (tmp_path / "rows").read_text().splitlines()
    assert len(lines) == 4000
    assert set(lines) == expected


def test_processes_writing_different_runs_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from results.store import RunWriter\n"
        "with RunWriter(sys.argv[1], sys.argv[2], action_repeat=2) as writer:\n"
        "    for i in range(100): writer.write('train', 2 * i, i, {'loss': i, 'q': [i, i]})"
    )
    runs = [f"dmc6@paper/cartpole/sac/{seed}" for seed in range(3)]
    for process in [start(code, tmp_path, run) for run in runs]:
        outcome(process)
    frame = read(tmp_path)
    assert frame.groupby("run_id", observed=True).size().to_dict() == dict.fromkeys(runs, 200)


def test_killed_writer_loses_no_row_it_had_written(tmp_path: Path) -> None:
    code = (
        "import sys; from results.store import RunWriter\n"
        "with RunWriter(sys.argv[1], sys.argv[2], action_repeat=1) as writer:\n"
        "    for i in range(10**9):\n"
        "        writer.write('train', i, i, {'loss': [i] * 500, 'text': i}); print(i, flush=True)"
    )
    process = start(code, tmp_path, RUN)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 49 + len(process.communicate(timeout=60)[0].splitlines())
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:  # the lock went with the process
        writer.write("train", 10**9, 10**9, {"loss": 0.0})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kill may have torn a line
        losses = read_run(tmp_path, RUN).query("metric == 'loss'")["env_steps"].tolist()
    assert losses[: acknowledged + 1] == list(range(acknowledged + 1))
    assert losses[-1] == 10**9


def test_half_written_line_is_kept_apart_and_reported(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=2)
    with rows_file(tmp_path).open("ab") as file:
        file.write(b'{"schema":1,"kind":"eval","env_st')
    with RunWriter(tmp_path, RUN, action_repeat=8) as writer:
        writer.write("eval", 16000, 2000, {"return": 5.0})
    for _ in ("parsed", "cached"):
        with pytest.warns(UserWarning, match=r"rows\.jsonl: skipped 1 unreadable line, the first is line 3") as caught:
            frame = read(tmp_path)
        assert len(caught) == 1
        assert frame["value"].tolist() == [0.5, 1.5, 5.0]


@pytest.mark.parametrize(
    "line",
    [b"\0\0\0", b"[]", b"3", b"{}", b"[" * 100_000, b'{"schema":1,"kind":"eval"}', b"\xff",
     b'{"schema":1,"kind":"eval","env_steps":1e400,"agent_steps":0,"action_repeat":1,"metric":"m","value":1,'
     b'"wall_s":0,"time":0}',
     b'{"schema":1,"kind":"eval","env_steps":1,"agent_steps":0,"action_repeat":1,"metric":"m","value":"high",'
     b'"wall_s":0,"time":0}'],
)  # fmt: skip
def test_damaged_line_hides_no_other(tmp_path: Path, line: bytes) -> None:
    write_run(tmp_path, evaluations=1)
    with rows_file(tmp_path).open("ab") as file:
        file.write(line + b"\n")
    write_run(tmp_path, evaluations=2)
    with pytest.warns(UserWarning, match="line 2"):
        assert read(tmp_path, compact=False)["value"].tolist() == [0.5, 0.5, 1.5]


def test_a_folder_of_a_seed_beyond_64_bits_hides_no_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    shutil.copytree(run_folder(tmp_path, RUN), run_folder(tmp_path, RUN).with_name("9" * 20))
    with pytest.warns(StoreWarning, match=r"drqv2/9+ is ignored"):
        assert set(read(tmp_path)["run_id"]) == {RUN}


WHOLE_LINE = {
    "schema": 1, "kind": "eval", "env_steps": 1, "agent_steps": 1, "action_repeat": 1, "metric": "m", "value": 1.0,
    "episodes": [1.0], "text": "t", "labels": {"vlm": "tiny"}, "wall_s": 0.0, "time": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("field", WHOLE_LINE)
def test_no_field_of_a_line_can_hide_the_other_lines(tmp_path: Path, field: str) -> None:
    write_run(tmp_path, evaluations=1)
    odd = (None, True, -1, 1.5, 2**63, 10**400, "x", "\0", ["x"], [[1]], {"x": {}}, {"x": "y"})
    with rows_file(tmp_path).open("a") as file:
        file.writelines(json.dumps(WHOLE_LINE | {field: value}) + "\n" for value in odd)
    write_run(tmp_path, evaluations=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = read(tmp_path, compact=False)
    returns = frame[frame["metric"] == "return"]
    assert returns["value"].tolist() == [0.5, 0.5, 1.5]
    unreadable = sum(int(number) for each in caught for number in re.findall(r"skipped (\d+)", str(each.message)))
    assert len(frame) + unreadable == len(returns) + len(odd)
    assert unreadable >= 5


def test_full_disk_says_so_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write, calls = os.write, 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data[:10])

    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("eval", 0, 0, {"return": 1.0})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StoreError, match=r"No space left.*are kept.*run the same"):
                writer.write("eval", 1, 1, {"return": 2.0})
        writer.write("eval", 1, 1, {"return": 3.0})
    with pytest.warns(UserWarning, match="line 2"):
        assert read(tmp_path)["value"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("kind", "durable"), [("eval", True), ("vlm", True), ("error", True), ("end", True), ("episode", False)]
)
def test_rows_that_cannot_be_measured_again_cheaply_are_on_the_disk_when_written(
    kind: str, durable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after `write` returns takes none of them; episodes, which are many, are left to the system."""
    synced: list[bytes] = []
    sync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).read_bytes())
        sync(descriptor)

    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        monkeypatch.setattr(os, "fsync", spy)
        writer.write(kind, 7, 7, {"return": 1.0})
        file = run_folder(tmp_path, RUN) / "rows.jsonl"
        assert synced == ([file.read_bytes()] if durable else [])
        assert b'"env_steps": 7' in file.read_bytes()


def test_a_record_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a failing rename leaves the one before, and no litter."""
    path = tmp_path / "provenance.json"
    provenance.write(path, {"schema": 1, "n": 1})
    done: list[str] = []
    sync, rename = os.fsync, os.replace

    def spy(descriptor: int) -> None:
        assert b'"n": 2' in Path(os.readlink(f"/proc/self/fd/{descriptor}")).read_bytes()
        done.append("fsync")
        sync(descriptor)

    def failing(source: Any, target: Any) -> None:
        done.append("rename")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(StoreError, match="Input/output error"):
        provenance.write(path, {"schema": 1, "n": 2})
    assert done == ["fsync", "rename"]
    assert json.loads(path.read_text())["n"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["provenance.json"]
    monkeypatch.setattr(os, "replace", rename)
    provenance.write(path, {"schema": 1, "n": 2})
    assert json.loads(path.read_text())["n"] == 2


def test_rows_that_a_failed_sync_may_have_lost_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says once that pages are lost, and of the next sync that all is well."""
    sync, failures = os.fsync, [errno.EIO]
    with RunWriter(tmp_path, RUN, action_repeat=2) as writer:
        writer.write("eval", 0, 0, {"return": [1.0]})
        kept = rows_file(tmp_path).stat().st_size
        writer.write("episode", 100, 50, {"return": 2.0})
        writer.write("episode", 200, 100, {"return": 3.0})

        def lossy(descriptor: int) -> None:
            if failures and os.readlink(f"/proc/self/fd/{descriptor}").endswith("rows.jsonl"):
                with rows_file(tmp_path).open("r+b") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(kept)
                    file.write(b"\0" * (size - kept))  # what the disk would hold
                raise OSError(failures.pop(), "Input/output error")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", lossy)
        writer.sync()
        writer.write("episode", 300, 150, {"return": 4.0})
    assert read_run(tmp_path, RUN)["value"].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError, match=r"runs/dmc6@paper.*Not a directory"):
        RunWriter(tmp_path, RUN, action_repeat=1).__enter__()


def test_an_error_before_a_sessions_first_row_stands_where_the_one_before_stopped(tmp_path: Path) -> None:
    write_run(tmp_path)
    with RunWriter(tmp_path, RUN, action_repeat=8) as writer:
        writer.error("no such device")
    error = read_run(tmp_path, RUN).query("kind == 'error'")
    assert error[["env_steps", "agent_steps"]].to_numpy().tolist() == [[8000, 1000]]


def test_wall_time_adds_up_over_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    for _ in range(2):
        with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
            clock += 7.0
            writer.write("train", 1, 1, {"loss": 0.0})
        clock += 1000.0  # between sessions
    assert read(tmp_path, compact=False)["wall_s"].tolist() == [7.0, 14.0]


# What counts


def test_resume_voids_what_the_lost_session_wrote_beyond_it(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=4)
    with RunWriter(tmp_path, RUN, action_repeat=8) as writer:
        writer.error("killed")
        writer.resume(8000, 1000)
        writer.write("eval", 16000, 2000, {"return": 50.0})
        writer.end()
    frame = read(tmp_path)
    assert frame["kind"].tolist() == ["eval", "eval", "resume", "eval", "end"]
    assert frame["env_steps"].tolist() == [0, 8000, 8000, 16000, 16000]
    assert frame["agent_steps"].tolist()[2] == 1000
    everything = read(tmp_path, compact=False)
    assert len(everything) == 8
    assert "killed" in everything["text"].tolist()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["eval", "train", "resume"]), st.integers(0, 4), st.sampled_from("ab")), max_size=12
    )
)
def test_compaction_equals_replaying_the_file(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str]]
) -> None:
    out = tmp_path_factory.mktemp("out")
    expected: list[tuple[str, int, str, float]] = []
    with RunWriter(out, RUN, action_repeat=1) as writer:
        for number, (kind, env_steps, metric) in enumerate(events):
            writer.write(kind, env_steps, env_steps, {metric: float(number)})
            if kind == "resume":
                expected = [row for row in expected if row[1] <= env_steps]
            expected = [row for row in expected if row[:3] != (kind, env_steps, metric)]
            expected.append((kind, env_steps, metric, float(number)))
    frame = read_run(out, RUN)
    assert list(frame[["kind", "env_steps", "metric", "value"]].itertuples(index=False, name=None)) == expected


def test_rows_of_a_newer_version_are_not_guessed_at(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=1)
    path = rows_file(tmp_path)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(StoreError, match=r"rows\.jsonl.*schema 99.*upgrade"):
        read_run(tmp_path, RUN)
    other = "dmc6@paper/cartpole_swingup/sac/0"
    write_run(tmp_path, other)
    for _ in range(2):  # the second time from the cache
        with pytest.warns(StoreWarning, match=r"drqv2/0 is left out.*schema 99.*upgrade"):
            assert set(read(tmp_path)["run_id"]) == {other}


def test_what_lies_among_the_folders_and_is_none_is_named(tmp_path: Path) -> None:
    """A run on a disk that is not mounted counts as one that is missing, and is said to be."""
    write_run(tmp_path, evaluations=1)
    folder = tmp_path / "runs" / "dmc6@paper" / "cartpole_swingup" / "drqv2"
    (folder / "1").symlink_to(tmp_path / "unmounted")
    (folder / "2").write_text("")
    (folder / ".DS_Store").write_text("")
    with pytest.warns(StoreWarning) as said:
        assert read(tmp_path)["run_id"].nunique() == 1
    texts = sorted({str(each.message) for each in said})
    assert texts == [f"{folder}/1 is left out: a link to nowhere", f"{folder}/2 is left out: no folder"]


# Many runs, and the cache


def test_runs_come_in_order_with_their_parts(tmp_path: Path) -> None:
    for run_id in ("dmc6@paper/walker/sac/10", "dmc6@paper/walker/sac/9", "catch@quick/catch/covr-k=1/0"):
        write_run(tmp_path, run_id, evaluations=1)
    frame = read(tmp_path)
    columns = ["suite", "budget", "task", "agent", "variant", "seed"]
    assert frame[columns].to_numpy().tolist() == [
        ["catch", "quick", "catch", "covr", "k=1", 0],
        ["dmc6", "paper", "walker", "sac", "", 9],
        ["dmc6", "paper", "walker", "sac", "", 10],
    ]


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_ended_before_its_first_row_is_named(tmp_path: Path, status: str) -> None:
    """Tables said `over 2 seeds` of three that began, and nothing of the third."""
    write_run(tmp_path)
    config = {"suite": "dmc6", "task": "cartpole_swingup", "agent": "drqv2", "seed": 1, "env_steps": 8000}
    with RunWriter(tmp_path, OTHER, action_repeat=8) as writer:
        provenance.begin(tmp_path, OTHER, config=config, seeds={}, command="", lease=writer.lease)
        with warnings.catch_warnings():  # a run that is being written now may have none yet
            warnings.simplefilter("error")
            read(tmp_path)
    if status == "failed":
        provenance.finish(tmp_path, OTHER, status, wall_s=1.0)
    for _ in ("parsed", "cached"):
        with pytest.warns(StoreWarning, match=rf"{re.escape(OTHER)} has no row yet \({status}\)"):
            assert list(read(tmp_path)["run_id"].unique()) == [RUN]


def test_no_folder_is_an_error_and_no_runs_an_empty_table(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results folder"):
        read(tmp_path / "reslts")
    write_run(tmp_path / "full", evaluations=1)
    (tmp_path / "empty").mkdir()
    empty = read(tmp_path / "empty")
    assert len(empty) == 0
    assert empty.dtypes.astype(str).to_dict() == read(tmp_path / "full").dtypes.astype(str).to_dict()
    with pytest.raises(StoreError, match=RUN):
        read_run(tmp_path / "empty", RUN)


def test_folder_that_is_no_run_is_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=1)
    stray = tmp_path / "runs" / "dmc6" / "cartpole" / "sac" / "0"
    stray.mkdir(parents=True)
    (stray / "rows.jsonl").write_text("")
    with pytest.warns(UserWarning, match="runs/dmc6/cartpole/sac/0 is ignored"):
        assert len(read(tmp_path)) == 1


def test_only_changed_runs_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [f"dmc6@paper/cartpole/sac/{seed}" for seed in range(4)]
    for run_id in runs:
        write_run(tmp_path, run_id)
    read(tmp_path)
    parsed = []

    def spy(out: Any, sources: Any) -> Any:
        parsed.extend(source.run_id for source in sources)
        return to_table(out, sources)

    monkeypatch.setattr("results.batch.to_table", spy)
    read(tmp_path)
    assert parsed == []
    with RunWriter(tmp_path, runs[1], action_repeat=8) as writer:
        writer.write("eval", 99, 9, {"return": 7.0})
    rows_file(tmp_path, runs[2]).unlink()
    write_run(tmp_path, "catch@quick/catch/sac/0", evaluations=1)
    frame = read(tmp_path)
    assert parsed == ["catch@quick/catch/sac/0", runs[1]]
    assert frame["run_id"].tolist() == ["catch@quick/catch/sac/0", *[runs[0]] * 2, *[runs[1]] * 3, *[runs[3]] * 2]
    (tmp_path / "cache" / "manifest.parquet").unlink()
    pd.testing.assert_frame_equal(read(tmp_path), frame, check_categorical=False)


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize("file", ["rows.parquet", "manifest.parquet", "seal"])
@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 500, flip]
)
def test_damaged_cache_is_rebuilt(tmp_path: Path, file: str, damage: Any) -> None:
    write_run(tmp_path, evaluations=50)
    frame = read(tmp_path)
    path = tmp_path / "cache" / file
    path.write_bytes(damage(path.read_bytes()))
    pd.testing.assert_frame_equal(read(tmp_path), frame)


def test_cache_files_of_different_rebuilds_are_not_combined(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=2)
    read(tmp_path)
    old_rows = (tmp_path / "cache" / "rows.parquet").read_bytes()
    rows_file(tmp_path).unlink()
    write_run(tmp_path, "catch@quick/catch/sac/0", evaluations=2)  # as many rows as before
    read(tmp_path)
    (tmp_path / "cache" / "rows.parquet").write_bytes(old_rows)
    assert set(read(tmp_path)["suite"]) == {"catch"}


def test_a_cache_with_other_numbers_is_not_believed(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=5)
    frame = read(tmp_path)
    rows = pq.read_table(tmp_path / "cache" / "rows.parquet")
    index = rows.schema.get_field_index("value")
    pq.write_table(
        rows.set_column(index, rows.schema.field(index), pa.array([-1.0] * len(rows))),
        tmp_path / "cache" / "rows.parquet",
    )
    pd.testing.assert_frame_equal(read(tmp_path), frame)


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=2)
    read(tmp_path)
    path = rows_file(tmp_path)
    stat = path.stat()
    path.write_text(path.read_text().replace('"value": 1.5', '"value": 9.5'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert read(tmp_path)["value"].tolist() == [0.5, 9.5]


def test_files_that_have_settled_are_not_read_until_something_touches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, evaluations=2)
    write_run(tmp_path, "catch@quick/catch/sac/0", evaluations=2)
    hashed = []

    def spy(out: Any, run_id: str) -> Any:
        hashed.append(run_id)
        return read_source(out, run_id)

    monkeypatch.setattr("results.cache.read_source", spy)
    monkeypatch.setattr("results.batch.read_source", spy)
    read(tmp_path)
    monkeypatch.setattr("results.source.SETTLED_S", 0.0)
    before = read(tmp_path)  # written a moment ago: hashed once more, then believed
    hashed.clear()
    pd.testing.assert_frame_equal(read(tmp_path), before)
    assert hashed == []
    path = rows_file(tmp_path)
    stat = path.stat()
    time.sleep(0.05)  # a tick of the file system's clock
    path.write_text(path.read_text().replace('"value": 1.5', '"value": 9.5'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed = read(tmp_path)
    assert set(hashed) == {str(RUN)} and 9.5 in changed["value"].tolist()
    write_run(tmp_path, "catch@quick/catch/rad/0", evaluations=1)
    hashed.clear()
    assert len(read(tmp_path)) == len(before) + 1
    assert hashed == ["catch@quick/catch/rad/0"]


def test_some_columns_are_those_of_all_from_the_cache_and_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.source.SETTLED_S", 0.0)
    columns = ["value", "run_id", "metric"]
    for seed in range(2):  # nothing cached, then a run less than there is
        write_run(tmp_path, f"dmc6@paper/cartpole/sac/{seed}")
        some = read(tmp_path, columns=columns)
        cached = {file.name: file.read_bytes() for file in (tmp_path / "cache").iterdir()}
        assert some.columns.tolist() == columns
        for frame in (read(tmp_path, columns=columns), read(tmp_path)[columns]):
            pd.testing.assert_frame_equal(frame, some)
        assert {file.name: file.read_bytes() for file in (tmp_path / "cache").iterdir()} == cached


def test_reading_needs_no_cache_folder(tmp_path: Path) -> None:
    write_run(tmp_path, evaluations=2)
    (tmp_path / "cache").write_text("in the way")
    with pytest.warns(UserWarning, match="cache .* cannot be written"):
        assert len(read(tmp_path)) == 2


def test_concurrent_rebuilds_agree(tmp_path: Path) -> None:
    for seed in range(30):
        write_run(tmp_path, f"dmc6@paper/cartpole/sac/{seed}", evaluations=5)
    code = "import sys; from results.store import read\nfor _ in range(3): print(len(read(sys.argv[1])))"
    for process in [start(code, tmp_path) for _ in range(3)]:
        assert outcome(process).split() == ["150"] * 3
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["manifest.parquet", "rows.parquet", "seal"]


def test_writing_needs_no_table_library() -> None:
    code = "import sys, results.store, results.provenance; print(*{'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    assert outcome(start(code)).strip() == ""


def test_settings_of_up_to_sixty_characters_are_the_variants_name() -> None:
    """What runs are called must not move: a name of 60 characters would become another run's."""
    fits = "9" * (60 - len("a="))
    assert variant_of({"a": fits}) == f"a={fits}"
    assert re.fullmatch(r"set-[0-9a-f]{8}", variant_of({"a": fits + "9"}))
    assert variant_of({"b": 1, "a": 2}) == "a=2,b=1"
    assert variant_of({"a": "x y"}).startswith("set-")
    assert variant_of({}) == ""


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o027, 0o640), (0o077, 0o600)])
def test_files_of_a_run_are_as_open_as_the_user_wants(tmp_path: Path, umask: int, mode: int) -> None:
    """They were 644 whatever the umask: a group could not go on with each other's runs, and strangers could read."""
    before = os.umask(umask)
    try:
        with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
            provenance.begin(tmp_path, RUN, config={}, seeds={}, command="")
            writer.write("eval", 0, 0, {"return": 1.0})
        provenance.finish(tmp_path, RUN, "finished", wall_s=1.0)
    finally:
        os.umask(before)
    files = {path.name: path.stat().st_mode & 0o777 for path in run_folder(tmp_path, RUN).iterdir()}
    assert files == dict.fromkeys(files, mode)
    assert {ROWS_FILE, PROVENANCE_FILE, LOCK_FILE} <= set(files)
