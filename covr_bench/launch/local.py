"""Runs on this machine: one process each, so that a crash, a leak or a NaN stays in its run."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass

from covr_bench.launch.base import Job, LauncherSpec, State, Watch
from covr_bench.launch.memory import OomWatch, memory_text, memory_to_retry, peak_of
from covr_bench.launch.worker import Worker

if TYPE_CHECKING:
    from covr_bench.run.session import Session

TICK_S = 0.1
STOPPED_MEANWHILE = "its process was killed before it could write a checkpoint; the one before, if any, stays"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the local launcher.

    Attributes:
        restarts: How often a run goes on from its checkpoint after its process was killed by a signal.
        stop_patience_s: How long runs may take to checkpoint when asked to stop, in seconds; then they are killed.
    """

    restarts: NonNegativeInt = 1
    stop_patience_s: NonNegativeFloat = 120.0  # a checkpoint of a large replay, a slow disk


class RunningJob(Protocol):
    """A process that executes a job and keeps it up to date with what the run says."""

    job: Job

    def ended(self) -> bool: ...

    def status(self) -> int: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class LocalLauncher:
    """A process for each run; one killed by a signal is started again, from its checkpoint.

    After one was killed for want of memory, fewer run at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._oom = OomWatch()
        self._at_a_time = 1

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """See `launch.base.Launcher`."""
        running: list[RunningJob] = []
        self._at_a_time = workers
        try:
            while running or any(job.state is State.WAITING for job in jobs):
                for job in (job for job in jobs if job.state is State.WAITING):
                    if len(running) >= self._at_a_time:
                        break
                    running += [] if job.cancelled() else self._started(job, session)
                watch(jobs)
                time.sleep(TICK_S)
                running = self._going_on(running)
        except BaseException:
            self._stop(running, jobs, watch)
            raise

    def _going_on(self, running: list[RunningJob]) -> list[RunningJob]:
        """Those that have not ended; the others have their outcome."""
        return [worker for worker in running if not self._settled(worker, len(running))]

    def _settled(self, worker: RunningJob, running: int) -> bool:
        """Whether its process has ended; if so, what became of the run? running: how many did, this one included."""
        if not worker.ended():
            return False
        job, status = worker.job, worker.status()
        if status >= 0:
            job.end(status)
        elif job.state is State.STOPPING:
            job.state, job.error = State.INTERRUPTED, STOPPED_MEANWHILE
        elif self._oom.explains(status, peak := peak_of(job)):
            self._out_of_memory(job, peak, running)
        elif job.restarts < self.settings.restarts:
            job.state, job.restarts = State.WAITING, job.restarts + 1
        else:
            often = {1: "", 2: ", twice"}.get(job.restarts + 1, f", {job.restarts + 1} times")
            job.error = f"killed by {signal.Signals(-status).name}{often}"
            job.state = State.FAILED
        return True

    def _out_of_memory(self, job: Job, peak: int, running: int) -> None:
        """Try it again with fewer beside it; with none beside it, it cannot run here."""
        what = memory_text(peak, self._oom.limit)
        if running > 1:
            self._at_a_time = min(self._at_a_time, running - 1)
            job.state, job.restarts, job.memory = State.WAITING, job.restarts + 1, memory_to_retry(peak)
            job.warnings.append(f"{what}; it is started again, and from now on {self._at_a_time} run at a time")
        else:
            job.state = State.FAILED
            job.error = f"{what}, though it ran by itself: it needs a machine with more memory, or smaller settings"

    def _stop(self, running: list[RunningJob], jobs: Sequence[Job], watch: Watch) -> None:
        """Let all checkpoint at the same time; kill those that take too long, or all if asked again."""
        for worker in running:
            worker.stop()
        deadline = time.monotonic() + self.settings.stop_patience_s
        while running and time.monotonic() < deadline and _goes_on(watch, jobs):
            time.sleep(TICK_S)
            running = self._going_on(running)
        for worker in running:
            worker.kill()
            self._settled(worker, len(running))

    def start(self, job: Job, session: Session) -> RunningJob:
        """Raises OSError if it cannot be started."""
        return Worker(job, session)

    def _started(self, job: Job, session: Session) -> list[RunningJob]:
        """The job's worker; none, and a failed job, if it cannot be started."""
        try:
            return [self.start(job, session)]
        except OSError as error:
            job.state = State.FAILED
            job.error = (
                f"cannot start it in {job.log.parent}: {error.strerror}. Mend that folder, or give another --out."
            )
            return []


def _goes_on(watch: Watch, jobs: Sequence[Job]) -> bool:
    """Show the jobs; False if the user asks again."""
    try:
        watch(jobs)
    except KeyboardInterrupt:
        return False
    except Exception:  # what raised first is raised in the end
        return True
    return True


LAUNCHER = LauncherSpec("local", Settings, LocalLauncher, "Processes on this machine.")
