"""Runs to and from a store elsewhere: whole or not there, never older over newer, never what a checksum denies."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.cli.gate import _folder_of
from covr_bench.gate.references import SHIPPED, Reference, References
from covr_bench.gate.request import GateRequest
from covr_bench.kit.errors import UserError
from covr_bench.remote import references, runs
from covr_bench.remote.filesystem import Hung, Remote
from covr_bench.remote.manifest import MANIFEST, PART, belongs, of_folder
from covr_bench.remote.transfer import RECORD_BYTES, Outcome, State
from covr_bench.run.alone import alone
from results.layout import ROWS_FILE
from results.store import RunWriter, run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN, OTHER = "s@b/task/agent-lr=1/0", "s@b/task/agent/12"
FILES = {
    "checkpoint/000000000400-final/tensors.safetensors": b"t" * 5000,
    "worker.log": b"",
    "request.yaml": b"suite: s\n",
}


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Fails at the call with that number, and at all after it, in mid-write; or hangs."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    left: ClassVar[int] = 10**9
    sent: ClassVar[list[str]] = []
    hangs: ClassVar[bool] = False

    @classmethod
    def _count(cls) -> None:
        if cls.hangs:
            time.sleep(60)
        cls.left = Flaky.left = Flaky.left - 1
        if Flaky.left < 0:
            raise OSError(5, "Input/output error")

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        Flaky.sent.append(rpath)
        try:
            self._count()
        except OSError:
            super().pipe_file(rpath, Path(lpath).read_bytes()[: Path(lpath).stat().st_size // 2])
            raise
        super().pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self._count()
        super().pipe_file(path, value)

    def rm_file(self, path: str) -> None:
        self._count()
        super().rm_file(path)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        try:
            self._count()
        except OSError:
            Path(lpath).write_bytes(b"half")
            raise
        super().get_file(rpath, lpath)


fsspec.register_implementation("flaky", Flaky, clobber=True)


@pytest.fixture(autouse=True)
def flaky() -> Iterator[type[Flaky]]:
    Flaky.store.clear()
    Flaky.left, Flaky.hangs = 10**9, False
    Flaky.sent.clear()
    empty_memory()
    yield Flaky
    Flaky.hangs = False


def empty_memory() -> None:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def make(out: Path, run_id: str = RUN, rows: int = 3, files: dict[str, bytes] = FILES, tag: str = "") -> Path:
    folder = run_folder(out, run_id)
    content = {"provenance.json": json.dumps({"run_id": run_id, "rows": rows}).encode(), **files}
    content["rows.jsonl"] = "".join(f'{{"row": {row}{tag}}}\n' for row in range(rows)).encode()
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in of_folder(folder, "").files} if folder.exists() else {}


def push(url: str, out: Path, *wanted: str, anew: bool = False) -> dict[str, Outcome]:
    return {each.name: each for each in runs.push(Remote(url, 20), out, wanted, 3, anew=anew)}


def pull(url: str, out: Path, *wanted: str) -> dict[str, Outcome]:
    return {each.name: each for each in runs.pull(Remote(url, 20), out, wanted, 3)}


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/there" if request.param == "file" else "memory://there/store"


def test_runs_come_back_as_they_went(url: str, tmp_path: Path) -> None:
    """All files, but for who writes them and what is half-written; the second push and pull send nothing."""
    folder = make(tmp_path / "a")
    make(tmp_path / "a", OTHER)
    for name in ("writer.lock", "fence-3", "x.tmp", "checkpoint/.0004.part/state.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("of the writer")
    pushed = push(url, tmp_path / "a")
    assert {name: each.state for name, each in pushed.items()} == {RUN: State.COPIED, OTHER: State.COPIED}
    assert pushed[RUN].bytes == sum(map(len, tree(folder).values()))
    assert {each.state for each in pull(url, tmp_path / "b").values()} == {State.COPIED}
    for run_id in (RUN, OTHER):
        assert tree(run_folder(tmp_path / "b", run_id)) == tree(run_folder(tmp_path / "a", run_id))
    assert not (run_folder(tmp_path / "b", RUN) / "writer.lock").exists()
    for again in (push(url, tmp_path / "a"), pull(url, tmp_path / "b"), push(url, tmp_path / "b")):
        assert {(each.state, each.bytes) for each in again.values()} == {(State.SAME, 0)}


names = st.from_regex(r"[a-zA-Z0-9 _=.@+-]{1,8}(/[a-z0-9]{1,3}){0,2}", fullmatch=True)


@settings(max_examples=30)
@given(st.dictionaries(names, st.binary(max_size=40), max_size=6), st.booleans())
def test_any_files_come_back(files: dict[str, bytes], in_memory: bool) -> None:
    import tempfile

    files = {
        name: data for name, data in files.items() if belongs(name) and name not in ("rows.jsonl", "provenance.json")
    }
    tops = [name.split("/")[0] for name in files]
    files = {name: data for name, data in files.items() if tops.count(name.split("/")[0]) == 1}
    with tempfile.TemporaryDirectory() as folder:
        empty_memory()
        url = "memory://any" if in_memory else f"file://{folder}/there"
        make(Path(folder, "a"), files=files)
        assert push(url, Path(folder, "a"))[RUN].state is State.COPIED
        assert pull(url, Path(folder, "b"))[RUN].state is State.COPIED
        assert tree(run_folder(Path(folder, "b"), RUN)) == tree(run_folder(Path(folder, "a"), RUN))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=4), st.booleans())
def test_a_push_cut_off_anywhere_is_never_whole_and_goes_on(cuts: list[int], was_there: bool) -> None:
    """Whatever a pull finds between tries is the run as it is, as it was, or nothing."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        out = Path(name, "a")
        Flaky.store.clear()
        Flaky.left = 10**9
        url = "flaky://there"
        earlier: dict[str, bytes] = {}
        if was_there:
            earlier = tree(make(out, rows=2, files={"old": b"gone later", "worker.log": b""}))
            push(url, out)
            shutil.rmtree(run_folder(out, RUN))
        now = tree(make(out))
        for number, cut in enumerate(cuts):
            Flaky.left = cut
            outcome = push(url, out)[RUN]
            Flaky.left = 10**9
            fresh = Path(name, f"fresh{number}")
            found = pull(url, fresh) if Flaky.store else {}
            got = tree(run_folder(fresh, RUN))
            assert got in ({}, now, earlier)
            assert bool(got) == (bool(found) and found[RUN].state is State.COPIED)
            assert outcome.state in (State.FAILED, State.COPIED, State.SAME)
        assert push(url, out)[RUN].state.is_well
        assert pull(url, Path(name, "b"))[RUN].state is State.COPIED
        assert tree(run_folder(Path(name, "b"), RUN)) == now
        assert not any(path.endswith((PART, "old")) for path in Flaky.store)


def test_what_was_sent_is_not_sent_again(tmp_path: Path) -> None:
    big = {f"checkpoint/replay/{number}.npz": bytes([number]) * RECORD_BYTES for number in range(3)}
    make(tmp_path / "a", files=big)
    Flaky.left = 5  # the note, a file and its note, a second file and its note
    assert push("flaky://there", tmp_path / "a")[RUN].state is State.FAILED
    assert len(Flaky.sent) == 3
    Flaky.sent.clear()
    Flaky.left = 10**9
    assert push("flaky://there", tmp_path / "a")[RUN].state is State.COPIED
    assert sorted(Path(path).name for path in Flaky.sent) == ["2.npz", "provenance.json", "rows.jsonl"]


def test_a_pull_cut_off_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "a")
    push("flaky://there", tmp_path / "a")
    for left in (0, 1, 1, 1, 1):
        Flaky.left = left
        assert pull("flaky://there", tmp_path / "b")[RUN].state is State.FAILED
        assert not run_folder(tmp_path / "b", RUN).exists()
        Flaky.left = 10**9
        assert len(list((tmp_path / "b" / ".pull").rglob("*.*"))) >= 1
    Flaky.left = 1  # all but one file are there
    assert pull("flaky://there", tmp_path / "b")[RUN].state is State.COPIED
    assert tree(run_folder(tmp_path / "b", RUN)) == tree(run_folder(tmp_path / "a", RUN))
    assert [path.name for path in (tmp_path / "b" / ".pull").iterdir()] == ["lock"]


@pytest.mark.parametrize("damage", [b"x" * 5000, b"t" * 4999, None], ids=["flipped", "cut", "gone"])
def test_what_a_checksum_denies_is_refused_and_the_rest_is_kept(url: str, tmp_path: Path, damage: bytes | None) -> None:
    make(tmp_path / "a")
    make(tmp_path / "a", OTHER)
    push(url, tmp_path / "a")
    fs, root = fsspec.core.url_to_fs(url)
    path = f"{root}/runs/{RUN}/checkpoint/000000000400-final/tensors.safetensors"
    fs.rm_file(path)
    if damage is not None:
        fs.pipe_file(path, damage)
    found = pull(url, tmp_path / "b")
    assert (found[RUN].state, found[OTHER].state) == (State.REFUSED, State.COPIED)
    assert "tensors.safetensors: not what the manifest's checksum says" in found[RUN].reason
    assert not run_folder(tmp_path / "b", RUN).exists()
    kept = tree(tmp_path / "b" / ".pull" / RUN)
    assert len(kept) == 4
    assert push(url, tmp_path / "a", anew=True)[RUN].state is State.COPIED
    again = pull(url, tmp_path / "b")[RUN]
    assert (again.state, again.bytes) == (State.COPIED, 5000)
    assert tree(run_folder(tmp_path / "b", RUN)) == tree(run_folder(tmp_path / "a", RUN))


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        (b"{", "it is no manifest|Expecting"),
        (b"[]", "it is no manifest"),
        (b'{"format": 9, "name": "x", "files": {}}', "format 9, this version reads up to 1"),
        (b'{"format": 1, "name": "x", "files": {}}', "it is of x"),
        *(
            (
                json.dumps({"format": 1, "name": RUN, "files": {name: {"sha256": "", "bytes": 0}}}).encode(),
                "is no file of",
            )
            for name in ("../x", "/etc/x", "a/../../x", "writer.lock", "..", ".hidden", "a\\..\\b", "")
        ),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path, manifest: bytes, complaint: str) -> None:
    import re

    make(tmp_path / "a")
    push("memory://there", tmp_path / "a")
    fsspec.filesystem("memory").pipe_file(f"/there/runs/{RUN}/{MANIFEST}", manifest)
    found = pull("memory://there", tmp_path / "b")[RUN]
    assert found.state is State.REFUSED
    assert re.search(complaint, found.reason)
    assert not (tmp_path / "b" / "runs").exists()
    assert push("memory://there", tmp_path / "a")[RUN].state is State.COPIED


def test_a_newer_run_is_never_replaced_and_an_older_one_is_kept_aside(url: str, tmp_path: Path) -> None:
    make(tmp_path / "old", rows=2)
    make(tmp_path / "new", rows=4, files=FILES | {"extra": b"1"})
    push(url, tmp_path / "old")
    assert pull(url, tmp_path / "new")[RUN].state is State.KEPT
    assert push(url, tmp_path / "new")[RUN].state is State.COPIED
    assert push(url, tmp_path / "old")[RUN].state is State.KEPT
    before = tree(run_folder(tmp_path / "old", RUN))
    outcome = pull(url, tmp_path / "old")[RUN]
    assert outcome.state is State.COPIED
    assert tree(run_folder(tmp_path / "old", RUN)) == tree(run_folder(tmp_path / "new", RUN))
    (aside,) = (tmp_path / "old" / "replaced").glob(f"*/{RUN}")
    assert str(aside) in outcome.reason
    assert tree(aside) == before


@pytest.mark.parametrize("pushed", [True, False], ids=["pushed", "copied"])
def test_a_run_that_went_on_in_the_folder_there_is_not_replaced(tmp_path: Path, pushed: bool) -> None:
    """The folder behind file:// is a store, in which runs go on: an older push took their newer rows."""
    url, there = f"file://{tmp_path}/there", tmp_path / "there"
    make(tmp_path / "old", rows=2)
    make(tmp_path / "anew", rows=2, tag=" ")
    if pushed:
        push(url, tmp_path / "old")
    make(there, rows=4, files=FILES | {"extra": b"1"})
    before = (run_folder(there, RUN) / ROWS_FILE).read_bytes()
    for anew in (False, True):
        assert push(url, tmp_path / "old", anew=anew)[RUN].state is State.KEPT
    assert push(url, tmp_path / "anew")[RUN].state is State.REFUSED
    assert (run_folder(there, RUN) / ROWS_FILE).read_bytes() == before
    pulled = pull(url, tmp_path / "other")[RUN]
    assert (pulled.state, "went on in" in pulled.reason) == (
        (State.REFUSED, True) if pushed else (State.PARTIAL, False)
    )
    (run_folder(there, RUN) / "lease.json").write_text("{}")
    make(tmp_path / "old", rows=6)
    refused = push(url, tmp_path / "old")[RUN]
    assert refused.state is State.REFUSED and "there is a lease.json in" in refused.reason


def test_what_another_machine_pushed_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_memory()
    make(tmp_path / "old", rows=2)
    make(tmp_path / "new", rows=4)
    listed = runs.listed

    def late(remote: Remote) -> Any:
        found = listed(remote)
        monkeypatch.setattr(runs, "listed", listed)
        push("memory://there", tmp_path / "new")
        return found

    monkeypatch.setattr(runs, "listed", late)
    assert push("memory://there", tmp_path / "old")[RUN].state is State.KEPT


def test_a_store_is_not_pushed_onto_itself(tmp_path: Path) -> None:
    before = tree(make(tmp_path / "a"))
    with pytest.raises(UserError, match="is the store itself"):
        push(f"file://{tmp_path}/a", tmp_path / "a")
    assert tree(run_folder(tmp_path / "a", RUN)) == before


def test_a_replaced_checkpoint_leaves_no_empty_folder(tmp_path: Path) -> None:
    make(tmp_path / "a", files={"checkpoint/000000000100/x": b"1"})
    push(f"file://{tmp_path}/there", tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    make(tmp_path / "a", rows=5, files={"checkpoint/000000000200/x": b"1"})
    push(f"file://{tmp_path}/there", tmp_path / "a")
    assert os.listdir(run_folder(tmp_path / "there", RUN) / "checkpoint") == ["000000000200"]


def test_a_run_with_as_many_rows_here_stays(url: str, tmp_path: Path) -> None:
    make(tmp_path / "a")
    push(url, tmp_path / "a")
    make(tmp_path / "b", files=FILES | {"mine": b"noted"})
    assert pull(url, tmp_path / "b")[RUN].state is State.KEPT
    assert (run_folder(tmp_path / "b", RUN) / "mine").exists()


def test_what_is_gone_here_is_not_removed_there_and_comes_back(url: str, tmp_path: Path) -> None:
    """A second push, after disk was freed here, deleted the only copy of the weights without a word."""
    folder = make(tmp_path / "a")
    push(url, tmp_path / "a")
    whole = tree(folder)
    shutil.rmtree(folder / "checkpoint")
    (folder / "notes").write_text("mine")
    for attempt in range(2):
        outcome = push(url, tmp_path / "a")[RUN]
        assert outcome.state is State.REFUSED
        assert "tensors.safetensors: in the run there and no longer in" in outcome.reason, attempt
    outcome = pull(url, tmp_path / "a")[RUN]
    assert (outcome.state, "what was gone here: checkpoint/" in outcome.reason) == (State.COPIED, True)
    assert tree(folder) == whole | {"notes": b"mine"}
    assert push(url, tmp_path / "a")[RUN].state is State.COPIED
    shutil.rmtree(folder / "checkpoint")
    assert push(url, tmp_path / "a", anew=True)[RUN].state is State.COPIED
    assert pull(url, tmp_path / "b")[RUN].state is State.COPIED
    assert not (run_folder(tmp_path / "b", RUN) / "checkpoint").exists()


def test_a_newer_checkpoint_takes_the_place_of_an_older_one(url: str, tmp_path: Path) -> None:
    old = {"checkpoint/000000000200/state.json": b"{}", "checkpoint/replay/0-200.npz": b"r", "adapters/1/a": b"a"}
    new = {"checkpoint/000000000400/state.json": b"{}", "checkpoint/replay/200-400.npz": b"r", "adapters/2/a": b"a"}
    make(tmp_path / "a", files=old)
    push(url, tmp_path / "a")
    make(tmp_path / "b", files=new)
    assert push(url, tmp_path / "b")[RUN].state is State.COPIED
    assert pull(url, tmp_path / "c")[RUN].state is State.COPIED
    assert tree(run_folder(tmp_path / "c", RUN)) == tree(run_folder(tmp_path / "b", RUN))


def test_runs_on_another_disk_than_their_store_are_pulled(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs` was a link to a larger disk: every pull ended with `Invalid cross-device link`."""
    out, disk = tmp_path / "out", tmp_path / "disk"
    disk.mkdir()
    out.mkdir()
    (out / "runs").symlink_to(disk)
    rename = os.replace

    def replace(source: Any, target: Any) -> None:
        if len({disk in Path(each).resolve().parents for each in (source, target)}) > 1:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for rows in (2, 4):
        newer = make(tmp_path / f"{rows} rows", rows=rows)
        push(url, tmp_path / f"{rows} rows")
        assert pull(url, out)[RUN].state is State.COPIED
        assert tree(run_folder(out, RUN)) == tree(newer)
    assert len(list((out / "replaced").glob(f"*/{RUN}/{ROWS_FILE}"))) == 1
    shutil.rmtree(run_folder(out, RUN) / "checkpoint")
    assert "what was gone here" in pull(url, out)[RUN].reason
    assert tree(run_folder(out, RUN)) == tree(newer)
    assert not [*disk.rglob(".pull*"), *out.rglob(".pull?*")]


def test_folders_that_are_links_go_along(url: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    whole = tree(folder)
    (folder / "checkpoint").rename(tmp_path / "scratch")
    (folder / "checkpoint").symlink_to(tmp_path / "scratch")
    push(url, tmp_path / "a")
    pull(url, tmp_path / "b")
    assert tree(run_folder(tmp_path / "b", RUN)) == whole


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_two_runs_of_one_name_are_never_mixed(url: str, tmp_path: Path, rows: int) -> None:
    make(tmp_path / "a")
    push(url, tmp_path / "a")
    make(tmp_path / "b", rows=rows, tag=', "of": "another"')
    before = tree(run_folder(tmp_path / "b", RUN))
    for outcome in (pull(url, tmp_path / "b")[RUN], push(url, tmp_path / "b")[RUN]):
        assert outcome.state is State.REFUSED
        assert "two runs of one name" in outcome.reason
    assert tree(run_folder(tmp_path / "b", RUN)) == before
    assert pull(url, tmp_path / "c")[RUN].state is State.COPIED
    assert tree(run_folder(tmp_path / "c", RUN)) == tree(run_folder(tmp_path / "a", RUN))


def test_a_run_that_is_being_written_is_left_alone(url: str, tmp_path: Path) -> None:
    make(tmp_path / "a", rows=0)
    make(tmp_path / "b", rows=5)
    push(url, tmp_path / "b")
    with RunWriter(tmp_path / "a", RUN, action_repeat=1):
        assert push(f"{url}2", tmp_path / "a")[RUN].state is State.RUNNING
        assert pull(url, tmp_path / "a")[RUN].state is State.RUNNING
    assert pull(url, tmp_path / "a")[RUN].state is State.COPIED


def test_a_run_that_another_machine_writes_is_left_alone_until_its_lease_has_expired(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock cannot tell, the beats of its lease can."""
    folder = make(tmp_path / "a", rows=5)
    with RunWriter(tmp_path / "a", RUN, action_repeat=1):
        lease = json.loads((folder / "lease.json").read_text())
    lease |= {"machine": "another", "length_s": 0.5}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def beat(_: float) -> None:
        lease["beat"] += 1
        (folder / "lease.json").write_text(json.dumps(lease))

    beat(0.0)
    with monkeypatch.context() as patch:
        patch.setattr("covr_bench.run.beats.time", SimpleNamespace(sleep=beat))
        assert push(url, tmp_path / "a")[RUN].state is State.RUNNING
    time.sleep(0.6)
    assert push(url, tmp_path / "a")[RUN].state is State.COPIED  # nobody has beaten it for its length
    (folder / "rows.jsonl").write_text("")
    assert pull(url, tmp_path / "a")[RUN].state is State.COPIED
    monkeypatch.setattr("covr_bench.run.beats.time", SimpleNamespace(sleep=beat))
    beat(0.0)
    assert pull(url, tmp_path / "a")[RUN].state is State.RUNNING


def test_a_run_that_changes_while_it_is_pushed_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "a")
    put = Flaky.put_file

    def while_it_grows(self: Flaky, lpath: str, rpath: str, **kwargs: Any) -> None:
        put(self, lpath, rpath)
        with (folder / "rows.jsonl").open("a") as file:
            file.write("{}\n")

    monkeypatch.setattr(Flaky, "put_file", while_it_grows)
    outcome = push("flaky://there", tmp_path / "a")[RUN]
    assert (outcome.state, outcome.reason) == (State.REFUSED, "it changed while it was pushed: push it again")
    assert pull("flaky://there", tmp_path / "b")[RUN].state is State.PARTIAL


def test_a_file_system_that_hangs_is_given_up(tmp_path: Path) -> None:
    make(tmp_path / "a")
    push("flaky://there", tmp_path / "a")
    (run_folder(tmp_path / "a", RUN) / "more").write_text("1")
    Flaky.hangs = True
    begun = time.monotonic()
    with pytest.raises(Hung, match=r"flaky://there has not answered for 0 s .* the same command goes on"):
        list(runs.push(Remote("flaky://there", 0.3), tmp_path / "a", (), 2))
    assert time.monotonic() - begun < 20


class Denied:
    """`os.scandir` that may not read a folder, as root always may."""

    def __init__(self, folder: Path, error: int) -> None:
        self.folder, self.error, self.real = folder, error, os.scandir

    def __call__(self, path: Any = ".") -> Any:
        if Path(os.fspath(path)) == self.folder:
            raise OSError(self.error, os.strerror(self.error), str(path))
        return self.real(path)


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older copy went over the newer run, and a pull left the run out without a word."""
    url, there = f"file://{tmp_path}/there", tmp_path / "there"
    make(tmp_path / "new", rows=9)
    make(tmp_path / "new", OTHER)
    push(url, tmp_path / "new")
    make(tmp_path / "old", rows=3)
    monkeypatch.setattr(os, "scandir", Denied(run_folder(there, RUN), errno.ESTALE))
    assert push(url, tmp_path / "old")[RUN].state is State.FAILED
    assert (run_folder(there, RUN) / ROWS_FILE).read_text().count("\n") == 9
    pulled = pull(url, tmp_path / "b")
    assert {run: each.state for run, each in pulled.items()} == {RUN: State.FAILED, OTHER: State.COPIED}
    assert "OSError" in pulled[RUN].reason
    monkeypatch.setattr(os, "scandir", Denied(there / "runs", errno.EACCES))
    with pytest.raises(UserError, match=r"cannot list file://.*PermissionError"):
        pull(url, tmp_path / "b")


def test_a_run_with_a_folder_that_cannot_be_read_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was pushed without its checkpoint, as whole."""
    folder = make(tmp_path / "a")
    make(tmp_path / "a", OTHER)
    monkeypatch.setattr(os, "scandir", Denied(folder / "checkpoint", errno.EACCES))
    pushed = push("memory://there", tmp_path / "a")
    assert {run: each.state for run, each in pushed.items()} == {RUN: State.FAILED, OTHER: State.COPIED}
    assert "PermissionError" in pushed[RUN].reason


def test_what_is_no_exception_fails_its_run_and_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's cancellation left the command waiting for ever."""

    def put_file(self: Flaky, lpath: str, rpath: str, **kwargs: Any) -> None:
        raise asyncio.CancelledError

    make(tmp_path / "a")
    monkeypatch.setattr(Flaky, "put_file", put_file)
    outcome = push("flaky://there", tmp_path / "a")[RUN]
    assert (outcome.state, outcome.reason) == (State.FAILED, "CancelledError: ")


def test_a_store_that_is_not_there_is_named(cli: Any, url: str, tmp_path: Path) -> None:
    make(tmp_path / "a")
    push(url, tmp_path / "a")
    refused = cli("push", url, "--out", tmp_path / "nostore")
    assert refused.code == 2
    assert "there are no runs in" in refused.err and "nostore" in refused.err


def test_a_pull_that_fails_at_its_last_step_leaves_the_older_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tree(make(tmp_path / "b", rows=2))
    make(tmp_path / "a", rows=5)
    push("memory://there", tmp_path / "a")
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if ".pull" in str(source):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert pull("memory://there", tmp_path / "b")[RUN].state is State.FAILED
    assert tree(run_folder(tmp_path / "b", RUN)) == older
    monkeypatch.setattr(os, "replace", real)
    assert pull("memory://there", tmp_path / "b")[RUN].state is State.COPIED


def test_runs_are_written_and_copied_where_the_file_system_knows_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre mounted without `-o flock`: the lease alone tells who writes."""

    def flock(file: Any, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setenv("COVR_BENCH_LEASE_S", "6")
    run = "catch@smoke/catch/random/0"
    with RunWriter(tmp_path / "a", run, action_repeat=2) as writer:
        writer.write("eval", 400, 200, {"return": [1.0]})
        words = [sys.executable, "-c", WRITE_WITHOUT_LOCKS, str(tmp_path / "a"), run]
        done = subprocess.run(words, capture_output=True, text=True)
        assert "is being written by process" in done.stderr
        assert push("memory://there", tmp_path / "a")[run].state is State.RUNNING
        writer.end()
    assert push("memory://there", tmp_path / "a")[run].state is State.COPIED
    assert pull("memory://there", tmp_path / "b")[run].state is State.COPIED


WRITE_WITHOUT_LOCKS = """
import errno, fcntl, sys
from results.store import RunWriter
def flock(file, operation):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = flock
RunWriter(sys.argv[1], sys.argv[2], action_repeat=2).__enter__()
"""


def test_two_pulls_do_not_fill_one_folder(tmp_path: Path) -> None:
    make(tmp_path / "a")
    push("memory://there", tmp_path / "a")
    with (
        alone(tmp_path / "b" / ".pull", "pull into", tmp_path / "b"),
        pytest.raises(UserError, match=r"another pull into .* goes on"),
    ):
        pull("memory://there", tmp_path / "b")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("s3://bucket/x", r"s3:// needs a package that is not installed: pip install s3fs"),
        ("gs://bucket/x", r"gs:// needs a package that is not installed: pip install gcsfs"),
        ("sftp://host/x", r"sftp:// needs a package that is not installed: pip install paramiko"),
        ("nosuch://x", r"cannot open nosuch://x: .*nosuch.*; such as s3://bucket/folder"),
        ("results", r"'results' is no URL; such as s3://bucket/folder"),
    ],
)
def test_a_url_that_cannot_be_opened_says_what_mends_it(url: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Remote(url, 1)


def test_runs_are_chosen_by_name(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "a", OTHER)
    assert list(push("memory://there", tmp_path / "a", "lr=1")) == [RUN]
    assert sorted(push("memory://there", tmp_path / "a", "s@b/*", "agent/12")) == sorted([RUN, OTHER])
    assert list(push("memory://there", tmp_path / "a", "agent*/0")) == [RUN]
    make(tmp_path / "a", OTHER[:-1])
    assert list(push("memory://there", tmp_path / "a", "agent/1")) == [OTHER[:-1]]
    with pytest.raises(UserError, match=r"unknown run in .*'nothing'"):
        push("memory://there", tmp_path / "a", "nothing")
    with pytest.raises(UserError, match="there are no runs in memory://empty"):
        pull("memory://empty", tmp_path / "a")


def test_rows_whose_record_is_lost_are_pushed_all_the_same(cli: Any, tmp_path: Path) -> None:
    """As a table counts them. The record begins anew when the run does."""
    url = f"file://{tmp_path}/there"
    for seed in (0, 1):
        with RunWriter(tmp_path / "a", f"catch@smoke/catch/random/{seed}", action_repeat=2) as writer:
            writer.write("eval", 400, 200, {"return": [1.0 + seed]})
            writer.end()
    (writer.folder / "provenance.json").write_text('{"schema": 1, "status": "finished", "config": {}}')
    pushed = cli("push", url, "--out", tmp_path / "a")
    assert (pushed.code, "pushed 2 " in pushed.out) == (0, True)
    assert cli("pull", url, "--out", tmp_path / "b").code == 0
    here, there = (cli("table", "--format", "csv", "--out", tmp_path / name).out for name in ("a", "b"))
    assert here == there


def test_commands_push_and_pull_and_a_table_reads_what_came(cli: Any, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/there"
    for seed in (0, 1):
        with RunWriter(tmp_path / "a", f"catch@smoke/catch/random/{seed}", action_repeat=2) as writer:
            writer.write("eval", 400, 200, {"return": [1.0 + seed]})
            writer.end()
        (writer.folder / "provenance.json").write_text('{"schema": 1, "status": "finished", "config": {}}')
    pushed = cli("push", url, "--out", tmp_path / "a")
    assert pushed.code == 0, pushed.err
    assert f"pushed 2 (0.0 MB) to {url}" in pushed.out
    assert f"pushed 0 (0.0 MB) to {url}, 2 the same on both sides" in cli("push", url, "--out", tmp_path / "a").out
    pulled = cli("pull", "random/1", url, "--out", tmp_path / "b")
    assert "catch@smoke/catch/random/1 copied" in pulled.out
    assert cli("pull", url, "--out", tmp_path / "b").code == 0
    here, there = (cli("table", "--format", "csv", "--out", tmp_path / name).out for name in ("a", "b"))
    assert here == there
    assert "1.5" in there
    (tmp_path / "there" / "runs" / "catch@smoke" / "catch" / "random" / "0" / "rows.jsonl").write_text("{}")
    refused = cli("pull", "random/0", url, "--out", tmp_path / "c")
    assert refused.code == 1
    assert "random/0 refused: rows.jsonl: not what the manifest's checksum says" in refused.out
    assert cli("pull", "s3://bucket", "--out", tmp_path / "c").code == 2


def test_the_gate_reads_references_of_a_store_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = Remote("memory://there", 20)
    with pytest.raises(UserError, match=r"no references in memory://there/references; .* push --references FOLDER"):
        references.pull(remote)
    shutil.copytree(SHIPPED, tmp_path / "refs")
    agents = sorted(path.name for path in SHIPPED.iterdir() if (path / "reference.json").exists())
    assert [each.state for each in references.push(remote, tmp_path / "refs", 2)] == [State.COPIED] * len(agents)
    said: list[str] = []
    asked = GateRequest(("drqv2",), against="memory://there")
    folder = _folder_of(asked, tmp_path, said.append)
    assert said == ["fetching the references in memory://there"]
    stored = References(folder, {agent: agent for agent in agents}, {})
    found, shipped = stored.get("drqv2"), References(SHIPPED, stored.names, {}).get("drqv2")
    assert isinstance(found, Reference) and isinstance(shipped, Reference)
    assert found.facts == shipped.facts
    shutil.rmtree(tmp_path / "refs" / "sac")
    (tmp_path / "refs" / "drqv2" / "reference.json").write_text("{}")
    list(references.push(remote, tmp_path / "refs", 2))
    fsspec.filesystem("memory").rm("/there/references/sac", recursive=True)
    assert _folder_of(asked, tmp_path, said.append) == folder
    assert (folder / "drqv2" / "reference.json").read_text() == "{}"
    assert not (folder / "sac").exists()
    with pytest.raises(UserError, match="--bless stores references in a folder"):
        _folder_of(GateRequest(("drqv2",), against="memory://there", bless="why"), tmp_path, said.append)


def test_two_gates_may_fetch_the_same_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each removed what the other was about to move into place, and the store was blamed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    agents = ("drqv2", "sac", "rad")
    for agent in agents:
        shutil.copytree(SHIPPED / agent, tmp_path / "refs" / agent)
    remote = Remote("memory://there", 20)
    list(references.push(remote, tmp_path / "refs", 2))
    for _ in range(3):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        with ThreadPoolExecutor(4) as pool:
            folders = {future.result() for future in [pool.submit(references.pull, remote) for _ in range(4)]}
        (folder,) = folders
        assert sorted(path.name for path in folder.iterdir()) == sorted(agents)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    shutil.copytree(SHIPPED / "sac", tmp_path / "refs" / "sac")
    remote = Remote("memory://there", 20)
    list(references.push(remote, tmp_path / "refs", 2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set XDG_CACHE_HOME to a folder that can be written"):
        references.pull(remote)


@pytest.mark.parametrize("left", [b"t" * 4999, None], ids=["cut", "gone"])
def test_a_push_mends_what_was_cut_or_lost_there(url: str, tmp_path: Path, left: bytes | None) -> None:
    empty_memory()
    make(tmp_path / "a")
    push(url, tmp_path / "a")
    fs, root = fsspec.core.url_to_fs(url)
    path = f"{root}/runs/{RUN}/checkpoint/000000000400-final/tensors.safetensors"
    fs.rm_file(path)
    if left is not None:
        fs.pipe_file(path, left)
    again = push(url, tmp_path / "a")[RUN]
    assert (again.state, again.bytes) == (State.COPIED, 5000)
    assert pull(url, tmp_path / "b")[RUN].state is State.COPIED
    assert tree(run_folder(tmp_path / "b", RUN)) == tree(run_folder(tmp_path / "a", RUN))
