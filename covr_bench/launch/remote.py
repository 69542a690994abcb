"""A run in an actor of Ray, as its driver sees it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from covr_bench.launch.base import State
from covr_bench.launch.place import Report
from covr_bench.launch.writers import lease_of
from covr_bench.run.session import FAILED, INTERRUPTED
from results.cancel import is_cancelled

if TYPE_CHECKING:
    from covr_bench.launch.base import Job
    from covr_bench.launch.cluster import Needs
    from covr_bench.run.session import Session

LOOK_EVERY_S = 1.0
KILL_S = 5.0  # to wait for an actor to kill its run
DIED = -1  # status of a run that has to be started again, though no signal killed its process


class RemoteRun:
    """A job that an actor executes; keeps the job up to date with what the run says.

    Attributes:
        job: The job.
        place: The actor, of `launch.place.Place`.
        needs: What the actor takes of its node.
        lives: Whether the actor can execute another run; known once this one has ended.
        cause: Why the run died, in words.
        out_of_memory: Whether it died for want of memory.
    """

    descriptor: int | None = None  # its end cannot be waited for by the system

    def __init__(self, job: Job, place: Any, needs: Needs, session: Session, patience_s: float) -> None:
        import ray

        self.ray = ray
        self.job, self.place, self.needs = job, place, needs
        self.lives = self.out_of_memory = False
        self.cause = ""
        self._warned = list(job.warnings)  # before
        self.result = place.run.remote(job.config, session, os.getcwd(), patience_s)
        self._look: Any = None
        self._looked = time.monotonic()
        job.state, job.started, job.error, job.progress = State.RUNNING, time.monotonic(), "", {}

    def ended(self) -> bool:
        """Whether its process has ended, or its actor died."""
        if self.ray.wait([self.result], timeout=0)[0]:
            return True
        self._hear_of_it()
        return False

    def status(self) -> int:
        """The exit status of its process, which has ended; negative if it died: by a signal, or with its actor.

        One that checkpointed and stopped though nobody asked it to has died too: its node is about to go, perhaps.
        """
        try:
            report: Report = self.ray.get(self.result)
        except self.ray.exceptions.OutOfMemoryError:
            self.out_of_memory, self.cause = True, "killed by Ray, whose node ran out of memory"
            return DIED
        except self.ray.exceptions.RayTaskError as error:  # a fault of ours, or an environment that is not the same
            self.job.error = str(error)
            return FAILED
        except self.ray.exceptions.RayError as error:
            self.cause = _reason(error)
            return DIED
        self.lives = True
        self._hear(report)
        self.out_of_memory = report.out_of_memory
        if report.status < 0:
            self.cause = _killed(-report.status, report.out_of_memory)
        elif report.status == INTERRUPTED and not self._was_asked():
            self.cause = "it was stopped by a signal that this command did not send"
            return DIED
        return report.status

    def _was_asked(self) -> bool:
        """Whether this command or `covr-bench cancel` wanted its end, or the run is another process's."""
        job = self.job
        if job.state is State.STOPPING or is_cancelled(job.config.out, job.config.run_id):
            return True
        holding = lease_of(job)
        return holding is not None and holding.lives() is not False

    def stop(self) -> None:
        """Ask it to checkpoint and end."""
        self.job.state = State.STOPPING
        self.place.stop.remote()

    def kill(self) -> None:
        """End it without a checkpoint."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.get(self.place.kill.remote(), timeout=KILL_S)
        self.drop()
        self.ray.wait([self.result], timeout=KILL_S)

    def drop(self) -> None:
        """End the actor; a run that is still in it checkpoints and ends."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(self.place)

    def _hear_of_it(self) -> None:
        """Ask the actor about once a second how its run goes on, without waiting for the answer."""
        if self._look is not None:
            if self.ray.wait([self._look], timeout=0)[0]:
                with contextlib.suppress(self.ray.exceptions.RayError):
                    self._hear(self.ray.get(self._look))
                self._look = None
        elif time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            self._look = self.place.look.remote()

    def _hear(self, report: Report) -> None:
        self.job.error = report.error
        self.job.warnings = [*self._warned, *report.warnings]
        self.job.progress = report.progress or self.job.progress


def _killed(signum: int, out_of_memory: bool) -> str:
    import signal

    name = signal.Signals(signum).name
    return f"killed by {name}, its node being out of memory" if out_of_memory else f"killed by {name} (out of memory?)"


def _reason(error: Exception) -> str:
    """Why an actor died: the sentence of Ray's message that says so."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("The actor is dead because")), lines[0] if lines else "")
    return f"its actor died ({told.partition(' Worker exit type')[0] or type(error).__name__})"
