"""A task of an array of Slurm: one run, by the local launcher, so that it is the same run as anywhere else.

Its order comes as JSON on standard input. SIGTERM, SIGUSR1 or SIGUSR2 ask it to checkpoint. If Slurm sent it as a
warning, before the time limit or a preemption, the task asks for another turn, in which the run goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from covr_bench.config.run_config import RunConfig
from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job, State, Watch
from covr_bench.launch.execute import execute
from covr_bench.launch.local import LocalLauncher, Settings
from covr_bench.launch.memory import memory_text, memory_to_retry
from covr_bench.launch.slurm_array import Told
from covr_bench.launch.slurm_queue import Queue, QueueError, bytes_of
from covr_bench.launch.stopping import heeding_signals
from covr_bench.launch.writers import wait_for_writer
from covr_bench.run.session import FAILED, FINISHED, INTERRUPTED, Session

TICK_S = 0.5
HELD_FOR_S = 600.0  # a large checkpoint on a slow folder, and a lease that nobody beats
STOP_PATIENCE_S = 3600.0  # Slurm kills sooner, but for a warning long before the end
MOST_FRUITLESS = 3  # turns without a step: the time limit is too short for this run


class Patient(LocalLauncher):
    """The local launcher, but it waits while this task's process of a turn before may still write its checkpoint.

    Slurm decides how long a checkpoint may take, and sends SIGTERM both as a warning and at the end: one is heeded.
    """

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """See `launch.base.Launcher`."""
        asked = False

        def watch_once(jobs: Sequence[Job]) -> None:
            nonlocal asked
            try:
                watch(jobs)
            except KeyboardInterrupt:
                if not asked:
                    asked = True
                    raise

        for job in jobs:
            wait_for_writer(job, HELD_FOR_S, lambda: _pause(lambda: watch_once(jobs)))
        super().run(jobs, workers, session, watch_once)

    def _out_of_memory(self, job: Job, peak: int, running: int) -> None:
        """A task keeps the memory that it was given: the run needs another."""
        job.state, job.memory = State.FAILED, memory_to_retry(peak, _memory_given())
        job.error = memory_text(peak, self._oom.limit)


def _memory_given() -> int:
    """Bytes that Slurm gave this task; 0 if it did not say."""
    env = os.environ
    if node := bytes_of(env.get("SLURM_MEM_PER_NODE", "")):
        return node
    return bytes_of(env.get("SLURM_MEM_PER_CPU", "")) * int(env.get("SLURM_CPUS_ON_NODE") or 1)


def _pause(watch: Callable[[], None]) -> None:
    watch()
    time.sleep(TICK_S)


class Teller:
    """Keeps what is told of the run up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path
        before = Told.read(path) or Told()
        turns = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.told = Told(warnings=before.warnings, restarts=max(turns, before.restarts), fruitless=before.fruitless + 1)
        self.earlier = self.told
        self._write()
        self.job: Job | None = None

    def watch(self, jobs: Sequence[Job]) -> None:
        """Write what is new of the job, which is the only one."""
        (self.job,) = jobs
        self.tell(str(self.job.state) if self.job.state.ended else "running", self.job.error)

    def tell(self, outcome: str, error: str) -> None:
        """Write what is new."""
        told = replace(self.told, outcome=outcome)
        if outcome != "running":
            memory = self.job.memory if self.job else 0
            told = replace(told, error=error, progress=self.job.progress if self.job else {}, memory=memory)
        if self.job:
            warnings = dict.fromkeys([*self.earlier.warnings, *self.job.warnings])
            fruitless = 0 if self.job.progress else self.earlier.fruitless
            restarts = self.earlier.restarts + self.job.restarts
            told = replace(told, warnings=list(warnings), restarts=restarts, fruitless=fruitless)
        if told != self.told:
            self.told = told
            self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk, a folder that is away: the run says what it makes of it
            self.told.write(self.path)


def main() -> int:
    order: dict[str, Any] = json.load(sys.stdin)
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, lambda *_: signal.raise_signal(signal.SIGTERM))
    config, session = RunConfig.from_dict(order["config"]), Session(**order["session"])
    teller = Teller(Path(order["told"]))
    launcher = Patient(Settings(stop_patience_s=STOP_PATIENCE_S))
    try:
        with heeding_signals():  # also while it looks for what draws here
            execute(launcher, [config], 1, _seen_here(session), [teller.watch])
    except KeyboardInterrupt:
        _ask_again(teller)
    except Exception as error:
        teller.tell("failed", f"{type(error).__name__}: {error}")
        raise
    return {"finished": FINISHED, "failed": FAILED}.get(teller.told.outcome, INTERRUPTED)


def _seen_here(session: Session) -> Session:
    """With this node's OpenGL renderer in the place of that of the machine where the command was given."""
    if "gl_backend" not in session.facts:
        return session
    from covr_bench.run.machine import rendering

    return Session(session.command, dict(session.facts) | rendering())


def _ask_again(teller: Teller) -> None:
    """After a wish to stop: another turn, unless the run has an outcome or Slurm itself ends or repeats the task."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # that is how Slurm ends a task, also for its next turn
    if teller.job and teller.job.state in (State.FINISHED, State.FAILED):
        return
    teller.tell("interrupted", teller.job.error if teller.job and teller.job.error else "stopped before its first step")
    if teller.told.fruitless >= MOST_FRUITLESS:
        teller.tell(
            "failed", f"{teller.told.error}, {MOST_FRUITLESS} times: give it more time, --set-launcher time=..."
        )
        return
    job = os.environ["COVR_BENCH_JOB"]
    try:
        if Queue().state(job) == "RUNNING":  # not CANCELLED, nor about to be put back by Slurm itself
            Queue().requeue(job)
    except (QueueError, UserError) as error:  # UserError: a node without Slurm's commands
        print(f"cannot ask Slurm for another turn: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
