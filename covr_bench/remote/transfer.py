"""Folders to and from a remote one: what is there already is not sent again, and a manifest comes last."""

from __future__ import annotations

import queue
import shutil
import threading
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError
from covr_bench.remote.filesystem import Hung
from covr_bench.remote.manifest import MANIFEST, PART, Entry, Manifest, entry_of, names_in, parsed, stamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from covr_bench.remote.filesystem import Remote

RECORD_BYTES = 8 << 20  # sent since it was last noted what is there: less is sent again after an interruption


class State(Enum):
    """What became of a folder; the last three leave the command with status 1."""

    COPIED = "copied"
    SAME = "the same on both sides"
    KEPT = "not older where it would go, left alone"
    RUNNING = "being written, left out"
    PARTIAL = "only partly pushed, left out"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def is_well(self) -> bool:
        """Whether nothing of it is wanting."""
        return self not in (State.PARTIAL, State.REFUSED, State.FAILED)


@dataclass(frozen=True)
class Outcome:
    """A folder, what became of it, why, and how many bytes were copied for it."""

    name: str
    state: State
    reason: str = ""
    bytes: int = 0


class Refusal(UserError):
    """A folder may not be copied; the others may."""


def stored(remote: Remote, place: str, name: str, sizes: Mapping[str, int]) -> Manifest | None:
    """The manifest of a remote folder; None if it is not whole.

    Args:
        remote: Where.
        place: The folder there.
        name: What its manifest should say.
        sizes: Of its files.

    Raises:
        Refusal: The manifest is damaged, or of another folder.
    """
    if MANIFEST not in sizes:
        return None
    try:
        return parsed(remote.read(f"{place}/{MANIFEST}"), name)
    except ValueError as error:
        raise Refusal(f"its {MANIFEST} is refused: {error}. `covr-bench push --anew` sends it again") from error


def upload(
    remote: Remote, folder: Path, place: str, ours: Manifest, sizes: Mapping[str, int], *, anew: bool = False
) -> int:
    """Make a remote folder equal to one here; returns the bytes sent.

    It has no manifest from the first change until all is there. A list of what is there, beside it, lets the next try
    go on.

    Args:
        remote: Where.
        folder: Here.
        place: The folder there.
        ours: Of `folder`.
        sizes: Of the files that are there.
        anew: Send those too that are there.

    Raises:
        Refusal: The folder here changed meanwhile.
    """
    before = stamps(folder)
    known = {} if anew else _known(remote, place, ours.name, sizes)
    done = {
        name: each for name, each in ours.files.items() if known.get(name) == each and sizes.get(name) == each.bytes
    }
    _record(remote, place, ours.name, done)
    if MANIFEST in sizes:
        remote.remove(f"{place}/{MANIFEST}")
    sent = unrecorded = 0
    for name, entry in ours.files.items():
        if name in done:
            continue
        remote.upload(folder / name, f"{place}/{name}")
        done[name] = entry
        sent, unrecorded = sent + entry.bytes, unrecorded + entry.bytes
        if unrecorded >= RECORD_BYTES:
            _record(remote, place, ours.name, done)
            unrecorded = 0
    for name in sizes.keys() - ours.files.keys() - {MANIFEST, PART}:
        remote.remove(f"{place}/{name}")
    if stamps(folder) != before:
        raise Refusal("it changed while it was pushed: push it again")
    remote.write(f"{place}/{MANIFEST}", ours.to_json())
    remote.remove(f"{place}/{PART}")
    return sent


def _known(remote: Remote, place: str, name: str, sizes: Mapping[str, int]) -> dict[str, Entry]:
    """The files that are there, by what an earlier push noted."""
    found: dict[str, Entry] = {}
    for listing in (MANIFEST, PART):
        if listing in sizes:
            try:
                found |= parsed(remote.read(f"{place}/{listing}"), name).files
            except (ValueError, FileNotFoundError):
                continue  # all is sent again
    return found


def _record(remote: Remote, place: str, name: str, done: Mapping[str, Entry]) -> None:
    remote.write(f"{place}/{PART}", Manifest(name, dict(done)).to_json())


def download(remote: Remote, place: str, theirs: Manifest, staged: Path, local: Path) -> int:
    """Copy a remote folder into one that nobody reads; returns the bytes received.

    Args:
        remote: Where.
        place: The folder there.
        theirs: Its manifest.
        staged: The folder to fill; what it has from an earlier try is used.
        local: A folder that may have some of the files.

    Raises:
        Refusal: Files do not match their checksums; all others are in `staged`.
    """
    staged.mkdir(parents=True, exist_ok=True)
    for name in set(names_in(staged)) - theirs.files.keys():
        (staged / name).unlink()
    received, denied = 0, []
    for name, entry in theirs.files.items():
        file = staged / name
        if _is(file, entry):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if _is(local / name, entry):
            shutil.copyfile(local / name, file)
        else:
            received += _received(remote, f"{place}/{name}", file, entry)
        if not _is(file, entry):
            file.unlink(missing_ok=True)
            denied.append(name)
    if denied:
        raise Refusal(
            f"{', '.join(denied)}: not what the manifest's checksum says. `covr-bench push --anew` sends it again"
        )
    return received


def _received(remote: Remote, path: str, file: Path, entry: Entry) -> int:
    """Bytes; 0 for a file that is not there."""
    try:
        remote.download(path, file, entry.bytes)
    except FileNotFoundError:
        return 0
    return entry.bytes


def _is(file: Path, entry: Entry) -> bool:
    return file.is_file() and file.stat().st_size == entry.bytes and entry_of(file) == entry


def each(names: Sequence[str], copy: Callable[[str], Outcome], parallel: int) -> Iterator[Outcome]:
    """What becomes of each folder, as they end; one that fails stops no other.

    Args:
        names: Of the folders.
        copy: Called in threads.
        parallel: How many at a time.

    Raises:
        Hung: The file system does not answer: nothing more is tried.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Outcome | Hung] = queue.SimpleQueue()
    stopped = threading.Event()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while not stopped.is_set():
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            ended.put(_outcome(name, copy))

    for _ in range(min(parallel, len(names))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in names:
            outcome = ended.get()
            if isinstance(outcome, Hung):
                raise outcome
            yield outcome
    finally:
        stopped.set()


def _outcome(name: str, copy: Callable[[str], Outcome]) -> Outcome | Hung:
    try:
        return copy(name)
    except Hung as error:
        return error
    except Refusal as error:
        return Outcome(name, State.REFUSED, str(error))
    except BaseException as error:  # each protocol raises its own, and asyncio's cancellation is no Exception
        return Outcome(name, State.FAILED, f"{type(error).__name__}: {error}")
