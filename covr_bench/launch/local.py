"""Runs on this machine: one process each, so that a crash, a leak or a NaN stays in its run."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job, LauncherSpec, State, Watch
from covr_bench.launch.memory import OomWatch, memory_text, memory_to_retry, peak_of
from covr_bench.launch.mps import RISK, Mps
from covr_bench.launch.seats import Seats
from covr_bench.launch.worker import Worker, wait_for_one
from covr_bench.run import gpus

if TYPE_CHECKING:
    from covr_bench.launch.seats import Placement
    from covr_bench.run.session import Session

TICK_S = 0.1
STOPPED_MEANWHILE = "its process was killed before it could write a checkpoint; the one before, if any, stays"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the local launcher.

    Attributes:
        restarts: How often a run goes on from its checkpoint after its process was killed by a signal.
        stop_patience_s: How long runs may take to checkpoint when asked to stop, in seconds; then they are killed.
        mps: With `--per-gpu`, let runs compute on their GPU at the same time, by NVIDIA's Multi-Process Service. It is
            started if it does not run. A fault of one run then ends all that share its GPU.
    """

    restarts: NonNegativeInt = 1
    stop_patience_s: NonNegativeFloat = 120.0  # a checkpoint of a large replay, a slow disk
    mps: bool = False


class RunningJob(Protocol):
    """A process that executes a job and keeps it up to date with what the run says.

    Attributes:
        job: What it executes.
        descriptor: Of `worker.end_descriptor`, until its status has been read.
    """

    job: Job
    descriptor: int | None

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
        self.seats: Seats | None = None

    def share_gpus(self, per_gpu: int, backend: str) -> Placement:
        """See `launch.base.SharesGpus`."""
        found = gpus.inventory()
        if self.settings.mps and any(gpu.is_part for gpu in found.gpus):
            raise UserError("mps=true is for whole GPUs, and these are in MIG mode: leave mps out")
        if self.settings.mps:  # whose server may count its GPUs otherwise than this process
            found = replace(found, gpus=tuple(replace(gpu, visible=gpu.uuid) for gpu in found.gpus))
        self.seats = Seats(found, per_gpu)
        placement = self.seats.placement(backend)
        return replace(placement, remarks=(*placement.remarks, *([f"MPS: {RISK}"] if self.settings.mps else [])))

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """See `launch.base.Launcher`."""
        with Mps() if self.settings.mps and self.seats else nullcontext() as service:
            if self.seats:
                self.seats = Seats(self.seats.inventory, self.seats.per_gpu, service.environment if service else {})
                workers = min(workers, self.seats.count)
            self._run(jobs, workers, session, watch)

    def _run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        waiting = deque(job for job in jobs if job.state is State.WAITING)
        running: list[RunningJob] = []
        self._at_a_time = workers
        shown = -TICK_S
        try:
            while running or waiting:
                while waiting and len(running) < self._at_a_time:
                    job = waiting.popleft()
                    running += [] if job.cancelled() else self._started(job, session)
                if time.monotonic() - shown >= TICK_S:
                    watch(jobs)
                    shown = time.monotonic()
                wait_for_one([worker.descriptor for worker in running], TICK_S)
                running, ended = self._partition(running)
                waiting.extendleft(worker.job for worker in reversed(ended) if worker.job.state is State.WAITING)
        except BaseException:
            self._stop(running, jobs, watch)
            raise

    def _partition(self, workers: list[RunningJob]) -> tuple[list[RunningJob], list[RunningJob]]:
        """Those that run, and those that have ended."""
        parts: tuple[list[RunningJob], list[RunningJob]] = ([], [])
        for worker in workers:
            parts[self._settled(worker, len(workers))].append(worker)
        return parts

    def _settled(self, worker: RunningJob, running: int) -> bool:
        """Whether its process has ended; if so, what became of the run? running: how many did, this one included."""
        if not worker.ended():
            return False
        job, status = worker.job, worker.status()
        if self.seats:
            self.seats.leave(job.config.run_id)
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
            running, _ = self._partition(running)
        for worker in running:
            worker.kill()
            self._settled(worker, len(running))

    def start(self, job: Job, session: Session) -> RunningJob:
        """Raises OSError if it cannot be started."""
        return Worker(job, session)

    def _started(self, job: Job, session: Session) -> list[RunningJob]:
        """The job's worker; none, and a failed job, if it cannot be started."""
        try:
            job.place = self.seats.take(job.config.run_id) if self.seats else {}
            return [self.start(job, session)]
        except OSError as error:
            if self.seats:
                self.seats.leave(job.config.run_id)
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
