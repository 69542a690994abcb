"""The lease of a run: who may write it, where a lock of one machine says nothing.

`flock` can be local to a node. So the writer of a run also holds a lease: `lease.json` in the run's folder, renewed ten
times a minute by a thread. Whoever wants to write the run takes it over at once if its process is dead on this very
machine, and from another machine only after a lease's length without a beat.

What orders writers is not that file but `fence-N`, created by exactly one process for each N and never written again:
the run belongs to the highest N, whose lower ones are gone. A writer that was cut off (frozen, its folder away) looks
for its own fence before it writes, once its last renewal is too old to be sure without a look.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from results.files import is_away, read_bytes
from results.holding import LEASE_FILE, Holding, clock, holding_of_this_process, peak_memory, read_lease
from results.layout import CANCEL_FILE, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from results.layout import RunId

Result = TypeVar("Result")
FENCE = "fence-"
_SURE = 0.5  # of a lease's length after a renewal, nobody can have taken the run over yet
_MOST_DIGITS = 18  # of a fence's number: 64 bits hold it, and a lease with it can be read again
_RETRY_S = 1.0  # between tries while a folder is away, at most


class RunHeld(StoreError):
    """Another process writes the run."""


class LeaseLost(StoreError):
    """Another process has taken the run over; this one may not write it any more."""


class Lease:
    """The right to write a run, from `take` to `release`; renewed by a thread meanwhile.

    Attributes:
        token: Fencing number, higher than any before it.
        inherited: Whether the writer before may still live, cut off: what it might yet write must not count.
    """

    def __init__(self, folder: Path, run_id: RunId | str, holding: Holding, inherited: bool) -> None:
        self.folder, self.run_id, self.token, self.inherited = folder, run_id, holding.token, inherited
        self._holding = holding
        self._progress: dict[str, Any] = {}
        self._lost = self._cancelled = False
        self._gone = False  # the folder has been away for too long
        self._renewed = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name=f"lease of {run_id}", daemon=True)

    @classmethod
    def take(cls, folder: Path, run_id: RunId | str, *, lock_holder: str = "") -> Lease:
        """Become the writer of a run; may wait a lease's length to see that the writer before is silent.

        Args:
            folder: The run's, which exists.
            run_id: The run, for messages.
            lock_holder: Who holds the run's lock, if this process does not: then the run can be taken only from a
                process that is frozen or of another machine.

        Raises:
            RunHeld: Another process writes it.
            OSError: The folder cannot be read or written.
        """
        before = _fences(folder)
        inherited = _wait_for_turn(folder, run_id, lock_holder)
        token = max(before, default=0) + 1
        owner = secrets.token_hex(8)
        _claim(folder, run_id, token, owner)
        sweep(folder)
        lease = cls(folder, run_id, holding_of_this_process(token, owner), inherited)
        lease._renew()
        lease._thread.start()
        return lease

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop by a mark in its folder; known within a beat."""
        return self._cancelled

    @property
    def lost(self) -> bool:
        """Whether another is known to have taken the run over."""
        return self._lost

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Let the next beat say how far the run is: `phase`, `env_steps`, `env_steps_per_s`, `last_return`."""
        self._progress = dict(progress)

    def check(self, *, look: bool = False) -> None:
        """Return if this process may write the run now.

        Args:
            look: Look at the folder in any case, not only when the last renewal is too old to be sure.

        Raises:
            LeaseLost: Another process has taken the run over.
            OSError: The folder stays away, so that nobody can know.
        """
        if self._lost or look or clock() - self._renewed > _SURE * self._holding.length_s:
            self.patiently(self._look)

    def patiently(self, act: Callable[[], Result]) -> Result:
        """Do something with the run's folder, again and again while the folder is away, for a lease's length at most.

        Args:
            act: Can be repeated. Raises OSError, or StoreError because of one.

        Returns:
            What it returns.

        Raises:
            OSError, StoreError: Of the last try, or at once one that waiting does not mend (a full disk).
        """
        begun = clock()
        while True:
            try:
                return act()
            except (OSError, StoreError) as error:
                if isinstance(error, LeaseLost) or not is_away(error) or self._gone:
                    raise
                self._gone = clock() - begun > self._holding.length_s  # one more try; and later ones do not wait
            time.sleep(min(_RETRY_S, self._holding.period_s))

    def release(self) -> None:
        """End it in good order: the next writer need not wait. Never raises; may be called twice."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError, StoreError):
            self.patiently(self._remove)

    def _remove(self) -> None:
        self._look()
        (self.folder / LEASE_FILE).unlink(missing_ok=True)

    def _beat_on(self) -> None:
        """In the thread: renew until released or lost. A renewal that fails is tried again soon."""
        period = self._holding.period_s
        pause = period
        while not self._ended.wait(pause):
            try:
                self._renew()
                pause = period
            except LeaseLost:
                return
            except OSError:
                pause = min(_RETRY_S, period)

    def _renew(self) -> None:
        """One beat. Raises LeaseLost, OSError."""
        begun = clock()
        self._look()
        beat = self._holding.beat + 1
        self._holding = replace(self._holding, beat=beat, progress=self._progress, peak_memory=peak_memory())
        part = self.folder / f"{LEASE_FILE}.{self._holding.owner}.tmp"
        try:
            part.write_text(self._holding.to_json())
            os.replace(part, self.folder / LEASE_FILE)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self._renewed, self._gone = begun, False
        self._cancelled = os.path.lexists(self.folder / CANCEL_FILE)

    def _look(self) -> None:
        """See whether this lease's fence stands. Raises LeaseLost, or OSError if nobody can know."""
        if not self._lost:
            self._lost = not self._stands() and not self._stands()  # the folder may have come back between two calls
        if self._lost:
            raise LeaseLost(
                f"run {self.run_id} was taken over by another process while this one was cut off from {self.folder} "
                "(frozen, or the folder was away). Nothing is lost: that process goes on from the last checkpoint."
            )

    def _stands(self) -> bool:
        try:
            return read_bytes(self.folder / f"{FENCE}{self.token}") == self._holding.owner.encode()
        except FileNotFoundError:
            os.stat(self.folder)  # away, if this is not there either
            return False


def sweep(folder: Path) -> None:
    """Remove what a writer before was about to rename into place: if it lives after all, its rename then fails."""
    for part in (*folder.glob("*.tmp"), *folder.glob("checkpoint/.*.part"), *folder.glob("checkpoint/replay/.*.part")):
        _remove_tree(part)


def _remove_tree(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _wait_for_turn(folder: Path, run_id: RunId | str, lock_holder: str) -> bool:
    """Wait until nobody writes the run; whether the writer before may still live, cut off. Raises RunHeld, OSError."""
    holding = read_lease(folder)
    if holding is None:
        if lock_holder:
            raise _held(run_id, lock_holder, folder)
        return False
    lives = holding.lives()
    if not lock_holder and (lives is False or (lives and holding.pid == os.getpid())):
        return False
    if lock_holder and lives and not holding.frozen():
        raise _held(run_id, holding.where(), folder)
    return _wait_for_silence(folder, run_id, holding)


def _wait_for_silence(folder: Path, run_id: RunId | str, holding: Holding) -> bool:
    """Watch a lease for its length; whether it is still there. Raises RunHeld as soon as it beats."""
    pause = min(_RETRY_S, holding.period_s / 4)
    silent, seen = 0.0, clock()
    while silent < holding.length_s:
        time.sleep(pause)
        newest = read_lease(folder)
        if newest is None:
            return False
        if newest.state != holding.state:
            raise _held(run_id, newest.where(), folder)
        now = clock()
        silent += min(now - seen, 2 * pause)  # a watcher that was itself frozen has not watched
        seen = now
    return True


def _claim(folder: Path, run_id: RunId | str, token: int, owner: str) -> None:
    """Raise the fence of this number, as only one process can, and take down those below. Raises RunHeld, OSError."""
    try:
        with (folder / f"{FENCE}{token}").open("x") as file:
            file.write(owner)
    except FileExistsError:
        raise _held(run_id, "another process, which has just taken it", folder) from None
    standing = _fences(folder)
    if max(standing) > token:  # this process slept between its look and its claim
        (folder / f"{FENCE}{token}").unlink(missing_ok=True)
        raise _held(run_id, "another process, which has just taken it", folder)
    for number in standing:
        if number < token:
            (folder / f"{FENCE}{number}").unlink(missing_ok=True)


def _fences(folder: Path) -> list[int]:
    names = [name.removeprefix(FENCE) for name in os.listdir(folder) if name.startswith(FENCE)]
    return [int(name) for name in names if name.isdecimal() and len(name) <= _MOST_DIGITS]


def _held(run_id: RunId | str, holder: str, folder: Path) -> RunHeld:
    return RunHeld(
        f"run {run_id} is being written by {holder} (lease and lock in {folder}). Wait for it or stop it, "
        "then run the same command again; or choose another output folder."
    )
