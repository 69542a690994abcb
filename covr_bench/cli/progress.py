"""What a person sees while runs go on: one line per running job."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from covr_bench.launch.local import Job

LINES_EVERY_S = 30.0


class Progress:
    """Shows jobs on a terminal as a live table, elsewhere (a log, CI) as a line a job every half minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self.told: dict[str, str] = {}
        self.warned: dict[str, int] = {}  # warnings told
        self.printed = time.monotonic()

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def watch(self, jobs: list[Job]) -> None:
        """Show the jobs as they are now; called a few times a second."""
        self._tell_changes(jobs)
        running = [job for job in jobs if job.state == "running"]
        if self.live:
            self.live.update(_table(running, jobs))
        elif time.monotonic() - self.printed > LINES_EVERY_S:
            self.printed = time.monotonic()
            for job in running:
                self.console.print("  ".join(_cells(job)), highlight=False, soft_wrap=True)

    def _tell_changes(self, jobs: list[Job]) -> None:
        for job in jobs:
            for text in job.warnings[self.warned.get(job.config.run_id, 0) :]:
                self.console.print(f"{job.config.run_id}: {text}", highlight=False, markup=False, soft_wrap=True)
            self.warned[job.config.run_id] = len(job.warnings)
            state = "started again, its process was killed" if job.retried and job.state == "running" else job.state
            if state == self.told.get(job.config.run_id) or state in ("waiting", "running"):
                continue
            self.told[job.config.run_id] = state
            extra = ""
            if state == "finished":
                extra = f" after {_duration(time.monotonic() - job.started)}, return {_shown(job)}"
            elif state == "stopping":
                extra = ": writing a checkpoint"
            elif state in ("failed", "interrupted"):
                extra = f": {job.error.strip().splitlines()[-1]}"
            self.console.print(f"{job.config.run_id} {state}{extra}", highlight=False, markup=False, soft_wrap=True)


def _table(running: list[Job], jobs: list[Job]) -> Table:
    table = Table.grid(padding=(0, 2))
    for job in running:
        done = job.progress.get("env_steps", 0)
        name, *cells = _cells(job)
        table.add_row(name, ProgressBar(job.config.env_steps, done, width=20), *cells)
    ended = sum(job.state in ("finished", "failed", "interrupted") for job in jobs)
    table.add_row(f"[dim]{ended} of {len(jobs)} runs ended[/dim]")
    return table


def _cells(job: Job) -> tuple[str, ...]:
    """Name, steps, speed, last return and time left of a running job."""
    progress, total = job.progress, job.config.env_steps
    if not progress:
        return (job.config.run_id, "starting")
    done, speed = progress["env_steps"], progress["env_steps_per_s"]
    left = _duration((total - done) / speed) if speed > 0 else "?"
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
