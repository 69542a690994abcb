"""Checkpoints: what is saved comes back, damage is named, a failed write leaves the one before."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covr.selection import transitions
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.run.checkpoint import Checkpoints, load_agent
from covr_bench.run.state_tree import copied
from results.store import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPE = (9, 4, 4)

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
dicts = lambda inner: st.dictionaries(st.text(), inner, max_size=3) | st.dictionaries(st.integers(), inner, max_size=3)  # noqa: E731
states = st.dictionaries(
    st.text(), st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | dicts(inner), max_leaves=8), max_size=4
)


def fill(replay: Replay, steps: int, seed: int = 0) -> None:
    """Episodes of seven steps."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        obs = rng.integers(0, 255, SHAPE).astype(np.uint8)
        if step % 7 == 0:
            replay.start(obs)
        else:
            replay.add(rng.uniform(-1, 1, 2).astype(np.float32), float(step), step % 14 == 6, obs)


def new_replay(capacity: int = 20) -> Replay:
    return Replay(capacity, SHAPE, 2, seed=5)


@settings(max_examples=40, deadline=None)
@given(state=states)
def test_any_state_comes_back(state: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(Path(folder)).save(4, state, new_replay())
        assert Checkpoints(Path(folder)).load(new_replay()) == state


def test_tensors_come_back_with_type_and_shape(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"a": [shared, shared[:, 1]], "t": (1, "x"), "n": {0: torch.tensor(3, dtype=torch.int64)}}
    Checkpoints(tmp_path).save(4, {"agent": state}, new_replay())
    loaded = load_agent(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded["a"][0], shared)
    assert torch.equal(loaded["a"][1], torch.tensor([1.0, 4.0]))
    assert loaded["t"] == (1, "x")
    assert loaded["n"][0].dtype == torch.int64


def test_what_json_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"/agent/net is a set"):
        Checkpoints(tmp_path).save(4, {"agent": {"net": {1}}}, new_replay())


class Norm(NamedTuple):
    mean: float


def test_what_would_come_back_as_something_else_is_refused(tmp_path: Path) -> None:
    """A namedtuple and a `torch.Size` were written under names of their own, and never read again."""
    with pytest.raises(TypeError, match="/norm is a Norm, which a checkpoint cannot hold"):
        copied({"norm": Norm(0.5)})
    Checkpoints(tmp_path).save_final(1, {"agent": {"shape": torch.zeros(2, 3).shape}})
    assert load_agent(tmp_path) == {"shape": (2, 3)}


@pytest.mark.parametrize("keys", [(1, "1"), (True, False), (None, "x"), ((1, 2),)])
def test_keys_that_would_come_back_as_others_are_refused(tmp_path: Path, keys: tuple[Any, ...]) -> None:
    """They came back as text, and of two that are the same text one was lost."""
    with pytest.raises(TypeError, match=r"/agent/counts has keys of type .*: a checkpoint holds strings, or integers"):
        Checkpoints(tmp_path).save(4, {"agent": {"counts": dict.fromkeys(keys, 0)}}, new_replay())


def test_tensors_whose_keys_have_slashes_stay_apart(tmp_path: Path) -> None:
    """One took the other's place, and the run went on with it."""
    state = {"a/b": torch.tensor(1.0), "a": {"b": torch.tensor(2.0), "b'": torch.tensor(3.0)}}
    Checkpoints(tmp_path).save(4, {"agent": state}, new_replay())
    loaded = load_agent(tmp_path)
    assert loaded == state


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.integers(1, 30), min_size=1, max_size=5), capacity=st.integers(8, 40))
def test_a_replay_saved_in_parts_comes_back_whole(parts: list[int], capacity: int) -> None:
    """Also when the ring has wrapped once or several times between two checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        replay = new_replay(capacity)
        for number, steps in enumerate(parts):
            fill(replay, steps, seed=number)
            replay.rng.random()
            Checkpoints(Path(folder)).save(number, {}, replay)
        again = new_replay(capacity)
        Checkpoints(Path(folder)).load(again)
        assert again.head == replay.head
        assert again.rng.random() == replay.rng.random()
        held = range(max(0, replay.head - capacity), replay.head)
        for name, array in replay.slots(held.start, held.stop).items():
            stored = again.slots(held.start, held.stop)[name]
            assert np.array_equal(array[:-1], stored[:-1]), name
            if name in ("frames", "first"):
                assert np.array_equal(array[-1], stored[-1]), name
        files = list((Path(folder) / "replay").iterdir())
        assert len(files) <= len(parts)
        assert all(int(file.stem.split("-")[1]) > held.start for file in files)


def test_a_checkpoint_writes_only_what_is_new(tmp_path: Path) -> None:
    replay = new_replay(1000)
    fill(replay, 300)
    Checkpoints(tmp_path).save(1, {}, replay)
    fill(replay, 10)
    Checkpoints(tmp_path).save(2, {}, replay)
    assert sorted(file.stem for file in (tmp_path / "replay").iterdir()) == [
        "000000000000-000000000300",
        "000000000299-000000000310",
    ]


def test_only_the_newest_is_kept_and_a_final_one_has_no_replay(tmp_path: Path) -> None:
    replay = new_replay()
    fill(replay, 10)
    checkpoints = Checkpoints(tmp_path)
    assert not checkpoints.exists()
    checkpoints.save(1, {"n": 1}, replay)
    checkpoints.save(2, {"n": 2}, replay)
    checkpoints.save_final(2, {"n": 3})
    assert [path.name for path in tmp_path.glob("0*")] == ["000000000002-final"]
    assert not list((tmp_path / "replay").iterdir())
    assert checkpoints.load(new_replay()) == {"n": 3}


def test_rows_that_were_lost_since_the_checkpoint_are_missed(tmp_path: Path) -> None:
    """The run went on, ended as done, and had a hole in its curve."""
    with RunWriter(tmp_path, "s@b/t/a/0", action_repeat=1) as writer:
        writer.write("eval", 0, 0, {"return": [1.0]})
        checkpoints = Checkpoints(writer.folder / "checkpoint", writer)
        checkpoints.save(1, {"n": 1}, new_replay())
        writer.write("eval", 10, 10, {"return": [2.0]})
    rows = writer.folder / "rows.jsonl"
    first, second = rows.read_bytes().splitlines(keepends=True)
    for kept in (first, first + second[:10]):
        rows.write_bytes(kept)
        assert checkpoints.load(new_replay()) == {"n": 1}
    rows.write_bytes(first[:-20])
    with pytest.raises(UserError, match=r"rows.jsonl has lost rows: it has .* bytes, and had .* Restore it"):
        checkpoints.load(new_replay())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[250] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "replay"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink, lambda path: path.write_text("[1]")])
def test_damage_is_an_error_that_says_where_and_how_to_go_on(
    file: str, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    replay = new_replay()
    fill(replay, 15)
    Checkpoints(tmp_path).save(3, {"weights": torch.ones(100)}, replay)
    newest = tmp_path / f"{3:012d}"
    damage(next((tmp_path / "replay").iterdir()) if file == "replay" else newest / file)
    with pytest.raises(UserError, match=r"cannot be read.*delete the folder") as error:
        Checkpoints(tmp_path).load(new_replay())
    assert str(newest) in str(error.value)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(3, {}, new_replay())
    state = tmp_path / f"{3:012d}" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 99}))
    with pytest.raises(UserError, match=r"format 99"):
        Checkpoints(tmp_path).load(new_replay())


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """Files may grow to `free` bytes: the system refuses more, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("free", [0, 3000])
def test_a_full_disk_keeps_the_checkpoint_before(free: int, tmp_path: Path) -> None:
    replay = new_replay()
    fill(replay, 10)
    Checkpoints(tmp_path).save(1, {"n": torch.zeros(2000)}, replay)
    fill(replay, 5)
    with full_disk(free), pytest.raises(UserError, match=r"cannot write a checkpoint.*free some space"):
        Checkpoints(tmp_path).save(2, {"n": torch.ones(2000)}, replay)
    again = new_replay()
    state = Checkpoints(tmp_path).load(again)
    assert state is not None
    assert torch.equal(state["n"], torch.zeros(2000))
    assert again.head == 10
    Checkpoints(tmp_path).save(2, {"n": torch.ones(2000)}, replay)
    assert [path.name for path in tmp_path.glob("0*")] == [f"{2:012d}"]


def kept_is_readable(folder: Path, head: int, value: float) -> bool:
    again = new_replay()
    state = Checkpoints(folder).load(again)
    return state is not None and state["n"] == value and again.head == head


def test_a_failing_last_step_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is written, only the new folder cannot be moved into place: the old one and its replay are still there."""
    replay = new_replay()
    fill(replay, 10)
    Checkpoints(tmp_path).save(1, {"n": 1.0}, replay)
    fill(replay, 30)  # the ring has gone round: the files of the old checkpoint hold only what is overwritten
    rename = os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(target) == tmp_path / f"{2:012d}":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(UserError, match=r"cannot write a checkpoint.*Input/output error"):
            Checkpoints(tmp_path).save(2, {"n": 2.0}, replay)
    assert kept_is_readable(tmp_path, 10, 1.0)
    Checkpoints(tmp_path).save(2, {"n": 2.0}, replay)
    assert kept_is_readable(tmp_path, 40, 2.0)


@pytest.mark.parametrize("final", [False, True])
def test_a_checkpoint_is_on_the_disk_before_the_one_before_is_removed(
    final: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is flushed before it gets its name, and the folder that names the checkpoint before anything goes."""
    replay = new_replay()
    fill(replay, 10)
    Checkpoints(tmp_path).save(1, {"n": torch.ones(9)}, replay)
    fill(replay, 5)
    done: list[tuple[str, str]] = []
    sync, rename, remove = os.fsync, os.replace, shutil.rmtree

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert path.is_dir() or path.stat().st_size > 0
        done.append(("fsync", path.name))
        sync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        done.append(("rename", Path(source).name))
        rename(source, target)

    def removed(path: Any, *rest: Any, **options: Any) -> None:
        done.append(("remove", Path(path).name))
        remove(path, *rest, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    checkpoints = Checkpoints(tmp_path)
    name = f"{2:012d}-final" if final else f"{2:012d}"
    checkpoints.save_final(2, {"n": torch.ones(9)}) if final else checkpoints.save(2, {"n": torch.ones(9)}, replay)
    part = f".{name}.0.part"
    assert done.index(("fsync", "tensors.safetensors")) < done.index(("rename", part))
    assert done.index(("fsync", "state.json")) < done.index(("rename", part))
    assert done.index(("fsync", part)) < done.index(("rename", part))
    assert done.index(("rename", part)) < done.index(("fsync", tmp_path.name)) < done.index(("remove", f"{1:012d}"))
    chunks = [file for what, file in done if what == "rename" and file.endswith(".npz.0.part")]
    assert len(chunks) == (0 if final else 1)
    for chunk in chunks:
        assert done.index(("fsync", chunk)) < done.index(("rename", chunk)) < done.index(("fsync", "replay"))
        assert done.index(("fsync", "replay")) < done.index(("rename", part))


def test_an_episode_that_was_given_up_is_known_while_a_slot_of_it_is_left(tmp_path: Path) -> None:
    """Its first slot had left the ring, and what followed it counted as an episode that had ended."""
    replay = new_replay()
    for _ in range(2):
        fill(replay, 1)
    replay.start(np.zeros(SHAPE, np.uint8))
    for _ in range(12):
        replay.add(np.zeros(2, np.float32), 1.0, False, np.zeros(SHAPE, np.uint8))
    replay.abandon()
    given_up = replay.abandoned[-1]
    replay.start(np.zeros(SHAPE, np.uint8))
    while given_up > replay.head - replay.capacity - 5:
        replay.add(np.zeros(2, np.float32), 0.0, False, np.zeros(SHAPE, np.uint8))
    Checkpoints(tmp_path).save(1, {}, replay)
    again = new_replay()
    Checkpoints(tmp_path).load(again)
    assert again.abandoned == [given_up] and given_up in again.first
    assert transitions(again, 0, again.head).tolist() == transitions(replay, 0, replay.head).tolist()
