"""Runs on this machine: one process each, so that a crash, a leak or a NaN stays in its run."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from covr_bench.run.worker import FINISHED, INTERRUPTED
from results.store import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from covr_bench.config.run_config import RunConfig

    Messages = queue.Queue[tuple["Job", dict[str, Any]]]

STOP_PATIENCE_S = 120.0  # a checkpoint of a large replay, a slow disk


@dataclass
class Job:
    """One run and what is known of it while it runs.

    state: `waiting`, `running`, `stopping`, `finished`, `interrupted` or `failed`. progress: the worker's newest
    message. warnings: what it told the user.
    """

    config: RunConfig
    state: str = "waiting"
    retried: bool = False
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    progress: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    listener: threading.Thread | None = None
    started: float = 0.0

    @property
    def log(self) -> Path:
        """What the worker and its libraries print."""
        return run_folder(self.config.out, self.config.run_id) / "worker.log"


def launch(
    configs: Iterable[RunConfig],
    workers: int,
    command: str,
    facts: dict[str, Any],
    watch: Callable[[list[Job]], None] = lambda jobs: None,
) -> list[Job]:
    """Execute runs, `workers` at a time, and return every job with its outcome.

    command, facts: for each run's provenance, what only this process knows. watch: called a few times a second.
    A worker killed by a signal is started again once, from its checkpoint. KeyboardInterrupt stops all workers after
    they have checkpointed and is raised again; a second one kills them.
    """
    jobs = [Job(config) for config in configs]
    messages: Messages = queue.Queue()
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            free = workers - sum(job.state == "running" for job in jobs)
            for job in [job for job in jobs if job.state == "waiting"][:free]:
                _start(job, {"command": command, "facts": facts}, messages)
            _collect(messages, timeout=0.2)
            for job in jobs:
                if job.process and job.process.poll() is not None:
                    _settle(job, messages)
            watch(jobs)
    except BaseException:
        _stop_all(jobs, messages, watch)
        raise
    return jobs


def _start(job: Job, context: dict[str, Any], messages: Messages) -> None:
    threads = str(job.config.threads)
    # llvmpipe's own threads would compete with the runs beside this one.
    env = os.environ | {"OMP_NUM_THREADS": threads, "LP_NUM_THREADS": str(job.config.threads - 1)}
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "covr_bench.run.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=env,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
    except OSError as error:
        job.state = "failed"
        job.error = f"cannot start it in {job.log.parent}: {error.strerror}. Mend that folder, or give another --out."
        return
    assert process.stdin
    # One that died at once is no error here: its exit status tells.
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        json.dump({"config": job.config.as_dict(), **context}, stdin)
    job.process, job.state, job.started = process, "running", time.monotonic()
    job.listener = threading.Thread(target=_listen, args=(job, process, messages), daemon=True)
    job.listener.start()


def _listen(job: Job, process: subprocess.Popen[str], messages: Messages) -> None:
    assert process.stdout
    with process.stdout as stream:
        for line in stream:
            if line.endswith("\n"):  # a killed worker's last line may be cut short
                messages.put((job, json.loads(line)))


def _collect(messages: Messages, timeout: float) -> None:
    try:
        while True:
            job, message = messages.get(timeout=timeout) if timeout else messages.get_nowait()
            timeout = 0
            if "error" in message:
                job.error = message["error"]
            elif "warning" in message:
                job.warnings.append(message["warning"])
            else:
                job.progress = message
    except queue.Empty:
        return


def _settle(job: Job, messages: Messages) -> None:
    """The job's process has ended: what became of the run?"""
    code = _last_words(job, messages)
    if code == FINISHED:
        job.state = "finished"
    elif code == INTERRUPTED:
        job.state, job.error = "interrupted", "its process was asked to stop"
    elif code < 0 and not job.retried:
        job.state, job.retried = "waiting", True
    else:
        job.state = "failed"
        killed = f"killed by {signal.Signals(-code).name}, twice (out of memory?)" if code < 0 else ""
        job.error = killed or job.error or f"ended with status {code}; see {job.log}"


def _last_words(job: Job, messages: Messages) -> int:
    """The exit status of a job's ended process, all its messages read."""
    assert job.process
    assert job.listener
    code = job.process.wait()
    job.listener.join(timeout=5)
    _collect(messages, timeout=0)
    job.process = job.listener = None
    return code


def _stop_all(jobs: list[Job], messages: Messages, watch: Callable[[list[Job]], None]) -> None:
    running = [job for job in jobs if job.process]
    for job in running:
        assert job.process
        job.process.terminate()
        job.state = "stopping"
    watch(jobs)
    deadline = time.monotonic() + STOP_PATIENCE_S
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        for job in running:
            assert job.process
            job.process.wait(max(deadline - time.monotonic(), 0))
    for job in running:
        assert job.process
        job.process.kill()  # does nothing to one that has ended
        if job.process.wait() < 0:
            _last_words(job, messages)
            job.state, job.error = "interrupted", "it did not stop in time and was killed; its last checkpoint stays"
        else:
            _settle(job, messages)
    watch(jobs)
