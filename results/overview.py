"""Where the runs of a store are and how far: waiting, running on which machine, lost, done. Reads files only."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from results import provenance
from results.files import is_away
from results.holding import LEASE_FILE, Holding, read_lease
from results.layout import CANCEL_FILE, PROVENANCE_FILE, ROWS_FILE, RUNS, StoreError
from results.lock import writer_pid
from results.lost import lost_rows
from results.states import Status, TextEnum

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST = 2**63  # no number of a run comes near
_TAIL = 8192  # bytes of rows.jsonl in which the last row lies

Silent = Callable[[str, Holding], bool]
"""Whether a lease, of a run and of another machine, is known to have had no beat for its length."""


class Place(TextEnum):
    """What a run does, as its store shows it."""

    RUNNING = "running"
    LOST = "lost"  # its process is dead, frozen or silent: another may take it over
    WAITING = "waiting"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    UNREADABLE = "unreadable"  # its record is damaged, or of a newer version, or its rows are gone
    DONE = "done"


@dataclass(frozen=True)
class RunView:
    """A run as its store shows it.

    Attributes:
        run_id: The run.
        place: What it does.
        env_steps, total: Environment steps so far, and of the whole run; 0 if unknown.
        speed: Environment steps per second, of a running run or over all of a finished one; 0 if unknown.
        last_return: Newest return of a running run, None if there is none.
        cancelled: Whether it has been asked to stop.
        holding: The lease of a run that is running or lost.
        problem: Why it is unreadable, and what mends it.
    """

    run_id: str
    place: Place
    env_steps: int = 0
    total: int = 0
    speed: float = 0.0
    last_return: float | None = None
    cancelled: bool = False
    holding: Holding | None = None
    problem: str = ""

    @property
    def agent(self) -> str:
        """The agent and its variant, as in the run's id."""
        return self.run_id.rsplit("/", 2)[1]

    @property
    def seconds_left(self) -> float:
        """Until its end at its present speed; NaN if that is not known."""
        return (self.total - self.env_steps) / self.speed if self.speed > 0 else math.nan


def view(out: str | os.PathLike[str], run_id: str, silent: Silent, total: int = 0) -> RunView:
    """A run as its store shows it now.

    Args:
        out: Folder of the results.
        run_id: The run.
        silent: Judges a lease of another machine.
        total: Environment steps of the whole run, where the store does not know.

    Raises:
        OSError: The folder is away.
    """
    folder = os.path.join(out, RUNS, run_id)
    try:
        names = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return RunView(run_id, Place.WAITING, total=total)
    except OSError as error:
        if is_away(error):
            raise
        return RunView(run_id, Place.UNREADABLE, total=total, problem=f"cannot list {folder}: {error.strerror}")
    cancelled = CANCEL_FILE in names
    try:
        record = provenance.read(f"{folder}/{PROVENANCE_FILE}") if PROVENANCE_FILE in names else {}
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and is_away(cause) and not isinstance(cause, FileNotFoundError):
            raise cause from error
        return RunView(run_id, Place.UNREADABLE, _last_step(folder), total, cancelled=cancelled, problem=str(error))
    status, total = record.get("status", ""), _number(record.get("config", {}).get("env_steps")) or total
    if status == Status.FINISHED:
        if problem := lost_rows(folder):
            return RunView(run_id, Place.UNREADABLE, 0, total, cancelled=cancelled, problem=problem)
        wall_s = float(record.get("wall_s") or 0.0)
        return RunView(run_id, Place.DONE, total, total, total / wall_s if wall_s else 0.0)
    holding = read_lease(folder) if LEASE_FILE in names else None
    if holding is not None:
        return _held(run_id, holding, silent, total, cancelled, folder)
    if status == Status.RUNNING:
        running = writer_pid(out, run_id) is not None  # by a version without leases
        place = Place.RUNNING if running else Place.INTERRUPTED
        return RunView(run_id, place, _last_step(folder), total, cancelled=cancelled)
    place = Place(status) if status else Place.INTERRUPTED if cancelled else Place.WAITING
    return RunView(run_id, place, _last_step(folder) if status else 0, total, cancelled=cancelled)


def _held(run_id: str, holding: Holding, silent: Silent, total: int, cancelled: bool, folder: str) -> RunView:
    """A run that has a lease."""
    lives = holding.lives()
    lost = lives is False or holding.frozen() or (lives is None and silent(run_id, holding))
    progress = holding.progress
    steps = _number(progress.get("env_steps")) or _last_step(folder)
    speed, last = progress.get("env_steps_per_s"), progress.get("last_return")
    return RunView(
        run_id,
        Place.LOST if lost else Place.RUNNING,
        steps,
        total,
        0.0 if lost or not _finite(speed) else float(speed),
        float(last) if _finite(last) else None,
        cancelled,
        holding,
    )


def seconds_left(views: Sequence[RunView]) -> float:
    """Until the last of these runs ends, at the speed and the number of those that run now.

    A run that waits is taken to be as fast as those of its agent that run or are done, else as all are.

    Returns:
        0 if all are done, NaN if nothing runs.
    """
    todo = [each for each in views if each.place not in (Place.DONE, Place.FAILED, Place.UNREADABLE)]
    running = [each for each in todo if each.place is Place.RUNNING]
    if not todo or not running:
        return math.nan if todo else 0.0
    speeds: dict[str, list[float]] = defaultdict(list)
    for each in views:
        if each.speed > 0:
            speeds[each.agent].append(each.speed)
            speeds[""].append(each.speed)
    if not speeds:
        return math.nan
    times = []
    for each in todo:
        known = speeds.get(each.agent) or speeds[""]
        times.append((each.total - each.env_steps) / (each.speed or sum(known) / len(known)))
    return max(sum(times) / len(running), *times)


def counts(views: Iterable[RunView]) -> dict[str, int]:
    """How many runs are where, those that run first; only what there is."""
    found = Counter(each.place for each in views)
    return {str(place): found[place] for place in Place if found[place]}


def as_dict(each: RunView) -> dict[str, Any]:
    """A run as JSON values, for machines."""
    holding = each.holding
    values: dict[str, Any] = {"run_id": each.run_id, "state": str(each.place), "env_steps": each.env_steps}
    values |= {"total_env_steps": each.total, "env_steps_per_s": each.speed, "cancelled": each.cancelled}
    values |= {"last_return": each.last_return}
    values |= {"problem": each.problem} if each.problem else {}
    left = 0.0 if each.place is Place.DONE else each.seconds_left
    values |= {"seconds_left": left if math.isfinite(left) else None}
    if holding is not None:
        values |= {"host": holding.host, "pid": holding.pid, "launcher": holding.launcher, "job": holding.job}
        values |= {"token": holding.token, "peak_memory_bytes": holding.peak_memory}
    return values


def _last_step(folder: str) -> int:
    """Environment steps of the last whole row; 0 if there is none."""
    path = f"{folder}/{ROWS_FILE}"
    try:
        if not os.path.isfile(path):  # a pipe would wait
            return 0
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return 0
    except OSError as error:
        if is_away(error):
            raise
        return 0
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and (steps := _number(row.get("env_steps"))):
                return steps
    return 0


def _number(value: Any) -> int:
    return int(value) if _finite(value) and value > 0 else 0


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and -_MOST < value < _MOST
