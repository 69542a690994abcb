"""Slurm's own commands: hand in a script, see what waits and runs, end it. Nothing here needs Slurm's accounting."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from covr_bench.kit.errors import UserError

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE_S = 120  # a busy controller answers late
_MOST_NAMES = 500  # jobs named in one command line
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_STUCK = re.compile(
    r"held|launch failed|Dependency(NeverSatisfied)?$|BadConstraints|PartitionDown|PartitionInactive|PartitionNodeLimit"
    r"|PartitionTimeLimit|AccountNotAllowed|QOSNotAllowed|ReqNodeNotAvail|.*MinGRES|InvalidAccount|InvalidQOS",
    re.IGNORECASE,
)
"""Reasons for which a job may wait for good, in Slurm's words."""

Key = tuple[str, int]
"""A task: the job's name and the number in its array."""


class QueueError(Exception):
    """What Slurm said when it did not do as it was told."""


@dataclass(frozen=True)
class Task:
    """A task of an array that is in Slurm's queue.

    Attributes:
        job: Slurm's name of it, `12_3`.
        state: In Slurm's words.
        node: Where it runs.
        reason: Why it waits.
    """

    job: str
    state: str
    node: str = ""
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is yet to start, or to start again."""
        return self.state in _WAITING

    @property
    def ends(self) -> bool:
        """Whether its processes are ending."""
        return self.state == "COMPLETING"

    @property
    def held_by_node(self) -> bool:
        """Whether Slurm holds it because a node could not start it."""
        return self.waits and "launch failed" in self.reason.lower()

    @property
    def stuck(self) -> str:
        """Why it may wait for good; empty if it waits for its turn."""
        return self.reason if self.waits and _STUCK.search(self.reason) else ""


class Queue:
    """The queue of the Slurm whose commands are on the path.

    Raises:
        UserError: There are none.
    """

    def __init__(self) -> None:
        if missing := [
            name for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo") if shutil.which(name) is None
        ]:
            raise UserError(
                f"the slurm launcher needs Slurm's commands, and there is no {missing[0]} on this machine's PATH. "
                "Give the command on a login node of the cluster, or load its module first; "
                "or give --launcher local to run on this machine"
            )

    def submit(self, script: Path, after: str = "") -> str:
        """Hand in a script; returns the job's number. after: A job that has to end first. Raises QueueError.

        Its options are given on the command line, too: variables such as SBATCH_PARTITION would override the script's.
        """
        mark = "#SBATCH "
        lines = script.read_text(encoding="utf-8").splitlines()
        order = [each for line in lines if line.startswith(mark) for each in shlex.split(line.removeprefix(mark))]
        order += [f"--dependency=afterany:{after}"] if after else []
        return _run("sbatch", "--parsable", *order, str(script)).strip().partition(";")[0]

    def tasks(self, prefix: str) -> dict[Key, Task]:
        """This user's tasks that wait, run or end, in jobs whose names begin so. Raises QueueError."""
        text = _run("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%j|%K|%F|%T|%N|%r")
        found = {}
        for line in text.splitlines():
            name, index, array, state, node, reason = line.split("|", 5)
            if name.startswith(prefix) and index.isdigit():
                found[name, int(index)] = Task(f"{array}_{index}", state, node, "" if reason == "None" else reason)
        return found

    def state(self, job: str) -> str:
        """A task's state in Slurm's words; empty if it is not in the queue. Raises QueueError."""
        return _run("squeue", "-h", "-j", job, "-o", "%T").strip()

    def ended_without_memory(self, job: str) -> tuple[bool, int]:
        """Whether Slurm says that a task which left the queue was out of memory, and the bytes that it was given.

        Slurm forgets a task some minutes after its end (`MinJobAge`), without accounting; then nothing is known.
        """
        try:
            text = _run("scontrol", "--oneliner", "show", "job", job)
        except QueueError:
            return False, 0
        return "JobState=OUT_OF_MEMORY" in text, _memory_given(text)

    def cancel(self, jobs: Iterable[str], *, kill: bool = False) -> None:
        """End tasks, with time to checkpoint unless they are killed. Raises QueueError."""
        names = list(jobs)
        how = ["--full", "--signal=KILL"] if kill else []
        for first in range(0, len(names), _MOST_NAMES):
            _run("scancel", *how, *names[first : first + _MOST_NAMES])

    def requeue(self, job: str) -> None:
        """Have a task wait for another turn. Raises QueueError."""
        _run("scontrol", "requeue", job)

    def release(self, job: str) -> None:
        """Have a task that Slurm holds wait for its turn. Raises QueueError."""
        _run("scontrol", "release", job)

    def cores(self, partition: str) -> int:
        """CPUs of a partition, or of the cluster's own choice. Raises QueueError."""
        words = ["-p", partition] if partition else []
        return sum(int(line.split("/")[3]) for line in _run("sinfo", "-h", *words, "-o", "%C").splitlines())

    def gpus(self, partition: str) -> int:
        """GPUs of a partition, or of the cluster's own choice. Raises QueueError."""
        words = ["-p", partition] if partition else []
        lines = _run("sinfo", "-h", *words, "-o", "%D %G").splitlines()
        return sum(int(line.split()[0]) * sum(map(int, re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", line))) for line in lines)

    def array_size(self) -> int:
        """The most tasks an array may have here. Raises QueueError."""
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config"), re.MULTILINE)
        return int(found[1]) if found else 1001  # Slurm's default


def bytes_of(text: str) -> int:
    """Memory as Slurm writes it, `300M`; megabytes if it has no unit, 0 if it is none."""
    found = re.fullmatch(r"([\d.]+)([KMGT]?)B?", text.strip(), re.IGNORECASE)
    return int(float(found[1]) * 2 ** {"K": 10, "": 20, "M": 20, "G": 30, "T": 40}[found[2].upper()]) if found else 0


def _memory_given(text: str) -> int:
    """Bytes of a job as `scontrol show job` has it; 0 for all of a node."""
    node = re.search(r"\bMinMemoryNode=(\S+)", text)
    cpu, cpus = re.search(r"\bMinMemoryCPU=(\S+)", text), re.search(r"\bNumCPUs=(\d+)", text)
    return bytes_of(node[1]) if node else bytes_of(cpu[1]) * int(cpus[1]) if cpu and cpus else 0


def _run(*command: str) -> str:
    """What a command prints. Raises QueueError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise QueueError(f"{command[0]} did not answer within {PATIENCE_S} s") from error
    except OSError as error:
        raise QueueError(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or f"it ended with status {done.returncode}").splitlines()
        raise QueueError("\n".join(words[-3:]))
    return done.stdout
