"""A launcher of your own: covr-bench run --suite catch --budget smoke --launcher examples/launcher_plugin.py

It executes runs in this very process, one after the other, where a debugger's breakpoints hold.
"""

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.launch.base import LauncherSpec, State
from covr_bench.run.worker import work


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    at_most: int = 0  # runs to execute, the others are left for another time; 0: all. Try --set-launcher at_most=1


class InProcess:
    """Runs in this process; Ctrl-C lets the running one checkpoint, a second one ends it at once."""

    def __init__(self, settings):
        self.settings = settings

    def run(self, jobs, workers, session, watch):
        for number, job in enumerate(jobs):
            if self.settings.at_most and number >= self.settings.at_most:
                job.state, job.error = State.INTERRUPTED, "left for another time"
            else:
                self.execute(job, jobs, session, watch)
            watch(jobs)

    def execute(self, job, jobs, session, watch):
        asked = []  # to stop

        def say(message):  # called by the run about once a second
            job.hear(message)
            try:
                watch(jobs)
            except KeyboardInterrupt as stop:
                if asked:
                    raise
                job.state = State.STOPPING
                asked.append(stop)

        job.state = State.RUNNING
        job.end(work(job.config, session, stop=lambda: bool(asked), say=say))
        if asked:
            raise asked[0]


LAUNCHER = LauncherSpec("in_process", Settings, InProcess, "In this process, one run after the other.")
