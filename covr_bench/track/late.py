"""Runs of a store told to trackers after the event."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError
from covr_bench.track.base import facts_of
from covr_bench.track.follow import row_of
from covr_bench.track.trackers import films, made
from results import provenance
from results.files import read_bytes
from results.layout import PROVENANCE_FILE, ROWS_FILE, StoreError, run_folder
from results.lost import without_rows
from results.parse import live
from results.shape import completed
from results.states import Status
from results.store import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from covr_bench.track.base import Tracker

AT_ONCE = 1000  # rows


def tell(
    out: Path, run_ids: Sequence[str], refs: Sequence[str], settings: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Tell trackers of runs, one after the other, all from the start.

    Args:
        out: The store.
        run_ids: Of runs in it.
        refs, settings: As of `trackers.make_trackers`.

    Yields:
        Of each run and tracker: the run's id, the tracker's name, and what went wrong, empty if nothing did. A run that
        cannot be read or told does not keep the others back. Of a tracker that cannot be closed, in the run's place
        `the end`.

    Raises:
        UserError: As `trackers.make_trackers`.
    """
    trackers = made(refs, settings)
    if not trackers:
        raise UserError("name at least one tracker: --track tensorboard, wandb, mlflow, trackio, or a .py file")
    try:
        for run_id in run_ids:
            for name, tracker in trackers:
                yield run_id, name, _told(out, run_id, tracker)
    finally:
        closed = [(name, _problem(tracker.close)) for name, tracker in trackers]
    yield from (("the end", name, problem) for name, problem in closed if problem)


def _problem(told: Callable[[], None]) -> str:
    """What went wrong; empty if nothing did."""
    try:
        told()
    except StoreError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # of a service: whatever it is, the other runs are told
        return f"{type(error).__name__}: {error}"
    return ""


def _told(out: Path, run_id: str, tracker: Tracker) -> str:
    folder = run_folder(out, run_id)

    def tell_all() -> None:
        record = completed(provenance.read(folder / PROVENANCE_FILE))
        config, facts = dict(record["config"]) | {"out": str(out)}, facts_of(record)
        _check_rows(out, run_id, str(record["status"]))
        rows = _rows(folder / ROWS_FILE)
        tracker.begin(run_id, config, facts)
        for first in range(0, len(rows), AT_ONCE):
            tracker.rows(run_id, rows[first : first + AT_ONCE])
        if callable(video := getattr(tracker, "video", None)):
            for film in films(folder):
                video(run_id, str(film))
        tracker.end(run_id, _ended(str(record["status"])))

    return _problem(tell_all)


def _rows(file: Path) -> list[dict[str, Any]]:
    """Those that count: without what a later session measured again, or left behind."""
    if not file.exists():
        return []
    rows = [row for line in read_bytes(file).splitlines() if (row := row_of(line))]
    kinds, steps = [row["kind"] for row in rows], [row["env_steps"] for row in rows]
    which = live(kinds, steps, [str(row.get("metric", "")) for row in rows])
    return [row for row, counts in zip(rows, which, strict=True) if counts]


def _check_rows(out: Path, run_id: str, status: str) -> None:
    """Raises StoreError for rows that cannot be used as a whole; lines that are none are warned of."""
    path = run_folder(out, run_id) / ROWS_FILE
    if status != Status.FINISHED and not os.path.lexists(path):
        return  # it has not come to its first row
    if read_run(out, run_id).empty and status == Status.FINISHED:
        raise StoreError(without_rows(path.parent))


def _ended(status: str) -> str:
    """What `Tracker.end` is told; a run without an end is one that was interrupted."""
    return status if status in (Status.FINISHED, Status.FAILED) else Status.INTERRUPTED.value
