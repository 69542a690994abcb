"""Checkpoints: safetensors for tensors, plain JSON for the rest, compressed arrays for the replay. Never pickle.

`<run>/checkpoint/<env_steps>/{state.json, tensors.safetensors}` is complete or absent (renamed into place), and only
the newest is kept; that of a finished run is called `<env_steps>-final` and has no replay.
`<run>/checkpoint/replay/<first>-<end>.npz` hold the replay's slots; each checkpoint writes only those filled since the
one before, and drops files that have left the ring, so disk use is bounded by the replay.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from covr_bench.kit.errors import UserError
from covr_bench.run.state_tree import flatten, unflatten
from results.files import read_bytes
from results.layout import ROWS_FILE
from results.lease import LeaseLost

if TYPE_CHECKING:
    from pathlib import Path

    from covr_bench.kit.replay import Replay
    from results.store import RunWriter

FORMAT = 1


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Theirs.
        writer: Of the run's rows, which are on the disk before a checkpoint that goes on from them. Once another
            process has taken the run over, nothing is written or removed any more (`LeaseLost`).
    """

    def __init__(self, folder: Path, writer: RunWriter | None = None) -> None:
        self.folder, self.writer = folder, writer

    def save(self, env_steps: int, state: dict[str, Any], replay: Replay) -> None:
        """Make `state` (nested dicts and lists of tensors, numbers, strings) and the replay the newest checkpoint.

        Raises UserError if the disk is full or the folder cannot be written; the checkpoint before it stays.
        """
        self._save(f"{env_steps:012d}", state, replay)

    def save_final(self, env_steps: int, state: dict[str, Any]) -> None:
        """The checkpoint of a finished run, which needs its replay no more. Raises UserError as `save` does."""
        self._save(f"{env_steps:012d}-final", state, None)

    def _save(self, name: str, state: dict[str, Any], replay: Replay | None) -> None:
        if (self.folder / name).exists():
            return
        try:
            if self.writer is None:
                self._write(name, state, replay)
            else:
                self.writer.sync()
                self.writer.lease.patiently(lambda: self._write(name, state, replay))
        except OSError as error:
            raise UserError(
                f"cannot write a checkpoint to {self.folder}: {error.strerror or error}. Rows and the checkpoint "
                "before it are kept; free some space or mend the folder, then give the same command again."
            ) from error

    def _write(self, name: str, state: dict[str, Any], replay: Replay | None) -> None:
        self._check()
        self.folder.mkdir(exist_ok=True)  # not the run's folder: it may be away
        (self.folder / "replay").mkdir(exist_ok=True)
        chunks = self._save_replay(replay) if replay else []
        tensors: dict[str, torch.Tensor] = {}
        tree = flatten(state, "", tensors)
        packed = save(tensors)
        record = {"state": tree, "replay": {"chunks": chunks} | (_position(replay) if replay else {})}
        record |= {"format": FORMAT, "sha256": hashlib.sha256(packed).hexdigest(), "seal": _seal(record)}
        record |= {"rows_bytes": self._rows_bytes()}
        final, part = self.folder / name, self._part(self.folder, name)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        _write_file(part / "tensors.safetensors", packed)
        _write_file(part / "state.json", json.dumps(record).encode())
        _sync_folder(part)
        self._check(part)
        os.replace(part, final)
        _sync_folder(self.folder)
        self._remove([*(old for old in self._complete() if old != final), *self.folder.glob(".*.part")])
        self._remove([file for file in (self.folder / "replay").iterdir() if file.name not in chunks])

    def _rows_bytes(self) -> int:
        return (self.writer.folder / ROWS_FILE).stat().st_size if self.writer else 0

    def _part(self, folder: Path, name: str) -> Path:
        """What becomes that file or folder once it is whole; no other writer of the run calls its own so."""
        return folder / f".{name}.{self.writer.lease.token if self.writer else 0}.part"

    def _check(self, part: Path | None = None) -> None:
        """Raises LeaseLost if the run is another process's, and removes what this one was about to put in place."""
        try:
            if self.writer is not None:
                self.writer.lease.check(look=True)
        except LeaseLost:
            if part is not None:
                shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
            raise

    def _remove(self, paths: list[Path]) -> None:
        """Remove what was found before the look: nothing that another process writes later is among it.

        What cannot be removed stays, such as a file on a network disk that somebody reads: the new checkpoint is whole.
        """
        self._check()
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def load(self, replay: Replay) -> dict[str, Any] | None:
        """The newest checkpoint's state, with `replay` filled from it; None if there is none. Raises UserError."""
        complete = self._complete()
        if not complete:
            return None
        newest = complete[-1]
        try:
            record, state = _read(newest)
            self._load_replay(replay, record["replay"])
        except _DAMAGE as error:
            raise _damaged(newest, error) from error
        if self._rows_bytes() < record.get("rows_bytes", 0):  # earlier versions did not store it
            raise UserError(
                f"{self.folder.parent / ROWS_FILE} has lost rows: it has {self._rows_bytes():,} bytes, and had "
                f"{record['rows_bytes']:,} when the checkpoint was written. Restore it from a copy, or give --restart "
                "to train this run anew"
            )
        return state

    def exists(self) -> bool:
        return bool(self._complete())

    def _complete(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir())

    def _save_replay(self, replay: Replay) -> list[str]:
        oldest = max(0, replay.head - replay.capacity)
        folder = self.folder / "replay"
        kept = [name for name in self._chunks_of_newest() if _span(name)[1] > oldest]
        # The newest slot's action is only known with the next step, so the next file repeats that slot.
        start = max(oldest, _span(kept[-1])[1] - 1) if kept else oldest
        if replay.head > start:
            name = f"{start:012d}-{replay.head:012d}.npz"
            part = self._part(folder, name)
            with part.open("wb") as file:
                arrays: dict[str, Any] = replay.slots(start, replay.head)
                np.savez_compressed(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            self._check(part)
            os.replace(part, folder / name)
            _sync_folder(folder)
            kept.append(name)
        return kept

    def _chunks_of_newest(self) -> list[str]:
        complete = self._complete()
        if not complete:
            return []
        return json.loads((complete[-1] / "state.json").read_bytes())["replay"]["chunks"]  # type: ignore[no-any-return]

    def _load_replay(self, replay: Replay, record: dict[str, Any]) -> None:
        for name in record["chunks"]:
            path = self.folder / "replay" / name
            if path.exists() and not path.is_file():  # a pipe would wait
                raise ValueError(f"{path} is no file")
            with np.load(path, allow_pickle=False) as arrays:
                replay.put(_span(name)[0], dict(arrays))
        if "head" in record:
            replay.head = record["head"]
            replay.rng.bit_generator.state = record["rng"]
            replay.abandoned = record.get("abandoned", [])  # earlier versions did not store them


_DAMAGE = (
    OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, RecursionError, OverflowError,
    SafetensorError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a damaged checkpoint raises."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint without its replay. sha256: of its tensors, which no other training has."""

    state: dict[str, Any]
    sha256: str


def load_saved(folder: Path) -> Saved | None:
    """The newest checkpoint under `folder`, also while its run goes on; None if there is none. Raises UserError."""
    while complete := Checkpoints(folder)._complete():
        try:
            record, state = _read(complete[-1])
            return Saved(state, record["sha256"])
        except _DAMAGE as error:
            if complete[-1].exists():  # else the run has just replaced it
                raise _damaged(complete[-1], error) from error
    return None


def load_agent(folder: Path) -> dict[str, Any] | None:
    """The agent's state in the newest checkpoint under `folder`; None if there is none. Raises UserError."""
    saved = load_saved(folder)
    return saved.state["agent"] if saved else None


def _read(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record and the state in a checkpoint's folder. Raises any of _DAMAGE."""
    record = json.loads(read_bytes(checkpoint / "state.json"))
    packed = read_bytes(checkpoint / "tensors.safetensors")
    if record["format"] != FORMAT:
        raise ValueError(f"format {record['format']}, this version reads {FORMAT}")
    if hashlib.sha256(packed).hexdigest() != record["sha256"]:
        raise ValueError("tensors.safetensors does not match its checksum")
    if record.get("seal", seal := _seal(record)) != seal:  # earlier versions wrote none
        raise ValueError("state.json does not match its checksum")
    return record, unflatten(record["state"], load(packed))


def _seal(record: dict[str, Any]) -> str:
    """The checksum of what a record says beside its tensors."""
    return hashlib.sha256(json.dumps([record["state"], record["replay"]]).encode()).hexdigest()


def _damaged(checkpoint: Path, error: Exception) -> UserError:
    return UserError(
        f"the checkpoint {checkpoint} cannot be read: {error}. Results already stored are safe; delete the folder "
        f"{checkpoint.parent} to train this run anew, or restore it from a copy."
    )


def state_bytes(state: dict[str, Any]) -> int:
    """Size of a state's tensors."""
    tensors: dict[str, torch.Tensor] = {}
    flatten(state, "", tensors)
    return sum(tensor.nbytes for tensor in tensors.values())


def _position(replay: Replay) -> dict[str, Any]:
    held = set(replay.first[: len(replay)].tolist())  # an episode's first slot may be gone and others still there
    kept = [first for first in replay.abandoned if first in held]
    return {"head": replay.head, "rng": replay.rng.bit_generator.state, "abandoned": kept}


def _span(name: str) -> tuple[int, int]:
    first, end = name.removesuffix(".npz").split("-")
    return int(first), int(end)


def _write_file(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
