"""Jobs kept up to date with what Slurm's queue and the store say of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from covr_bench.launch.base import Job, State
from covr_bench.launch.memory import had, memory_to_retry, peak_of
from covr_bench.launch.slurm_array import PREFIX, Array, Told
from covr_bench.launch.slurm_queue import Key, Queue, QueueError, Task
from covr_bench.launch.writers import lease_of
from covr_bench.run.session import FAILED, FINISHED, INTERRUPTED
from results import provenance
from results.layout import PROVENANCE_FILE, StoreError, run_folder
from results.states import Status

PATIENCE_WITH_QUEUE_S = 300.0  # of silence, before the user is told
MOST_RELEASES = 3  # of a task that a node could not start: another node may
OUTCOMES = {"finished": FINISHED, "failed": FAILED, "interrupted": INTERRUPTED}


@dataclass
class Handed:
    """A job and its task.

    Attributes:
        number: Slurm's number of the array, for people.
        gone: When the task was first seen to have left the queue, by `time.monotonic`.
        releases: How often it was released, when Slurm held it.
    """

    job: Job
    array: Array
    index: int
    number: str
    gone: float | None = None
    releases: int = 0

    @property
    def key(self) -> Key:
        return self.array.name, self.index

    @property
    def name(self) -> str:
        """What Slurm calls the task."""
        return f"{self.number}_{self.index}"


class Watched:
    """The tasks of a command.

    Attributes:
        tasks: Of jobs that Slurm has or had.
        starved: Jobs that were killed for want of memory and whose tasks are gone: they wait to be handed in again,
            with their `memory`.

    Args:
        queue: Slurm's.
        settle_s: How long a task may be gone without a word before it counts as killed.
    """

    def __init__(self, queue: Queue, settle_s: float) -> None:
        self.queue, self.settle_s = queue, settle_s
        self.tasks: list[Handed] = []
        self.starved: list[Job] = []
        self._looked = 0.0
        self._answered = time.monotonic()

    def find(self, jobs: Sequence[Job], arrays: Iterable[Array], there: Mapping[Key, Task]) -> list[Job]:
        """Take up the jobs that Slurm has already; returns the others that may be handed in."""
        handed = {
            run_id: (array, index, there[array.name, index])
            for array in arrays
            for index, run_id in enumerate(array.run_ids)
            if (array.name, index) in there
        }
        holders = _holders([job for job in jobs if job.config.run_id not in handed])
        rest = []
        for job in jobs:
            if found := handed.get(job.config.run_id):
                array, index, task = found
                self.tasks.append(Handed(job, array, index, task.job.partition("_")[0]))
            elif holder := holders.get(job.config.run_id):
                job.state, job.error = State.INTERRUPTED, f"not handed in: it is being written by {holder}"
            else:
                rest.append(job)
        return rest

    def add(self, jobs: Sequence[Job], array: Array, number: str) -> None:
        """Take up jobs that were handed in as an array."""
        self.tasks += [Handed(job, array, index, number) for index, job in enumerate(jobs)]

    def look(self, every_s: float) -> bool:
        """Bring all jobs up to date, unless that was done less than so many seconds ago; whether Slurm answered now."""
        if time.monotonic() - self._looked < every_s:
            return False
        try:
            there = self.queue.tasks(PREFIX)
        except QueueError as error:
            self._looked = time.monotonic()
            self._tell_silence(error)
            return False
        self._looked = self._answered = time.monotonic()
        for handed in list(self.tasks):
            if not handed.job.state.ended:
                _update(handed, there.get(handed.key), self._settled(handed, handed.key in there), self.queue)
                if handed.job.state is State.FAILED and handed.job.memory:
                    self._starve(handed)
        return True

    def cancel(self, *, kill: bool = False) -> None:
        """End all tasks; the runs that had begun are then stopping."""
        going = [handed for handed in self.tasks if not handed.job.state.ended]
        for handed in going:
            if handed.job.state is State.RUNNING:
                handed.job.state = State.STOPPING
        try:
            self.queue.cancel([handed.name for handed in going], kill=kill)
        except QueueError as error:
            going[0].job.warnings.append(f"Slurm did not cancel it: {error}")

    def leave(self) -> None:
        """Give the jobs that have no outcome yet that of being handed over."""
        left = [handed for handed in self.tasks if not handed.job.state.ended]
        numbers = ", ".join(dict.fromkeys(handed.number for handed in left))
        for handed in left:
            handed.job.state = State.SUBMITTED
            handed.job.error = f"in Slurm as job {numbers}"

    def postpone(self, error: Exception) -> None:
        """Say once of the starved jobs why they are not handed in again yet; they are tried at the next look."""
        for job in self.starved:
            _tell(job, f"not handed in again yet: {error}")

    def _starve(self, handed: Handed) -> None:
        job = handed.job
        _tell(job, f"{job.error}; it is handed in again, with {job.memory / 1e9:.1f} GB")
        job.state, job.error, job.restarts = State.WAITING, "", job.restarts + 1
        self.tasks.remove(handed)
        self.starved.append(job)

    def _settled(self, handed: Handed, there: bool) -> bool:
        """Whether the task has been gone for long enough to believe that nothing more will be told."""
        if there:
            handed.gone = None
            return False
        handed.gone = handed.gone or time.monotonic()
        return time.monotonic() - handed.gone >= self.settle_s

    def _tell_silence(self, error: QueueError) -> None:
        jobs = [handed.job for handed in self.tasks] + self.starved
        if jobs and time.monotonic() - self._answered > PATIENCE_WITH_QUEUE_S:
            self._answered = time.monotonic()
            jobs[0].warnings.append(f"Slurm does not answer, what it has goes on: {error}")


def _update(handed: Handed, task: Task | None, settled: bool, queue: Queue) -> None:
    """Bring a job up to date.

    Args:
        handed: The job.
        task: Its task in the queue; None if it is there no more.
        settled: Whether it left the queue long ago.
        queue: Knows, for a while, why it left.
    """
    job = handed.job
    if task and task.waits:
        if job.state is State.RUNNING:
            job.state = State.WAITING
        if task.held_by_node and handed.releases < MOST_RELEASES:
            _release(handed, task, queue)
            return
        _tell(job, task.stuck and f"may wait in Slurm for good: {task.stuck} (scontrol show job {task.job})")
        return
    told = Told.read(handed.array.told(handed.index))
    if told:
        for text in told.warnings:
            _tell(job, text)
        job.restarts = told.restarts
    if told and (_is_finished(job) if told.outcome == "finished" else _is_over(task, told)):
        _end_as_told(job, told)
    elif task:
        if job.state is State.WAITING:
            job.state, job.started = State.RUNNING, time.monotonic()
        _hear_progress(job)
    elif settled:
        _end_without_word(handed, queue)


def _release(handed: Handed, task: Task, queue: Queue) -> None:
    """Let a task that a node could not start wait for another."""
    handed.releases += 1
    try:
        queue.release(task.job)
    except QueueError as error:
        _tell(handed.job, f"Slurm holds it ({task.reason}) and does not release it: {error}")
        return
    _tell(
        handed.job, f"a node could not start it ({task.reason}): released, {handed.releases} of {MOST_RELEASES} times"
    )


def _is_over(task: Task | None, told: Told) -> bool:
    """Whether nothing more will be told.

    What failed for want of memory has to make room for its next task, too; and one that was interrupted may have asked
    Slurm for another turn, which the queue shows only when the node has let go of this one.
    """
    may_return = told.memory or told.outcome == "interrupted"
    return told.outcome in OUTCOMES and (task is None or (task.ends and not may_return))


def _end_as_told(job: Job, told: Told) -> None:
    job.error, job.progress, job.memory = told.error, told.progress or job.progress, told.memory
    job.end(OUTCOMES[told.outcome])


def _end_without_word(handed: Handed, queue: Queue) -> None:
    job = handed.job
    if _is_finished(job):
        job.end(FINISHED)
        return
    if killed := _killed_for_memory(handed, queue):
        _end_as_told(job, killed)
        return
    job.state = State.INTERRUPTED
    job.error = (
        f"Slurm's job {handed.name} is gone without a word: cancelled while it waited, or killed (memory?). "
        f"The run goes on from its checkpoint, if any. See {handed.array.log(handed.index)}"
    )


def _killed_for_memory(handed: Handed, queue: Queue) -> Told | None:
    """What a task would have told, had Slurm not killed it too; None if it was not for memory."""
    short, given = queue.ended_without_memory(handed.name)
    if not short:
        return None
    path, peak = handed.array.told(handed.index), peak_of(handed.job)
    error = f"out of memory: Slurm killed it ({had(peak)}it was given {given / 1e9:.1f} GB)"
    told = replace(Told.read(path) or Told(), outcome="failed", error=error, memory=memory_to_retry(peak, given))
    with contextlib.suppress(OSError):
        told.write(path)  # for whoever hands it in next
    return told


def _is_finished(job: Job) -> bool:
    try:
        record = provenance.read(run_folder(job.config.out, job.config.run_id) / PROVENANCE_FILE)
    except StoreError:
        return False
    return bool(record["status"] == Status.FINISHED)


def _hear_progress(job: Job) -> None:
    if (holding := lease_of(job)) and holding.progress:
        job.hear(holding.progress)


def _tell(job: Job, text: str) -> None:
    if text and text not in job.warnings:
        job.warnings.append(text)


def _holders(jobs: Sequence[Job]) -> dict[str, str]:
    """Who writes a run now, in words, by the run's id. Leases of other machines are watched until they beat, or not."""
    first = {job.config.run_id: held for job in jobs if (held := lease_of(job)) and held.lives() is not False}
    unknown = [job for job in jobs if job.config.run_id in first and first[job.config.run_id].lives() is None]
    silent = {job.config.run_id for job in unknown}
    deadline = time.monotonic() + 2.5 * max((first[run_id].period_s for run_id in silent), default=0.0)
    while silent and time.monotonic() < deadline:
        time.sleep(1.0)
        for job in unknown:
            held = lease_of(job)
            if held and held.state != first[job.config.run_id].state:
                silent.discard(job.config.run_id)
    return {run_id: held.where() for run_id, held in first.items() if run_id not in silent}
