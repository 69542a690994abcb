"""A clock for trials that others compete with."""

from __future__ import annotations

import time
from pathlib import Path

SCHEDSTAT = Path("/proc/self/schedstat")  # nanoseconds on a core, nanoseconds waiting for one, turns


def unhindered() -> float:
    """Seconds of the wall clock, less those in which this process waited for a core that others used.

    A trial is remembered, so it must not depend on what else the machine does at that moment. Waiting for a GPU, a
    disk or a simulator's process counts. Where Linux does not tell, this is the wall clock.
    """
    now = time.perf_counter()
    try:
        waited = int(SCHEDSTAT.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        waited = 0
    return now - waited / 1e9
