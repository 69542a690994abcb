"""How many cores runs may use, and why not more."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from covr_bench.run.cgroups import cpu_limit

LIMIT = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Cores:
    """Cores that runs may use.

    Attributes:
        count: At least 1.
        there: Those that this process could use if `OMP_NUM_THREADS` did not limit it.
    """

    count: int
    there: int

    def reason(self, runs: int) -> str:
        """A sentence for the plan if `OMP_NUM_THREADS` slows it down, else empty.

        Args:
            runs: To be done; several take a core each, one takes all as its threads.
        """
        if self.count >= min(self.there, runs if runs > 1 else self.there):
            return ""
        if runs == 1:
            return f"{LIMIT}={self.count} limits this run to {self.count} of {self.there} cores; unset it to use all"
        at_once = "one run" if self.count == 1 else f"{self.count} runs"
        return f"{LIMIT}={self.count} limits this to {at_once} at a time; unset it or give --workers"


def cores() -> Cores:
    """The cores of this process, or as many as `OMP_NUM_THREADS` says."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    there = min(there, math.ceil(min(cpu_limit(), there)))
    limit = os.environ.get(LIMIT, "")
    return Cores(max(1, int(limit)) if limit.isdigit() else there, there)
