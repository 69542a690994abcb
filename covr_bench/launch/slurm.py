"""Runs as arrays of Slurm: one task each, requeued when it is preempted or comes to its time limit.

What has become of a run is read in the store and from the queue, never from Slurm's accounting, which not every cluster
has. A run whose task waits or runs already is not handed in again; so the same command, given twice, watches twice.
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt
from pydantic import AfterValidator, ConfigDict, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job, LauncherSpec, State, Watch
from covr_bench.launch.slurm_array import PREFIX, Array, handing_in, memory_needed, sweep
from covr_bench.launch.slurm_queue import Key, Queue, QueueError, Task, bytes_of
from covr_bench.launch.slurm_watch import Watched

if TYPE_CHECKING:
    from covr_bench.run.session import Session

TICK_S = 0.25
ENDS_WITHIN_S = 60.0  # twice the usual KillWait


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("should be one line")
    return text


def _time(text: str) -> str:
    if text and not re.fullmatch(r"\d+-\d+(:\d+){0,2}|\d+(:\d+){1,2}|UNLIMITED|INFINITE", text, re.IGNORECASE):
        raise ValueError('should be hours:minutes:seconds or days-hours, in quotes in a YAML file: time: "24:00:00"')
    return text


def _words(text: str) -> str:
    if any(not word.startswith("-") for word in shlex.split(_one_line(text))):
        raise ValueError('should be options of sbatch in their form with "=", such as --nodelist=n1 --exclusive')
    return text


Line = Annotated[str, AfterValidator(_one_line)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the Slurm launcher; those without a value are left to the cluster.

    Attributes:
        partition, account, qos, gres, mem, constraint: Options of sbatch.
        time: Time limit of a task, `24:00:00` or `2-12`; a run that needs more takes several turns.
        cpus_per_task: Cores of a task; 0 for as many as the run has threads.
        most: Tasks at a time; 0 for as many as the cluster allows.
        setup: Lines of the script before the run, such as `module load cuda`.
        extra: More options of sbatch, `--nodelist=n1 --exclusive`; they override all others.
        warn_s: Seconds before the time limit, or a preemption with grace, at which a run checkpoints and asks for
            another turn.
        wait: Whether the command stays and shows progress; otherwise it hands in and returns.
        on_stop: What Ctrl-C does while it waits: `leave` the tasks in Slurm, or `cancel` them after a checkpoint.
        poll_s: Seconds between two looks at the queue.
        settle_s: Seconds after which a task that left the queue without a word counts as killed; longer than the shared
            folder takes to show one node what another wrote.
    """

    partition: Line = ""
    time: Annotated[str, AfterValidator(_time)] = ""
    account: Line = ""
    qos: Line = ""
    gres: Line = ""
    cpus_per_task: NonNegativeInt = 0
    mem: Line = ""
    constraint: Line = ""
    most: NonNegativeInt = 0
    setup: str = ""
    extra: Annotated[str, AfterValidator(_words)] = ""
    warn_s: NonNegativeInt = 120  # a checkpoint of a large replay; Slurm may be a minute late
    wait: bool = True
    on_stop: Literal["leave", "cancel"] = "leave"
    poll_s: Annotated[float, Gt(0)] = 10.0
    settle_s: NonNegativeFloat = 60.0  # NFS shows a new file after at most acdirmax, 60 s

    def options(self, tasks: int, threads: int, memory: int = 0) -> dict[str, str | int | None]:
        """Options of sbatch for an array. memory: Bytes that its runs are known to need, if `mem` is less."""
        at_a_time = f"%{self.most}" if self.most else ""
        named: dict[str, str | int | None] = {
            "array": f"0-{tasks - 1}{at_a_time}",
            "signal": f"B:TERM@{self.warn_s}",
            "ntasks": 1,
            "cpus-per-task": self.cpus_per_task or threads,
        }
        for name in ("partition", "time", "account", "qos", "gres", "mem", "constraint"):
            if value := getattr(self, name):
                named[name] = value
        if memory > bytes_of(self.mem):
            named["mem"] = f"{math.ceil(memory / 2**20)}M"
        return named


class Silent(UserError):
    """Slurm does not answer now."""


class SlurmLauncher:
    """A task of an array for each run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def places(self, device: str) -> int:
        """How many tasks may run at a time, as far as the cluster's size says.

        Args:
            device: What the runs compute on, `cpu` or `cuda`.

        Raises:
            UserError: There is no Slurm here, or it does not answer.
        """
        if device == "cpu" and "gpu" in self.settings.gres:
            raise UserError(
                f"gres={self.settings.gres} asks for GPUs, and the runs compute on the CPU: give --device cuda, "
                "or leave gres out"
            )
        queue, partition = Queue(), self.settings.partition
        try:
            there = queue.cores(partition) // (self.settings.cpus_per_task or 1)
            if device != "cpu":
                there = min(there, queue.gpus(partition) or there)
        except QueueError as error:
            raise UserError(f"Slurm does not say what it has:\n{error}") from error
        return max(1, min(there, self.settings.most or there))

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """See `launch.base.Launcher`; how many run at a time is Slurm's to say, or `most`.

        Raises:
            UserError: There is no Slurm here, or it refuses the first array.
        """
        queue = Queue()
        watched = Watched(queue, self.settings.settle_s)
        self._hand_in(jobs, session, queue, watched)
        if not self.settings.wait:
            watched.leave()
            return
        try:
            while any(not job.state.ended for job in jobs):
                if watched.look(self.settings.poll_s) and watched.starved:
                    try:
                        self._hand_in(watched.starved, session, queue, watched)
                    except Silent as error:
                        watched.postpone(error)
                watch(jobs)
                time.sleep(TICK_S)
        except BaseException as error:
            if self.settings.on_stop == "cancel" and isinstance(error, KeyboardInterrupt):
                self._cancel(watched, jobs, watch)
            else:
                watched.leave()
            raise

    def _hand_in(self, jobs: Sequence[Job], session: Session, queue: Queue, watched: Watched) -> None:
        """Find the tasks of runs that Slurm has, and hand in arrays of the others. Raises UserError."""
        store = Path(jobs[0].config.out)
        with handing_in(store):
            try:
                there = _at_rest(queue)
                most = max(1, queue.array_size())
            except QueueError as error:
                raise Silent(f"Slurm does not show its queue, so nothing was handed in:\n{error}") from error
            names = {name for name, _ in there}
            sweep(store, names)
            needed = memory_needed(store)
            rest = watched.find(jobs, [Array((store / "slurm" / name).resolve()) for name in names], there)
            for job in rest:
                job.memory = needed.get(job.config.run_id, 0)
            # Runs that need more memory than others are arrays of their own, after them.
            for _, group in groupby(sorted(rest, key=lambda job: job.memory), key=lambda job: job.memory):
                self._submit_all(list(group), session, queue, watched, most)
        watched.starved = []

    def _submit_all(self, jobs: Sequence[Job], session: Session, queue: Queue, watched: Watched, most: int) -> None:
        """Hand in arrays of at most so many tasks, until Slurm refuses one. Raises UserError if that is the first."""
        for first in range(0, len(jobs), most):
            part = jobs[first : first + most]
            # With a limit one array follows the other, so that all together keep to it.
            after = max((each.number for each in watched.tasks), key=int, default="") if self.settings.most else ""
            if not self._submit(part, session, queue, watched, after):
                for job in jobs[first + most :]:
                    job.state, job.error = part[0].state, part[0].error
                break

    def _submit(self, jobs: Sequence[Job], session: Session, queue: Queue, watched: Watched, after: str) -> bool:
        """Hand in an array; whether Slurm takes it. Raises UserError if it refuses the first of all."""
        settings, memory = self.settings, jobs[0].memory
        array = Array.make(Path(jobs[0].config.out), [job.config for job in jobs], session)
        options = settings.options(len(jobs), max(job.config.threads for job in jobs), memory)
        try:
            path = array.write_script(options, shlex.split(settings.extra), settings.setup)
            number = queue.submit(path, after)
        except (QueueError, OSError) as error:
            array.remove()
            if not watched.tasks and not memory:
                raise UserError(f"Slurm refuses {len(jobs)} runs, of which none was handed in:\n{error}") from error
            for job in jobs:
                job.state, job.error = State.INTERRUPTED, f"not handed in, Slurm refuses more: {error}"
                if memory:
                    job.state = State.FAILED
                    job.error = f"out of memory before, and Slurm refuses to give it {memory / 1e9:.1f} GB: {error}"
            return False
        watched.add(jobs, array, number)
        return True

    def _cancel(self, watched: Watched, jobs: Sequence[Job], watch: Watch) -> None:
        """End what waits or runs, after a checkpoint; when asked again, at once."""
        watched.cancel()
        kills = 0
        while any(job.state is State.STOPPING for job in jobs) and kills < 2:
            try:
                watched.look(min(self.settings.poll_s, 2.0))
                watch(jobs)
            except KeyboardInterrupt:
                kills += 1
                watched.cancel(kill=True)
            time.sleep(TICK_S)
        for job in jobs:
            if job.state is State.STOPPING:
                job.state, job.error = State.INTERRUPTED, "killed before it had written a checkpoint"


def _at_rest(queue: Queue) -> dict[Key, Task]:
    """The tasks in the queue once none is ending: one that ends may be about to wait again. Raises QueueError."""
    begun = time.monotonic()
    there = queue.tasks(PREFIX)
    while any(task.ends for task in there.values()) and time.monotonic() - begun < ENDS_WITHIN_S:
        time.sleep(1.0)
        there = queue.tasks(PREFIX)
    return there


LAUNCHER = LauncherSpec("slurm", Settings, SlurmLauncher, "Arrays of Slurm jobs, on a cluster.")
