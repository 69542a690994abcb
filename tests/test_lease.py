"""Leases: writers that are frozen, cut off, dead or on other machines, and what becomes of the run."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_launch import SESSION, catch_runs

import results.lease
import results.writer
from covr_bench.run.session import INTERRUPTED
from covr_bench.run.worker import work
from results import provenance
from results.holding import Holding, clock, holding_of_this_process, parsed_lease, read_lease
from results.layout import ROWS_FILE
from results.lease import Lease, LeaseLost, RunHeld
from results.store import RunWriter, StoreError, read_run, run_folder, writer_pid

RUN = "dmc6@paper/cartpole_swingup/drqv2/0"
LENGTH_S = 1.5
PATIENCE_S = 120.0

HEAD = """
import os, shutil, signal, sys, time
import results.writer
from results.store import RunWriter, StoreError
from results.lease import LeaseLost
def freeze(): os.kill(os.getpid(), signal.SIGSTOP)
"""
WRITES = """
with RunWriter(*sys.argv[1:], action_repeat=1) as writer:
    writer.write("train", 0, 0, {"loss": 0.0}); print("written", flush=True)
    for step in range(1, 10**9):
        time.sleep(0.01)
        writer.write("train", step, step, {"late": 1.0})
"""
FREEZES_BEFORE_ITS_NEXT_WRITE = """
with RunWriter(*sys.argv[1:], action_repeat=1) as writer:
    writer.write("train", 0, 0, {"loss": 0.0}); print("written", flush=True)
    append = results.writer.append
    def late(descriptor, data): freeze(); append(descriptor, data)
    results.writer.append = late
    writer.write("train", 1, 1, {"late": 1.0})
    print("written after all", flush=True)
    results.writer.append = append
    time.sleep(2 * float(os.environ["COVR_BENCH_LEASE_S"]))
    writer.write("train", 2, 2, {"late": 1.0})
"""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVR_BENCH_LEASE_S", str(LENGTH_S))


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Python code as a process of its own, killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def call(code: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HEAD + code, *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=os.environ | variables, **pipes))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def heard(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == text, process.communicate()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def metrics(out: Path) -> list[str]:
    return read_run(out, RUN, compact=False)["metric"].tolist()  # type: ignore[no-any-return]


def on_another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From here on this process takes itself for one of another machine, to which the lock says nothing."""
    monkeypatch.setattr("results.holding.this_machine", lambda: "another machine")
    (folder / "writer.lock").unlink(missing_ok=True)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_writer_frozen_over_its_leases_end_stops_at_its_next_write(
    elsewhere: bool, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one machine, where the lock is held all the time, and on two, between which it says nothing."""
    folder = run_folder(tmp_path, RUN)
    frozen = start(WRITES, tmp_path, RUN)
    heard(frozen, "written")
    frozen.send_signal(signal.SIGSTOP)
    wait_for(lambda: state_of(frozen.pid) == "T")
    before = metrics(tmp_path)
    if elsewhere:
        on_another_machine(monkeypatch, folder)
    began = time.monotonic()
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        assert time.monotonic() - began >= LENGTH_S
        writer.resume(0, 0)
        frozen.send_signal(signal.SIGCONT)
        _, stderr = frozen.communicate(timeout=PATIENCE_S)
        assert frozen.returncode == 1
        assert "LeaseLost: run dmc6@paper/cartpole_swingup/drqv2/0 was taken over by another process" in stderr
        time.sleep(LENGTH_S)
        writer.lease.check(look=True)
        writer.write("train", 3, 3, {"new": 1.0})
    assert metrics(tmp_path) == [*before, "resume", "new"]
    assert not (folder / "lease.json").exists()
    assert [path.name for path in folder.glob("*.tmp")] == []
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:  # at once: nothing of either is in the way
        assert writer.lease.token == 3


def test_a_row_that_comes_too_late_for_any_look_lands_in_no_file(start: Any, tmp_path: Path) -> None:
    """Frozen between its look at the lease and its write: nothing can stop the write, so it must not matter."""
    frozen = start(FREEZES_BEFORE_ITS_NEXT_WRITE, tmp_path, RUN)
    heard(frozen, "written")
    wait_for(lambda: state_of(frozen.pid) == "T")
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.resume(0, 0)
        frozen.send_signal(signal.SIGCONT)
        heard(frozen, "written after all")
        _, stderr = frozen.communicate(timeout=PATIENCE_S)
        assert "LeaseLost" in stderr
        writer.write("train", 3, 3, {"new": 1.0})
    assert metrics(tmp_path) == ["loss", "resume", "new"]


CHECKPOINTS = """
import numpy as np
from covr_bench.kit.replay import Replay
from covr_bench.run.checkpoint import Checkpoints
replay = Replay(8, (3, 4, 4), 1, seed=0)
with RunWriter(*sys.argv[1:], action_repeat=1) as writer:
    checkpoints = Checkpoints(writer.folder / "checkpoint", writer)
    checkpoints.save(1, {"n": 1.0}, replay)
    replace, rmtree = os.replace, shutil.rmtree
    def late(of):
        def call(*arguments, **options):
            if str(arguments[0]).endswith("FROZEN"): freeze()
            return of(*arguments, **options)
        return call
    NAME = late(NAME)
    print("written", flush=True)
    checkpoints.save(2, {"n": 2.0}, replay)
"""


@pytest.mark.parametrize(("call", "of"), [("os.replace", f".{2:012d}.1.part"), ("shutil.rmtree", f"{1:012d}")])
def test_a_checkpoint_that_comes_too_late_replaces_and_removes_nothing(
    call: str, of: str, start: Any, tmp_path: Path
) -> None:
    """Frozen after its look at the lease, and before a folder is renamed into place or the one before removed."""
    folder = run_folder(tmp_path, RUN) / "checkpoint"
    frozen = start(CHECKPOINTS.replace("NAME", call).replace("FROZEN", of), tmp_path, RUN)
    heard(frozen, "written")
    wait_for(lambda: state_of(frozen.pid) == "T")
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        (newest,) = sorted(folder.glob("[0-9]*"))[-1:]
        os.rename(newest, folder / f"{7:012d}")  # it goes on
        frozen.send_signal(signal.SIGCONT)
        _, stderr = frozen.communicate(timeout=PATIENCE_S)
        assert frozen.returncode == 1
        assert "LeaseLost" in stderr, stderr
        writer.lease.check(look=True)
    assert f"{7:012d}" in [path.name for path in folder.glob("[0-9]*")]
    assert f"{2:012d}" not in [path.name for path in folder.glob("[0-9]*")]
    assert [path.name for path in folder.rglob("*.part")] == []


def test_the_run_of_a_dead_process_of_this_machine_is_taken_at_once(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = start(WRITES, tmp_path, RUN, COVR_BENCH_LEASE_S="60")
    heard(dead, "written")
    dead.kill()
    dead.wait()
    assert (run_folder(tmp_path, RUN) / "lease.json").exists()
    began = time.monotonic()
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        assert time.monotonic() - began < 30
        assert writer.lease.token == 2
        assert not writer.lease.inherited


def other_lease(folder: Path, **values: Any) -> Holding:
    """A lease of another machine's process, in the folder of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    mine = holding_of_this_process(1, "theirs")
    holding = replace(mine, host="node7", machine="another", pid=1, **values)
    (folder / "fence-1").write_text("theirs")
    (folder / "lease.json").write_text(holding.to_json())
    return holding


@contextlib.contextmanager
def beating(folder: Path, holding: Holding, wall_clock: float = 0.0) -> Iterator[None]:
    """The process of another machine renews its lease; its clock is off by so many seconds."""
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(0.1):
            number += 1
            part = folder / "lease.json.theirs.tmp"
            part.write_text(replace(holding, beat=number).to_json())
            os.utime(part, (time.time() + wall_clock,) * 2)
            os.replace(part, folder / "lease.json")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("hours", [-1.0, 0.0, 1.0])
def test_a_writer_of_another_machine_is_judged_by_its_beats_alone(hours: float, tmp_path: Path) -> None:
    """Its clock may be an hour off: while it beats it is respected, and once it is silent it is not."""
    folder = run_folder(tmp_path, RUN)
    holding = other_lease(folder, launcher="slurm", job="99_4")
    with (
        beating(folder, holding, 3600 * hours),
        pytest.raises(RunHeld, match=r"being written by process 1 on node7 \(slurm job 99_4\)"),
    ):
        RunWriter(tmp_path, RUN, action_repeat=1).__enter__()
    os.utime(folder / "lease.json", (time.time() + 3600 * hours,) * 2)
    began = time.monotonic()
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        assert time.monotonic() - began >= LENGTH_S
        assert writer.lease.inherited
        assert writer.lease.token == 2
        assert writer_pid(tmp_path, RUN) == os.getpid()


def test_of_many_that_wait_for_a_silent_lease_one_gets_it(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, RUN)
    other_lease(folder)
    taken: list[Lease] = []
    refused: list[RunHeld] = []

    def take() -> None:
        try:
            taken.append(Lease.take(folder, RUN))
        except RunHeld as held:
            refused.append(held)

    threads = [threading.Thread(target=take) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 11)
    taken[0].check(look=True)
    taken[0].release()


def test_two_that_find_no_lease_do_not_both_get_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between machines whose locks say nothing to each other, at the same moment."""
    together = threading.Barrier(2)
    wait = results.lease._wait_for_turn

    def look(*arguments: Any) -> bool:
        found = wait(*arguments)
        together.wait()
        return found

    monkeypatch.setattr(results.lease, "_wait_for_turn", look)
    outcomes: list[type] = []

    def take() -> None:
        try:
            outcomes.append(type(Lease.take(tmp_path, RUN)))
        except RunHeld as held:
            outcomes.append(type(held))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.__name__ for outcome in outcomes) == ["Lease", "RunHeld"]


def test_a_beat_that_comes_too_late_harms_nobody(tmp_path: Path) -> None:
    """The old writer renames its lease into place after all: the fence is another's, whose next beat mends it."""
    folder = run_folder(tmp_path, RUN)
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        late = replace(holding_of_this_process(0, "late"), host="node7", machine="another")
        (folder / "lease.json").write_text(late.to_json())
        writer.lease.check(look=True)
        writer.write("train", 0, 0, {"loss": 0.0})

        def mended() -> bool:
            holding = read_lease(folder)
            return holding is not None and holding.token == writer.lease.token

        wait_for(mended)


def test_each_writer_has_a_higher_token_and_writes_it_where_it_resumes(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
            assert writer.lease.token == number
            writer.resume(10 * number, 10 * number)
            writer.write("train", 10 * number, 10 * number, {"loss": 0.0})
        assert sorted(path.name for path in writer.folder.iterdir()) == [f"fence-{number}", "rows.jsonl", "writer.lock"]
    rows = [json.loads(line) for line in (run_folder(tmp_path, RUN) / "rows.jsonl").read_text().splitlines()]
    assert [row.get("token") for row in rows] == [1, None, 2, None, 3, None]


def test_a_lost_lease_keeps_the_provenance_of_the_new_writer(tmp_path: Path) -> None:
    record: dict[str, Any] = {"config": {}, "seeds": {"run": 0}, "command": "one"}
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        provenance.begin(tmp_path, RUN, **record, lease=writer.lease)
        (writer.folder / "fence-1").unlink()
        (writer.folder / "fence-2").write_text("another")
        for write in (
            lambda: provenance.finish(tmp_path, RUN, "finished", wall_s=1.0, lease=writer.lease),
            lambda: provenance.describe(tmp_path, RUN, {}, lease=writer.lease),
            lambda: provenance.begin(tmp_path, RUN, **record, lease=writer.lease),
        ):
            with pytest.raises(LeaseLost):
                write()
    kept = provenance.read(writer.folder / "provenance.json")
    assert kept["status"] == "running" and len(kept["sessions"]) == 1
    assert [path.name for path in writer.folder.glob("provenance.json?*")] == []


# A folder that is away, and a full disk


@pytest.mark.parametrize(("length_s", "away_s"), [(60.0, 0.0), (10.0, 5.2)])
def test_a_run_outlives_a_folder_that_is_away(
    length_s: float, away_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment, and for longer than it is sure of its lease: nothing is lost, doubled, or written elsewhere."""
    monkeypatch.setenv("COVR_BENCH_LEASE_S", str(length_s))
    out, away = tmp_path / "out", tmp_path / "away"

    def back_soon() -> None:
        assert not out.exists()
        threading.Timer(1.5, os.rename, (away, out)).start()

    with RunWriter(out, RUN, action_repeat=1) as writer:
        provenance.begin(out, RUN, config={}, seeds={}, command="cmd", lease=writer.lease)
        os.rename(out, away)
        for step in range(5):
            writer.write("eval", step, step, {"return": float(step)})
        time.sleep(away_s)
        back_soon()
        writer.write("eval", 5, 5, {"return": 5.0})
        wait_for(out.exists)
        os.rename(out, away)
        back_soon()
        writer.lease.patiently(lambda: provenance.finish(out, RUN, "finished", wall_s=1.0, lease=writer.lease))
    assert read_run(out, RUN, compact=False)["env_steps"].tolist() == list(range(6))
    assert provenance.read(run_folder(out, RUN) / "provenance.json")["status"] == "finished"
    assert not (run_folder(out, RUN) / "lease.json").exists()
    assert not away.exists()


def test_a_folder_that_stays_away_ends_the_run_with_its_error(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "out", RUN, action_repeat=1) as writer:
        os.rename(tmp_path / "out", tmp_path / "away")
        time.sleep(LENGTH_S)
        with pytest.raises(StoreError, match=r"cannot write run .*No such file or directory.*run the same command"):
            writer.write("eval", 0, 0, {"return": 0.0})
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_folders_place_is_not_written(tmp_path: Path) -> None:
    """`--restart` on another machine moved the folder aside and began anew, with the same fencing number."""
    with RunWriter(tmp_path / "out", RUN, action_repeat=1) as writer:
        os.rename(tmp_path / "out", tmp_path / "replaced")
        with RunWriter(tmp_path / "out", RUN, action_repeat=1) as new:
            assert new.lease.token == writer.lease.token == 1
            with pytest.raises(LeaseLost):
                writer.lease.check(look=True)
            with pytest.raises(LeaseLost):
                writer.write("train", 0, 0, {"late": 1.0})
            new.write("train", 0, 0, {"new": 1.0})
    assert metrics(tmp_path / "out") == ["new"]


failures = st.lists(st.tuples(st.sampled_from(["EIO", "ESTALE", "ETIMEDOUT"]), st.floats(0, 1)), max_size=3)


@settings(max_examples=25)
@given(st.lists(failures, min_size=1, max_size=4))
def test_rows_whose_write_failed_midway_are_there_once(
    tmp_path_factory: pytest.TempPathFactory, plan: list[list[tuple[str, float]]]
) -> None:
    """However much of a row came through before the error: all of it, none, or a part."""
    out = tmp_path_factory.mktemp("out")
    real = results.writer.append
    with pytest.MonkeyPatch.context() as patch, RunWriter(out, RUN, action_repeat=1) as writer:
        patch.setattr(results.lease, "_RETRY_S", 0.0)
        for step, left in enumerate(plan):

            def failing(descriptor: int, data: bytes, left: list[tuple[str, float]] = left) -> None:
                if not left:
                    return real(descriptor, data)
                name, share = left.pop()
                real(descriptor, data[: round(share * len(data))])
                raise OSError(getattr(errno, name), name)

            patch.setattr(results.writer, "append", failing)
            writer.write("train", step, step, {"a": 1.0, "b": 2.0})
    lines = (run_folder(out, RUN) / "rows.jsonl").read_text().splitlines()
    assert [(row["env_steps"], row["metric"]) for row in map(json.loads, lines)] == [
        (step, metric) for step in range(len(plan)) for metric in "ab"
    ]


def test_rows_that_read_as_zeros_after_a_failed_write_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was away may keep a file's length and not what was never synced."""
    monkeypatch.setattr(results.lease, "_RETRY_S", 0.0)
    real = results.writer.append
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("train", 1, 1, {"a": 1.0})
        file = writer.folder / "rows.jsonl"

        def failing(descriptor: int, data: bytes) -> None:
            monkeypatch.setattr(results.writer, "append", real)
            file.write_bytes(bytes(file.stat().st_size))
            raise OSError(errno.ESTALE, "Stale file handle")

        monkeypatch.setattr(results.writer, "append", failing)
        writer.write("train", 2, 2, {"a": 2.0})
    assert [row["env_steps"] for row in map(json.loads, file.read_text().splitlines())] == [1, 2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only the superuser can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_no_lease_and_loses_no_row(small_disk: Path) -> None:
    """Renewals fail while it is full; then there is room again, in time."""
    ballast = small_disk / "ballast"
    with RunWriter(small_disk, RUN, action_repeat=1) as writer:
        writer.write("eval", 0, 0, {"return": 0.0})
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        began, written = time.monotonic(), 0
        with contextlib.suppress(StoreError):
            while True:
                writer.write("eval", written + 1, 0, {"return": [0.0] * 100})
                written += 1
        with pytest.raises(StoreError, match=r"No space left.*free some space"):
            writer.write("eval", written + 1, 0, {"return": [0.0] * 100})
        assert time.monotonic() - began < LENGTH_S  # waiting would not help
        before = read_lease(writer.folder)
        time.sleep(0.4 * LENGTH_S)
        after = read_lease(writer.folder)
        assert before is not None and after is not None
        ballast.unlink()
        wait_for(lambda: (now := read_lease(writer.folder)) is not None and now.beat > after.beat)
        writer.lease.check(look=True)
        writer.write("eval", 10**6, 10**6, {"return": 1.0})
    with pytest.warns(UserWarning, match="1 unreadable line") if written else contextlib.nullcontext():
        steps = read_run(small_disk, RUN)["env_steps"].tolist()
    assert steps == [*range(written + 1), 10**6]
    assert [path.name for path in writer.folder.glob("lease*")] == []


# What a lease file says


holdings = st.builds(
    Holding,
    st.integers(0, 2**40),
    st.text(max_size=9),
    st.text(max_size=9),
    st.text(max_size=9),
    st.integers(0, 2**22),
    st.integers(0, 2**40),
    st.text(max_size=9),
    st.text(max_size=9),
    st.integers(0, 2**40),
    st.floats(0, 3600),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3),
    st.integers(0, 2**50),
)


@given(holdings)
def test_a_lease_reads_back_as_written(holding: Holding) -> None:
    assert parsed_lease(holding.to_json().encode()) == holding


@given(st.binary(max_size=60) | holdings.map(lambda held: held.to_json().encode()[:-9]) | st.just(b"[" * 10**5))
@example(b"0")
@example(b"[]")
def test_a_damaged_lease_is_one_of_an_unknown_machine(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """It is waited for as any other, and a change of it is a beat."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "lease.json").write_bytes(data)
    holding = read_lease(folder)
    assert holding is not None
    assert holding.lives() is None
    (folder / "lease.json").write_bytes(data + b"!")
    changed = read_lease(folder)
    assert changed is not None
    assert changed.state != holding.state


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "1e9"])
def test_a_senseless_length_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVR_BENCH_LEASE_S", text)
    with pytest.raises(StoreError, match=f"COVR_BENCH_LEASE_S='{text}' should be seconds, above 0 and up to 3600"):
        RunWriter(tmp_path, RUN, action_repeat=1).__enter__()


def test_a_beat_tells_how_far_the_run_is_and_hears_that_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from results.cancel import cancel, is_cancelled, uncancel

    monkeypatch.setenv("COVR_BENCH_LAUNCHER", "slurm")
    monkeypatch.setenv("COVR_BENCH_JOB", "99_4")
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.lease.tell({"phase": "train", "env_steps": 7})
        wait_for(lambda: (now := read_lease(writer.folder)) is not None and now.progress)
        holding = read_lease(writer.folder)
        assert holding is not None
        assert holding.progress == {"phase": "train", "env_steps": 7}
        assert (holding.launcher, holding.job, holding.pid) == ("slurm", "99_4", os.getpid())
        assert holding.peak_memory > 1e6
        assert holding.lives()
        assert not writer.lease.cancelled
        cancel(tmp_path, RUN)
        wait_for(lambda: writer.lease.cancelled)
    assert is_cancelled(tmp_path, RUN)
    uncancel(tmp_path, RUN)
    uncancel(tmp_path, RUN)
    assert not is_cancelled(tmp_path, RUN)


def test_a_later_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    mine = holding_of_this_process(1, "mine")
    assert mine.lives() is True
    assert replace(mine, born=mine.born - 1).lives() is False
    assert replace(mine, machine="another").lives() is None
    assert clock() > 0


def test_a_run_that_another_process_writes_has_not_failed(tmp_path: Path) -> None:
    """It goes on there."""
    (config,) = catch_runs(tmp_path, ["random"])
    said: list[dict[str, Any]] = []
    with RunWriter(tmp_path, config.run_id, action_repeat=2):
        assert work(config, SESSION, lambda: False, said.append) == INTERRUPTED
    assert "is being written by process" in said[-1]["error"]


def test_rows_that_a_restarted_server_never_had_are_written_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("eval", 0, 0, {"return": [1.0]})  # durable
        size = (writer.folder / ROWS_FILE).stat().st_size
        writer.write("episode", 40, 40, {"return": 11.0})  # not yet on the disk

        def stale(descriptor: int, data: bytes) -> int:
            monkeypatch.setattr(os, "write", real)
            os.truncate(writer.folder / ROWS_FILE, size)
            raise OSError(errno.ESTALE, "Stale file handle")

        monkeypatch.setattr(os, "write", stale)
        writer.write("eval", 80, 80, {"return": [22.0]})
        writer.write("episode", 80, 80, {"return": 33.0})
    assert read_run(tmp_path, RUN)["value"].tolist() == [1.0, 11.0, 22.0, 33.0]


def test_what_a_full_disk_took_of_a_row_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has room again, and then the server fails one fsync: what may be lost is written where it stood."""
    write, fsync = os.write, os.fsync

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:100])

    def stale(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        raise OSError(errno.ESTALE, "Stale file handle")

    with RunWriter(tmp_path, RUN, action_repeat=1) as writer:
        writer.write("episode", 40, 40, {"return": 11.0})
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            writer.write("episode", 80, 80, {"return": 22.0})
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fsync", stale)
        before = (writer.folder / ROWS_FILE).read_bytes()
        writer.error("the disk was full")
        assert (writer.folder / ROWS_FILE).read_bytes().startswith(before)
