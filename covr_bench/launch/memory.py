"""Whether the kernel killed a process for want of memory, and how much it had.

The kernel counts such kills for each control group, and for the whole machine. A process that died of SIGKILL while no
count rose was killed by something else.
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.run.cgroups import memory_limit, own_groups
from results.holding import read_lease
from results.layout import run_folder

if TYPE_CHECKING:
    from covr_bench.launch.base import Job

_NEAR = 0.9  # of the limit: what a daemon kills for memory, uncounted by the kernel, has had that much
_RETRY_WITH = 1.25  # of what it had when it was killed: it asked for more
_MORE = 2  # times what was set aside for it


class OomWatch:
    """Tells which deaths of processes the kernel's want of memory explains; to be made before they start, beside them.

    Args:
        limit: Bytes of memory that they may have together; of this process's control group and machine if None.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = memory_limit() if limit is None else limit
        self._explained = oom_kills()

    def explains(self, status: int, peak: int) -> bool:
        """Whether a process was killed for want of memory; asked once for each that has died.

        Args:
            status: Its exit status, as of `subprocess`: -9 for SIGKILL; 137, as shells have it, means the same.
            peak: The most bytes it is known to have had; 0 if nothing is known.
        """
        if status not in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return False
        kills = oom_kills()
        if kills is not None and self._explained is not None and kills > self._explained:
            self._explained += 1
            return True
        return peak >= _NEAR * self.limit > 0


def peak_of(job: Job) -> int:
    """The most bytes of RAM that a run's process has had by its last beat; 0 if nothing is known."""
    with contextlib.suppress(OSError):
        if holding := read_lease(run_folder(job.config.out, job.config.run_id)):
            return holding.peak_memory
    return 0


def memory_to_retry(peak: int, given: int = 0) -> int:
    """Bytes to ask for when a run that was killed for want of memory is started again.

    Args:
        peak: What it had by its last beat; 0 if nothing is known.
        given: What was set aside for it; 0 if nothing was.
    """
    return max(round(peak * _RETRY_WITH), _MORE * given)


def memory_text(peak: int, limit: int) -> str:
    """What a run that was killed for want of memory had: `out of memory: the kernel killed it (it had 3.1 GB ...)`."""
    return f"out of memory: the kernel killed it ({had(peak)}all runs here have {limit / 1e9:.1f} GB together)"


def had(peak: int) -> str:
    """The most memory that a run is known to have had, for a sentence that goes on; empty if nothing is known."""
    return f"it had {peak / 1e9:.1f} GB by its last beat, " if peak else ""


def oom_kills() -> int | None:
    """How often the kernel has killed for memory, in this process's control group or else on this machine."""
    for folder in own_groups():
        for file in ("memory.events", "memory.oom_control"):  # of version 2 and 1
            if (count := _entry(folder / file, "oom_kill")) is not None:
                return count
    return _entry(Path("/proc/vmstat"), "oom_kill")


def _entry(file: Path, name: str) -> int | None:
    """The number behind a name in a file of `NAME NUMBER` lines."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return None
