"""What a node of a cluster does for runs: it is looked at, and executes them as the local launcher does.

Ray makes an actor of `Place`.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job
from covr_bench.launch.memory import OomWatch, peak_of
from covr_bench.launch.worker import Worker, wait_for_one
from covr_bench.launch.writers import wait_for_writer
from covr_bench.run import gpus
from covr_bench.run.session import FAILED, INTERRUPTED

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from covr_bench.run.session import Session

LOOK_S = 0.5
SHARE = "every node must see that folder under the same path, such as one on NFS; give --out a folder that they share"


@dataclass(frozen=True)
class Report:
    """What a place knows of its run.

    Attributes:
        status: The exit status of the run's process, negative if a signal killed it; meaningless while it runs.
        error, warnings, progress: As of `launch.base.Job`.
        out_of_memory: Whether the system killed the process for want of memory.
    """

    status: int = FAILED
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    progress: dict[str, Any] = field(default_factory=dict)
    out_of_memory: bool = False


class Place:
    """Executes runs, one after the other, each in a process of its own.

    `run` blocks in one thread; the other methods answer in others meanwhile.
    """

    def __init__(self) -> None:
        os.environ["COVR_BENCH_JOB"] = _actor()
        self._asked = threading.Event()  # to stop, for good
        self._change = threading.Lock()
        self._job: Job | None = None
        self._worker: Worker | None = None

    def run(self, config: RunConfig, session: Session, folder: str, patience_s: float) -> Report:
        """Execute a run, and return when its process has ended.

        Args:
            config: The run, whose folder exists.
            session: Goes into its provenance.
            folder: The working directory of whoever asks for the run, which relative paths start from.
            patience_s: How long a process that still writes the run, on a node that was given up, is waited for.
        """
        self._job = None
        try:
            os.chdir(folder)
        except OSError as error:
            return Report(error=f"cannot work in {folder} on {socket.gethostname()}: {error.strerror}")
        try:
            gpu = gpus.inventory().gpus[0].environment() if config.device == "cuda" else {}
        except UserError as error:
            return Report(error=f"{socket.gethostname()}: {error}")
        job = Job(config, place=gpu)
        if not job.log.parent.is_dir():
            return Report(error=f"{socket.gethostname()} does not see {job.log.parent}: {SHARE}")
        wait_for_writer(job, patience_s, lambda: self._asked.wait(LOOK_S))
        oom = OomWatch()
        try:
            with self._change:
                if self._asked.is_set():
                    return Report(INTERRUPTED)
                self._job, self._worker = job, Worker(job, session)
        except OSError as error:
            return Report(error=f"cannot start it in {job.log.parent} on {socket.gethostname()}: {error.strerror}")
        return self._see_to_its_end(self._worker, oom)

    def look(self) -> Report:
        """What is known of the run that it executes."""
        job = self._job
        if job is None:
            return Report()
        return Report(0, job.error, list(job.warnings), dict(job.progress))

    def stop(self) -> None:
        """Ask the run to checkpoint and end. Nothing runs here any more afterwards."""
        self._asked.set()
        with self._change:
            if self._worker:
                self._worker.stop()

    def kill(self) -> None:
        """End the run without a checkpoint."""
        self._asked.set()
        with self._change:
            if self._worker:
                self._worker.kill()

    def _see_to_its_end(self, worker: Worker, oom: OomWatch) -> Report:
        while not worker.ended():
            wait_for_one([worker.descriptor], LOOK_S)
        status, job = worker.status(), worker.job
        with self._change:
            self._worker = None
        return Report(status, job.error, list(job.warnings), dict(job.progress), oom.explains(status, peak_of(job)))


def _actor() -> str:
    """What Ray calls the actor in this process, as in `ray list actors`."""
    import ray

    return str(ray.get_runtime_context().get_actor_id())


@dataclass(frozen=True)
class Probe:
    """What a node must find where it looks.

    Attributes:
        file: Written by the launcher; the node writes another beside it, and takes it away.
        token: What is in it.
        folder: The working directory of the launcher.
        codes: Hashes of the agents' source by their names, see `kit.code`.
    """

    file: str
    token: str
    folder: str
    codes: dict[str, str]

    def answer(self) -> str:
        """On a node: what stands in the way of runs there; empty if nothing does."""
        from covr_bench.config import registry
        from covr_bench.kit.code import code_hash

        out = Path(self.file).parent
        try:
            found = Path(self.file).read_text()
            mine = Path(f"{self.file}-{secrets.token_hex(4)}")
            mine.touch()
            mine.unlink()
        except OSError as error:
            return f"cannot use {out} ({error.strerror}): {SHARE}"
        if found != self.token:
            return f"has another folder at {out}: {SHARE}"
        if not Path(self.folder).is_dir():
            return f"has no folder {self.folder}, where this command was given: {SHARE}"
        os.chdir(self.folder)
        others = [ref for ref, code in self.codes.items() if code_hash(ref, registry.module_of(ref)) != code]
        return f"has other code of {', '.join(others)}: install the same covr-bench on all nodes" if others else ""
