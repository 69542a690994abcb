"""Whole runs to and from a remote store: the newer of two stays, and one that is being written is left alone."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError
from covr_bench.remote.listing import RUNS, chosen, listed
from covr_bench.remote.manifest import NOTHING, PART, Entry, Manifest, entry_of, entry_of_bytes, of_folder
from covr_bench.remote.transfer import Outcome, Refusal, State, download, each, stored, upload
from covr_bench.run.alone import alone
from covr_bench.run.writers import Writers
from results import provenance
from results.holding import LEASE_FILE
from results.layout import LOCK_FILE, PROVENANCE_FILE, ROWS_FILE, StoreError, recorded, run_folder
from results.lock import flock
from results.lost import lost_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from covr_bench.remote.filesystem import Remote

STAGED = ".pull"  # folder of the store for what is not whole yet


def push(remote: Remote, out: Path, wanted: Sequence[str], parallel: int, *, anew: bool = False) -> Iterator[Outcome]:
    """Copy runs of a store to a remote one.

    Args:
        remote: The remote store.
        out: The store here.
        wanted: Ids, parts of ids or patterns; all runs if empty.
        parallel: Runs at a time.
        anew: Send files too that are there, since a checksum denies one of them.

    Yields:
        What became of each run, as they end.

    Raises:
        UserError: A name is of no run here, or the remote store cannot be listed, or is this one.
    """
    if remote.is_folder(out):
        raise UserError(f"{remote} is the store itself: give another URL")
    there = listed(remote)
    runs = chosen(recorded(out), wanted, str(out))
    writers = Writers(out, runs)
    yield from each(runs, lambda run_id: _pushed(remote, out, run_id, there.of(run_id), writers, anew), parallel)


def _pushed(remote: Remote, out: Path, run_id: str, sizes: Mapping[str, int], writers: Writers, anew: bool) -> Outcome:
    folder, place = run_folder(out, run_id), f"{RUNS}/{run_id}"
    if writers.write(run_id):
        return Outcome(run_id, State.RUNNING)
    ours, theirs = of_folder(folder, run_id), _theirs(remote, place, run_id, sizes)
    if (
        not anew
        and theirs
        and theirs.files == ours.files
        and all(sizes.get(name) == e.bytes for name, e in ours.files.items())
    ):
        if PART in sizes:
            remote.remove(f"{place}/{PART}")  # of a push that ended between its last two steps
        return Outcome(run_id, State.SAME)
    sizes = remote.sizes(place)  # once more: another machine may have pushed it since, or gone on with it there
    theirs = _theirs(remote, place, run_id, sizes)
    if LEASE_FILE in sizes:
        raise Refusal(
            f"there is a {LEASE_FILE} in {remote}/{place}: a process writes the run there, or died at it. Once the run "
            "has ended there, push it again"
        )
    if _is_newer_there(remote, place, _rows_there(remote, place, theirs, sizes), ours.rows, folder, anew):
        return Outcome(run_id, State.KEPT)
    with suppress(StoreError):  # a damaged record says nothing of the rows
        if provenance.is_finished(out, run_id) and (lost := lost_rows(folder)):
            raise Refusal(lost)
    if not anew and theirs and (gone := _gone(ours, theirs)):
        raise Refusal(
            f"{', '.join(gone)}: in the run there and no longer in {folder}. `covr-bench pull` brings it back; "
            "`covr-bench push --anew` removes it there too"
        )
    sent = upload(remote, folder, place, ours, sizes, anew=anew)
    return Outcome(run_id, State.COPIED, bytes=sent)


def _rows_there(remote: Remote, place: str, theirs: Manifest | None, sizes: Mapping[str, int]) -> Entry:
    """The rows of a remote run as they are: a run that went on in that folder has more than its manifest says."""
    if ROWS_FILE not in sizes or (theirs is None and PART in sizes):  # of a push that was cut off
        return NOTHING
    if theirs and theirs.rows.bytes == sizes[ROWS_FILE]:
        return theirs.rows
    return entry_of_bytes(remote.read(f"{place}/{ROWS_FILE}"))


def _is_newer_there(remote: Remote, place: str, theirs: Entry, ours: Entry, folder: Path, anew: bool) -> bool:
    """`_is_newer` of a run that is to be pushed; anew: what is there may be damaged, and is replaced where it is."""
    try:
        return _is_newer(theirs, ours, folder, lambda: remote.read(f"{place}/{ROWS_FILE}"))
    except Refusal:
        if not anew:
            raise
        return False


def _gone(ours: Manifest, theirs: Manifest) -> list[str]:
    """Files that a remote run has and the one here lost: no newer checkpoint or adapter has taken their place."""
    here = {str(parent) for name in ours.files for parent in PurePosixPath(name).parents}

    def is_replaced(path: PurePosixPath) -> bool:
        top, *below = path.parts
        if not below:
            return top != PROVENANCE_FILE
        return top in here and (below[0] == "replay" or str(path.parent) not in here)

    return [name for name in theirs.files if name not in ours.files and not is_replaced(PurePosixPath(name))]


def _theirs(remote: Remote, place: str, run_id: str, sizes: Mapping[str, int]) -> Manifest | None:
    """What is there of a run that is to be pushed; None if it cannot be told, and all is to be sent."""
    try:
        return stored(remote, place, run_id, sizes)
    except Refusal:
        return None


def pull(remote: Remote, out: Path, wanted: Sequence[str], parallel: int) -> Iterator[Outcome]:
    """Copy runs of a remote store into one here; arguments, yields and errors as of `push`."""
    there = listed(remote)
    runs = chosen(there.runs, wanted, str(remote))
    with alone(out / STAGED, "pull into", out):
        writers = Writers(out, runs)
        yield from each(runs, lambda run_id: _pulled(remote, out, run_id, there.of(run_id), writers), parallel)
    for folder, _, files in sorted(os.walk(out / STAGED), reverse=True):
        if not files:
            with suppress(OSError):  # it holds what will be used by the next pull
                os.rmdir(folder)


def _pulled(remote: Remote, out: Path, run_id: str, sizes: Mapping[str, int], writers: Writers) -> Outcome:
    folder, place, staged = run_folder(out, run_id), f"{RUNS}/{run_id}", out / STAGED / run_id
    theirs = stored(remote, place, run_id, sizes)
    if theirs is None:
        return Outcome(run_id, State.PARTIAL)
    if sizes.get(ROWS_FILE, 0) > theirs.rows.bytes:
        raise Refusal(
            f"it went on in {remote} since it was pushed there, and its manifest is that of before: copy the folder "
            f"{place} by itself"
        )
    if writers.write(run_id):
        return Outcome(run_id, State.RUNNING)
    ours = of_folder(folder, run_id)
    if ours.files == theirs.files:
        return Outcome(run_id, State.SAME)
    if ours.files and not _is_newer(theirs.rows, ours.rows, folder, lambda: remote.read(f"{place}/{ROWS_FILE}")):
        if theirs.rows == ours.rows and (gone := _gone(ours, theirs)):
            lost = Manifest(run_id, {name: theirs.files[name] for name in gone})
            return _restored(out, run_id, staged, gone, download(remote, place, lost, staged, folder))
        return Outcome(run_id, State.KEPT)
    received = download(remote, place, theirs, staged, folder)
    return _put(out, run_id, staged, received)


def _is_newer(theirs: Entry, ours: Entry, folder: Path, read: Callable[[], bytes]) -> bool:
    """Whether the remote run went on from the one here: rows are only ever appended.

    Raises:
        Refusal: Neither went on from the other.
    """
    if theirs.bytes > ours.bytes:
        first = read()[: ours.bytes]
        is_same = ours == NOTHING or entry_of_bytes(first) == ours
    else:
        is_same = theirs == NOTHING or entry_of(folder / ROWS_FILE, theirs.bytes) == theirs
    if not is_same:
        raise Refusal(
            "both sides have rows that the other lacks: two runs of one name. Keep one, or pull into another --out"
        )
    return theirs.bytes > ours.bytes


def _put(out: Path, run_id: str, staged: Path, received: int) -> Outcome:
    """Move a whole run into the store; the older one that it goes on from is kept aside."""
    folder = run_folder(out, run_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        _moved(staged, folder)
        return Outcome(run_id, State.COPIED, bytes=received)
    aside = out / "replaced" / time.strftime("%Y%m%d-%H%M%S") / run_id
    aside.parent.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Outcome(run_id, State.RUNNING)
        _moved(folder, aside)
        try:
            _moved(staged, folder)
        except BaseException:
            _moved(aside, folder)
            raise
    return Outcome(run_id, State.COPIED, f"the older one is in {aside}", received)


def _moved(source: Path, target: Path) -> None:
    """Rename a file or folder, also onto another disk, where `target` is there as a whole or not at all."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with tempfile.TemporaryDirectory(prefix=STAGED, dir=target.parent) as beside:
            copy = Path(beside) / target.name
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
            os.replace(copy, target)
        with tempfile.TemporaryDirectory(prefix=STAGED, dir=source.parent) as away:  # gone at once, as by a rename
            os.replace(source, Path(away) / source.name)


def _restored(out: Path, run_id: str, staged: Path, names: Sequence[str], received: int) -> Outcome:
    """Move files that a run here had lost into it."""
    folder = run_folder(out, run_id)
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Outcome(run_id, State.RUNNING)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _moved(staged / name, folder / name)
    return Outcome(run_id, State.COPIED, f"what was gone here: {', '.join(names)}", received)
