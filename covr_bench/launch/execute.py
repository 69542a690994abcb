"""Have a launcher execute runs, and let others watch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from covr_bench.launch.base import Job, Launcher, State, Watch
from covr_bench.launch.stopping import noting_signals

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from covr_bench.run.session import Session


def execute(
    launcher: Launcher, configs: Iterable[RunConfig], workers: int, session: Session, watchers: Sequence[Watch] = ()
) -> list[Job]:
    """Execute runs, and return every job with its outcome.

    Args:
        launcher: Where they run.
        configs: The runs.
        workers: How many may run at the same time.
        session: Goes into each run's provenance.
        watchers: Are shown the jobs before the start, a few times a second, and at the end, stopped or not.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came (in the main thread only); the runs have checkpointed and ended.
    """
    jobs = [Job(config) for config in configs]

    def show(jobs: Sequence[Job]) -> None:
        for watch in watchers:
            watch(jobs)

    show(jobs)
    with noting_signals() as check:

        def watch(jobs: Sequence[Job]) -> None:
            show(jobs)
            check()

        try:
            launcher.run(jobs, workers, session, watch)
            _see_that_all_ended(jobs)
        finally:
            show(jobs)
    return jobs


def _see_that_all_ended(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.state.ended:
            job.state, job.error = State.FAILED, f"its launcher came to an end and left it {job.state}"
