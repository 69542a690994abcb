"""Runs on this machine: one process each, so that a crash, a leak or a NaN stays in its run."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

from covr_bench.config import RunConfig
from covr_bench.worker import FINISHED, INTERRUPTED
from results.store import StoreError, run_folder

STOP_PATIENCE_S = 120.0  # a checkpoint of a large replay, a slow disk


@dataclass
class Job:
    """One run and what is known of it while it runs.

    state: `waiting`, `running`, `finished`, `interrupted` or `failed`. progress: the worker's newest message.
    """

    config: RunConfig
    state: str = "waiting"
    retried: bool = False
    error: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    log: IO[str] | None = None
    started: float = 0.0


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
    messages: queue.Queue[tuple[Job, dict[str, Any]]] = queue.Queue()
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            free = workers - sum(job.state == "running" for job in jobs)
            for job in [job for job in jobs if job.state == "waiting"][:free]:
                _start(job, {"command": command, "facts": facts}, messages)
            _collect(messages, timeout=0.2)
            for job in jobs:
                if job.process and job.process.poll() is not None:
                    _collect(messages, timeout=0)
                    _settle(job)
            watch(jobs)
    except BaseException:
        _stop_all(jobs, messages)
        watch(jobs)
        raise
    return jobs


def _start(job: Job, context: dict[str, Any], messages: queue.Queue[tuple[Job, dict[str, Any]]]) -> None:
    folder = run_folder(job.config.out, job.config.run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        job.log = (folder / "worker.log").open("a")
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}. Choose another folder with --out.") from error
    threads = str(job.config.threads)
    # llvmpipe's own threads would compete with the runs beside this one.
    env = os.environ | {"OMP_NUM_THREADS": threads, "LP_NUM_THREADS": str(job.config.threads - 1)}
    job.process = subprocess.Popen(
        [sys.executable, "-m", "covr_bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=job.log,
        text=True,
        env=env,
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    assert job.process.stdin and job.process.stdout
    try:
        json.dump({"config": job.config.as_dict(), **context}, job.process.stdin)
        job.process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; its exit status tells
    job.state, job.started = "running", time.monotonic()
    threading.Thread(target=_listen, args=(job, job.process.stdout, messages), daemon=True).start()


def _listen(job: Job, stream: IO[str], messages: queue.Queue[tuple[Job, dict[str, Any]]]) -> None:
    for line in stream:
        if line.startswith("{"):
            messages.put((job, json.loads(line)))


def _collect(messages: queue.Queue[tuple[Job, dict[str, Any]]], timeout: float) -> None:
    try:
        while True:
            job, message = messages.get(timeout=timeout) if timeout else messages.get_nowait()
            timeout = 0
            if "error" in message:
                job.error = message["error"]
            else:
                job.progress = message
    except queue.Empty:
        return


def _settle(job: Job) -> None:
    """The job's process has ended: what became of the run?"""
    assert job.process is not None
    code = job.process.returncode
    job.process = None
    if job.log:
        job.log.close()
    if code == FINISHED:
        job.state = "finished"
    elif code == INTERRUPTED:
        job.state = "interrupted"
    elif code < 0 and not job.retried:
        job.state, job.retried = "waiting", True
    else:
        job.state = "failed"
        where = run_folder(job.config.out, job.config.run_id) / "worker.log"
        killed = f"killed by {signal.Signals(-code).name}, twice (out of memory?)" if code < 0 else ""
        job.error = killed or job.error or f"ended with status {code}; see {where}"


def _stop_all(jobs: list[Job], messages: queue.Queue[tuple[Job, dict[str, Any]]]) -> None:
    running = [job for job in jobs if job.process]
    for job in running:
        assert job.process is not None
        job.process.terminate()
    deadline = time.monotonic() + STOP_PATIENCE_S
    for job in running:
        assert job.process is not None
        try:
            job.process.wait(max(deadline - time.monotonic(), 0))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            job.process.kill()
            job.process.wait()
        _collect(messages, timeout=0)
        if job.process.returncode == -signal.SIGKILL:
            job.process, job.state, job.error = None, "failed", "did not stop in time and was killed"
        else:
            _settle(job)
