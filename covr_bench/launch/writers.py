"""Who writes a run, as its lease says, and waiting until a next writer may take it over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from results.holding import Holding, clock, read_lease
from results.layout import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from covr_bench.launch.base import Job


def lease_of(job: Job) -> Holding | None:
    """Of a job's run; None if nobody writes it, or its folder is away."""
    try:
        return read_lease(run_folder(job.config.out, job.config.run_id))
    except OSError:
        return None


def wait_for_writer(job: Job, patience_s: float, pause: Callable[[], object]) -> None:
    """Until nobody writes the run, or has for a lease's length: then its next writer may take it over.

    Args:
        job: The run.
        patience_s: The longest wait.
        pause: Takes some time between two looks. It may end the wait: by raising, or by an answer that is true.
    """
    begun = since = clock()
    seen = None
    while (now := lease_of(job)) and now.lives() is not False and clock() - begun < patience_s:
        if now.state != seen:
            since, seen = clock(), now.state
        if clock() - since > now.length_s or pause():
            return
