"""What a person sees while runs go on: one line per running job."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from covr_bench.launch.base import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

    from covr_bench.launch.base import Job

LINES_EVERY_S = 30.0
AFTERWARDS = "`covr-bench status` shows them, `covr-bench cancel` ends them, the same command waits for them."
LONG_STOP_S = 5.0  # a checkpoint takes less; what takes longer is worth a word


class Progress:
    """Shows jobs on a terminal as a live table, elsewhere (a log, CI) as a line a job every half minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self.told: dict[str, tuple[State, int, bool]] = {}
        self.warned: dict[str, int] = {}  # warnings told
        self.stopping: dict[str, float] = {}  # since when
        self.waiting = 0
        self.submitted: Counter[str] = Counter()  # by where they are
        self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            if self.live:
                self.live.stop()
            for place, count in self.submitted.items():
                go = "runs go" if count > 1 else "run goes"
                self._say(f"{count} {go} on without this command, {place}. {AFTERWARDS}")
            if isinstance(error, KeyboardInterrupt) and self.waiting:
                self._say(f"{self.waiting} run{'s' if self.waiting > 1 else ''} not started")

    def watch(self, jobs: Sequence[Job]) -> None:
        """Show the jobs as they are now; called a few times a second."""
        self.waiting = sum(job.state is State.WAITING for job in jobs)
        self.submitted = Counter(job.error for job in jobs if job.state is State.SUBMITTED)
        with contextlib.suppress(OSError):  # a terminal that was closed, whose SIGHUP stops the runs in good order
            for job in jobs:
                self._tell_warnings(job)
                self._tell_change(job)
            self._show([job for job in jobs if job.state is State.RUNNING], jobs)

    def _show(self, running: list[Job], jobs: Sequence[Job]) -> None:
        if self.live:
            self.live.update(_table(running, jobs))
        elif time.monotonic() - self.printed > LINES_EVERY_S:
            self.printed = time.monotonic()
            for job in running:
                self.console.print("  ".join(_cells(job)), highlight=False, soft_wrap=True)

    def _tell_warnings(self, job: Job) -> None:
        for text in job.warnings[self.warned.get(job.config.run_id, 0) :]:
            self._say(f"{job.config.run_id}: {text}")
        self.warned[job.config.run_id] = len(job.warnings)

    def _tell_change(self, job: Job) -> None:
        now = (job.state, job.restarts, self._stops_long(job))
        if now != self.told.get(job.config.run_id):
            self.told[job.config.run_id] = now
            if news := _news(job, long=now[2]):
                self._say(f"{job.config.run_id} {news}")

    def _stops_long(self, job: Job) -> bool:
        if job.state is not State.STOPPING:
            return False
        return time.monotonic() - self.stopping.setdefault(job.config.run_id, time.monotonic()) > LONG_STOP_S

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _news(job: Job, long: bool) -> str:
    """What is told of a job that has just come into its state; empty for what the table shows. long: in stopping."""
    if job.state is State.FINISHED:
        return f"finished after {_duration(time.monotonic() - job.started)}, return {_shown(job)}"
    if job.state in (State.FAILED, State.INTERRUPTED):
        return f"{job.state}: {job.last_words}"
    if job.state is State.STOPPING:
        return f"stopping: {'it must first end a long update' if long else 'writing a checkpoint'}"
    return "started again, its process was killed" if job.state is State.RUNNING and job.restarts else ""


def _table(running: list[Job], jobs: Sequence[Job]) -> Table:
    table = Table.grid(padding=(0, 2))
    for job in running:
        done = job.progress.get("env_steps", 0)
        name, *cells = _cells(job)
        table.add_row(name, ProgressBar(job.config.env_steps, done, width=20), *cells)
    ended = sum(job.state.ended for job in jobs)
    table.add_row(f"[dim]{ended} of {len(jobs)} runs ended[/dim]")
    return table


def _cells(job: Job) -> tuple[str, ...]:
    """Name, steps, speed, last return and time left of a running job."""
    progress, total = job.progress, job.config.env_steps
    if not progress:
        return (job.config.run_id, "starting")
    done, speed = progress["env_steps"], progress["env_steps_per_s"]
    left = _duration(max(total - done, 0) / speed) if speed > 0 else "?"
    phase = " (evaluating)" if progress["phase"] == "evaluate" else ""
    return (
        job.config.run_id,
        f"{done:,}/{total:,} env steps{phase}",
        f"{speed:.1f}/s",
        f"return {_shown(job)}",
        f"{left} left",
    )


def _shown(job: Job) -> str:
    """The newest return."""
    last = job.progress.get("last_return", math.nan)
    return "-" if math.isnan(last) else f"{last:.1f}"


def _duration(seconds: float) -> str:
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} d"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {secs:02d} s" if minutes else f"{secs} s"
