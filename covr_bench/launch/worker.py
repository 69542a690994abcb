"""The process of one run, while it lives."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, TextIO

from covr_bench.launch.base import State
from covr_bench.run.child import python_child
from covr_bench.run.messages import message_in
from results.holding import LAUNCHER_VARIABLE

if TYPE_CHECKING:
    from covr_bench.launch.base import Job
    from covr_bench.run.session import Session


class Worker:
    """Executes a job in a process of its own, and keeps the job up to date with what that says.

    Raises OSError if it cannot be started.
    """

    def __init__(self, job: Job, session: Session) -> None:
        self.job = job
        job.log.parent.mkdir(parents=True, exist_ok=True)
        threads = str(job.config.threads)
        # llvmpipe's own threads would compete with the runs beside this one.
        env = {LAUNCHER_VARIABLE: "local"} | os.environ
        env |= {"OMP_NUM_THREADS": threads, "LP_NUM_THREADS": str(job.config.threads - 1)} | job.place
        read, write = os.pipe()
        self.listener = threading.Thread(target=listen, args=(job, os.fdopen(read)), daemon=True)
        self.listener.start()  # ends when the other end of the pipe is closed
        with os.fdopen(write, "w") as channel, tempfile.TemporaryFile("w+") as order, job.log.open("a") as log:
            json.dump({"config": job.config.as_dict(), "session": asdict(_placed(session, job))}, order)
            order.seek(0)
            self.process = subprocess.Popen(
                python_child("covr_bench.run.worker"),
                stdin=order,
                stdout=channel,
                stderr=log,
                env=env,
                start_new_session=True,  # Ctrl-C is the launcher's to pass on
            )
        self.descriptor = end_descriptor(self.process.pid)
        job.state, job.started = State.RUNNING, time.monotonic()

    def ended(self) -> bool:
        """Whether its process has ended."""
        return self.process.poll() is not None

    def status(self) -> int:
        """The exit status of its process, which has ended, all that it said being heard."""
        status = self.process.wait()
        close(self.descriptor)
        self.descriptor = None
        self.listener.join(timeout=5)
        return status

    def stop(self) -> None:
        """Ask it to checkpoint and end."""
        self.job.state = State.STOPPING
        self.process.terminate()

    def kill(self) -> None:
        """End it without a checkpoint."""
        self.process.kill()
        self.process.wait()


def end_descriptor(pid: int) -> int | None:
    """A descriptor that can be waited for until that child ends; None where the system has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or one older than 5.3
        return None


def close(descriptor: int | None) -> None:
    """Close what `end_descriptor` opened."""
    if descriptor is not None:
        os.close(descriptor)


def wait_for_one(descriptors: Sequence[int | None], seconds: float) -> None:
    """Until one of these children has ended, but no longer than that."""
    known = [descriptor for descriptor in descriptors if descriptor is not None]
    if len(known) == len(descriptors):
        wait(known, timeout=seconds)
    else:
        time.sleep(seconds)


def _placed(session: Session, job: Job) -> Session:
    """With the place in the run's provenance."""
    return replace(session, facts=dict(session.facts) | {name.lower(): value for name, value in job.place.items()})


def listen(job: Job, messages: TextIO) -> None:
    """Keep a job up to date with what its run says, until the run closes its end."""
    with messages:
        for line in messages:
            message = message_in(line) if line.endswith("\n") else None  # a killed worker's last may be cut short
            if message is not None:
                job.hear(message)
