"""Beats of leases as they were seen, so that a later look knows for how long a writer has been silent.

They are kept in the user's cache folder, by a clock of this machine's present boot. No clock of another is read.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from covr_bench.run.cost.memory import costs_file, recall, remember
from results.holding import Holding, clock, read_lease, this_machine
from results.layout import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOOK_EVERY_S = 1.0


def beats_file() -> Path:
    """`beats.json` beside the costs that this machine remembers."""
    return costs_file().with_name("beats.json")


class Beats:
    """What was seen of a store's leases, by this process and by earlier ones of this machine.

    Args:
        out: Folder of the results.
        now: A clock; of `results.holding` except in tests.
    """

    def __init__(self, out: str | os.PathLike[str], now: Callable[[], float] = clock) -> None:
        self._out, self._now = os.path.realpath(out), now
        known = recall(beats_file()).get(self._out, {})
        self._known = known.get("seen", {}) if known.get("by") == this_machine() else {}
        self._seen: dict[str, Any] = {}
        self.unsure: dict[str, Holding] = {}

    def silent(self, run_id: str, holding: Holding) -> bool:
        """Whether a lease has had no beat for its length, as far as it was watched.

        One that was neither seen to beat nor watched for its length is in `unsure`.
        """
        state, now, known = list(holding.state), self._now(), self._known.get(run_id, [])
        before, since, beaten = (known[:3], known[3], known[4]) if len(known) == 5 and known[3] <= now else ([], now, 0)
        if before != state:
            since, beaten = now, int(before[:2] == state[:2])
        self._seen[run_id] = [*state, since, beaten]
        silent = bool(now - since >= holding.length_s)
        if not silent and not beaten:
            self.unsure[run_id] = holding
        return silent

    def keep(self) -> None:
        """Remember what was seen for later; not where the cache folder cannot be written."""
        if self._seen or self._known:
            with contextlib.suppress(OSError):
                remember(beats_file(), {self._out: {"by": this_machine(), "seen": self._seen}})

    def watch(self) -> None:
        """Wait until each lease that is unsure has beaten or been silent for its length."""
        while self.unsure:
            time.sleep(_LOOK_EVERY_S)
            looked, self.unsure, self._known = self.unsure, {}, self._known | self._seen
            for run_id in looked:
                if newest := read_lease(run_folder(self._out, run_id)):
                    self.silent(run_id, newest)
        self._known |= self._seen
