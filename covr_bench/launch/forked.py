"""Many short runs on this machine: processes forked from this one, which has imported everything, for CPUs alone.

To start a run takes milliseconds instead of seconds. What crashes or leaks stays in its run all the same; but a
library that keeps threads or a GPU in this process would not survive the fork, so nothing else should be done here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.errors import UserError
from covr_bench.launch.base import LauncherSpec, State
from covr_bench.launch.local import LocalLauncher
from covr_bench.launch.local import Settings as LocalSettings
from covr_bench.launch.worker import close, end_descriptor, listen
from results.holding import LAUNCHER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from covr_bench.launch.base import Job, Watch
    from covr_bench.launch.seats import Placement
    from covr_bench.run.session import Session


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings(LocalSettings):
    """Those of the local launcher."""


class ForkedLauncher(LocalLauncher):
    """A forked process for each run. Raises UserError for runs on a GPU."""

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """See `launch.base.Launcher`."""
        if any(job.config.device != "cpu" for job in jobs):
            raise UserError("the forked launcher runs on CPUs only: give --device cpu, or --launcher local")
        _import_all(jobs)
        super().run(jobs, workers, session, watch)

    def share_gpus(self, per_gpu: int, backend: str) -> Placement:
        """Raises UserError."""
        raise UserError("the forked launcher runs on CPUs only: give --launcher local, or leave --per-gpu out")

    def start(self, job: Job, session: Session) -> ForkedWorker:
        """Raises OSError if it cannot be started."""
        return ForkedWorker(job, session)


class ForkedWorker:
    """Executes a job in a process forked from this one; otherwise as `launch.worker.Worker`."""

    def __init__(self, job: Job, session: Session) -> None:
        self.job = job
        job.log.parent.mkdir(parents=True, exist_ok=True)
        log = job.log.open("a")
        read, write = os.pipe()
        parent = os.getpid()
        self._status: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            os.close(read)
            _execute(job, session, write, log.fileno(), parent)
        os.close(write)
        log.close()
        self._listener = threading.Thread(target=listen, args=(job, os.fdopen(read)), daemon=True)
        self._listener.start()
        self.descriptor = end_descriptor(self._pid)
        job.state, job.started = State.RUNNING, time.monotonic()

    def ended(self) -> bool:
        """Whether its process has ended."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    def status(self) -> int:
        """The exit status of its process, all that it said being heard."""
        while not self.ended():
            time.sleep(0.01)
        close(self.descriptor)
        self.descriptor = None
        self._listener.join(timeout=5)
        return self._status or 0

    def stop(self) -> None:
        """Ask it to checkpoint and end."""
        self.job.state = State.STOPPING
        os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it without a checkpoint."""
        os.kill(self._pid, signal.SIGKILL)
        self.status()


def _import_all(jobs: Sequence[Job]) -> None:
    import torch._dynamo  # noqa: F401  (by torch itself at the first optimiser, in two seconds of each run)

    import covr_bench.run.train
    import covr_bench.run.worker  # noqa: F401
    from covr_bench.config import registry

    for agent in {job.config.agent for job in jobs}:
        registry.agent(agent)
    for suite in {job.config.suite for job in jobs}:
        registry.suite(suite)


def _execute(job: Job, session: Session, channel: int, log: int, parent: int) -> None:
    """In the child: the run, to its end and that of the process."""
    code = 1
    try:
        os.setsid()  # Ctrl-C is the launcher's to pass on
        os.dup2(log, 1)
        os.dup2(log, 2)
        # The launcher's own may stand for a table on the terminal, whose locks another thread held at the fork.
        sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
        os.environ.setdefault(LAUNCHER_VARIABLE, "forked")
        os.environ["LP_NUM_THREADS"] = str(job.config.threads - 1)
        from covr_bench.run.child import end_with_parent
        from covr_bench.run.worker import Stopping, execute

        stopping = Stopping()
        end_with_parent(parent)
        with os.fdopen(channel, "w") as messages:
            code = execute(job.config, session, messages, stopping)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


LAUNCHER = LauncherSpec("forked", Settings, ForkedLauncher, "Forked processes on this machine, for many short runs.")
