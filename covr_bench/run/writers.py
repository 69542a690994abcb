"""Who writes the runs of a store: processes of this machine by their locks, others by their leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covr_bench.run.beats import Beats
from results.holding import read_lease
from results.layout import run_folder
from results.lock import writer_pid

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from results.holding import Holding


class Writers:
    """Who writes the runs of a store.

    To be made waits until each lease of another machine among them has beaten or, for its length, has not: a minute if
    that machine died, nothing if an earlier look of this machine has seen it.

    Args:
        out: The store.
        runs: Ids, of runs that need not be there.
    """

    def __init__(self, out: Path, runs: Iterable[str]) -> None:
        self._out = out
        beats = Beats(out)
        foreign = [run_id for run_id in runs if (held := self._lease(run_id)) and held.lives() is None]
        self._judge(beats, foreign)
        beats.watch()
        self._expired = self._judge(beats, foreign)
        beats.keep()

    def write(self, run_id: str) -> bool:
        """Whether a process writes a run now, here or, as far as its lease tells, on another machine."""
        held = self._lease(run_id)
        if held is not None and held.lives() is None:
            return self._expired.get(run_id) != held.state
        return writer_pid(self._out, run_id) is not None or (held is not None and held.lives() is not False)

    def _judge(self, beats: Beats, runs: Iterable[str]) -> dict[str, tuple[int, str, int]]:
        """Leases, by their runs, of writers that are known to be silent."""
        leases = {run_id: held for run_id in runs if (held := self._lease(run_id))}
        return {run_id: held.state for run_id, held in leases.items() if beats.silent(run_id, held)}

    def _lease(self, run_id: str) -> Holding | None:
        return read_lease(run_folder(self._out, run_id))
