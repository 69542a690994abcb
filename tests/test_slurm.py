"""The Slurm launcher on a real Slurm of two nodes: what is killed, preempted or cancelled goes on as if nothing were.

COVR_BENCH_KILLS=100 disturbs more often. COVR_BENCH_TEST_SLURM names a folder that keeps the unpacked packages.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import slurm_cluster
from conftest import SMALL_DRQV2
from test_launch import test_every_launcher_gives_each_job_its_outcome as gives_each_job_its_outcome
from test_runner import PATIENCE_S, wait_for
from undisturbed import assert_as_undisturbed

from covr_bench.run import cgroups
from results import provenance
from results.holding import read_lease
from results.layout import run_folder

if TYPE_CHECKING:
    from slurm_cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("slurm")]
KILLS = int(os.environ.get("COVR_BENCH_KILLS", "8"))
STEPS = 600
LIMITS = ("memory.max", "memory.limit_in_bytes")  # of control groups, version 2 and 1
QUICK = {"poll_s": "0.5", "settle_s": "3"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running Slurm whose commands are on the path."""
    folder = tmp_path_factory.mktemp("slurm")
    cluster = slurm_cluster.Cluster(folder / "root", folder / "cluster", array_size=2)
    with pytest.MonkeyPatch.context() as patch:
        try:
            cluster.root = slurm_cluster.unpacked(Path(os.environ.get("COVR_BENCH_TEST_SLURM", folder)))
            for name, value in cluster.env.items():
                patch.setenv(name, value)
            cluster.start()
        except slurm_cluster.Unavailable as error:
            cluster.stop()
            pytest.skip(str(error))
        patch.setenv("COVR_BENCH_LEASE_S", "6")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # in which no other test measures costs
        yield cluster
        cluster.stop()


def command(out: Path, seeds: str, *more: str, launcher: str = "slurm", agent: str = "drqv2") -> list[object]:
    name = Path(agent).stem
    settings = [item for text in SMALL_DRQV2 for item in ("--set", text.replace("drqv2", name))]
    words = ["run", "--suite", "catch", "--task", "catch", "--agent", agent, "--seeds", seeds, "--out", out]
    words += ["--budget", "smoke", "--env-steps", STEPS, "--conv-kernel", "torch", "--checkpoint-every", "4"]
    quick = [f"{key}={value}" for key, value in QUICK.items()] if launcher == "slurm" else []
    words += ["--launcher", launcher, *(item for text in (*quick, *more) for item in ("--set-launcher", text))]
    return [*words, *settings]


def agent_of(path: Path, update: str) -> str:
    """A file of an agent that does something before each of its updates."""
    path.write_text(
        "import os, time\n"
        "from dataclasses import replace\n"
        "from baselines import drqv2\n"
        "class Ours(drqv2.DrQV2):\n"
        "    def update(self, replay, step):\n"
        f"        {update}\n"
        "        return super().update(replay, step)\n"
        f"AGENT = replace(drqv2.AGENT, name={path.stem!r}, make=Ours)\n"
    )
    return str(path)


def ids(out: Path) -> list[str]:
    return list(provenance.statuses(out))


def ours() -> list[str]:
    """Processes of Slurm's tasks that live; not those of another engine that another test drives at the same time."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if alive and b"covr_bench" in words and b"COVR_BENCH_LAUNCHER=slurm" in (folder / "environ").read_bytes():
                found.append(words.decode())
        except OSError:
            continue
    return found


class Storm:
    """A command whose runs are disturbed at random.

    Attributes:
        process: The command, which is given again when it has ended.
        done: How often each disturbance came.
    """

    def __init__(self, start: Any, cluster: Cluster, out: Path, seeds: str) -> None:
        self.start, self.cluster, self.out, self.seeds = start, cluster, out, seeds
        self.random = random.Random(7)
        self.done: Counter[str] = Counter()
        self.struck: set[int] = set()
        self.process = self.begin()
        self.faults: dict[str, Callable[[int], Any]] = {
            "requeue": lambda pid: self.cluster("scontrol", "requeue", job_of(pid), check=False),
            "preempt": lambda pid: self.cluster(
                *("sbatch", "-p", "high", "-w", env_of(pid)["SLURMD_NODENAME"], "-o", "/dev/null", "--wrap", "sleep 1")
            ),
            "warn": lambda pid: self.cluster("scancel", "--batch", "--signal=TERM", job_of(pid), check=False),
            "usr1": lambda pid: self.cluster("scancel", "--full", "--signal=USR1", job_of(pid), check=False),
            "cancel": lambda pid: self.cluster("scancel", job_of(pid), check=False),
            "kill the step": lambda pid: kill(parent(parent(pid))),
            "kill the task": lambda pid: kill(parent(pid)),
            "kill the worker": kill,
            "kill the launcher": lambda pid: self.end(signal.SIGKILL),
            "Ctrl-C": lambda pid: self.end(signal.SIGINT),
        }

    def begin(self) -> Any:
        return self.start(*command(self.out, self.seeds))

    def end(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)
        self.process.communicate(timeout=PATIENCE_S)

    def revive(self) -> None:
        if self.process.poll() is not None:
            self.process.communicate()
            self.process = self.begin()

    def victims(self) -> list[int]:
        """Workers that train."""
        held = [read_lease(run_folder(self.out, run_id)) for run_id in ids(self.out)]
        return [
            each.pid
            for each in held
            if each and each.lives() and each.progress.get("phase") == "train" and each.pid not in self.struck
        ]

    def strike(self, fault: str) -> bool:
        """False if all runs have ended before."""
        deadline = time.monotonic() + PATIENCE_S
        while not (victims := self.victims()):
            if self.process.poll() == 0:
                return False
            self.revive()
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.1)
        time.sleep(2 * self.random.random())
        victim = self.random.choice(victims)
        self.struck.add(victim)
        try:
            self.faults[fault](victim)
        except (OSError, KeyError):  # it has just ended
            return True
        self.done[fault] += 1
        return True

    def state(self) -> str:
        """What the command printed, the queue, and the ends of Slurm's logs."""
        self.process.kill()
        printed = "".join(self.process.communicate())
        return "\n".join([printed, self.cluster("squeue", "-r", "-o", "%j %K %T %r"), self.cluster.log_tail()])

    def calm(self) -> None:
        """Give the command until all runs have finished."""
        for _ in range(KILLS + 3):
            out, err = self.process.communicate(timeout=PATIENCE_S)
            if self.process.returncode == 0:
                return
            assert self.process.returncode == 1 or self.process.returncode < 0, err
            assert "Traceback" not in err
            self.process = self.begin()
        raise AssertionError(out + err)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def env_of(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(word.partition("=")[::2] for word in words)


def job_of(pid: int) -> str:
    return env_of(pid)["COVR_BENCH_JOB"]


def kill(pid: int) -> None:
    assert pid > 1
    os.kill(pid, signal.SIGKILL)


def test_runs_that_are_disturbed_in_every_way_end_as_if_they_were_not(
    start: Any, cluster: Cluster, tmp_path: Path
) -> None:
    """Requeued, preempted, warned, cancelled, killed at each level; the command itself killed and stopped."""
    out = tmp_path / "out of the way"  # a name that a shell would split
    runs = max(2, KILLS // 4)
    storm = Storm(start, cluster, out, f"0-{runs - 1}")
    faults = [*storm.faults] * (KILLS // len(storm.faults) + 1)
    storm.random.shuffle(faults)
    for fault in faults[:KILLS]:
        if not storm.strike(fault):
            break
        storm.revive()
    storm.calm()
    print(f"{sum(storm.done.values())} disturbances of {runs} runs: {dict(storm.done)}")
    wait_for(lambda: not ours())  # no process is left
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs)


QUICK_LAUNCHER = """
from dataclasses import dataclass
from covr_bench.launch import slurm
from covr_bench.launch.base import LauncherSpec

def make(settings):
    return slurm.SlurmLauncher(slurm.Settings(poll_s=0.5, settle_s=3, most=2))

LAUNCHER = LauncherSpec("quick_slurm", slurm.Settings, make, "Slurm, looked at often.")
"""


def test_slurm_does_what_every_launcher_does(cluster: Cluster, tmp_path: Path) -> None:
    """Two runs end well, one fails; each has its outcome."""
    (tmp_path / "quick.py").write_text(QUICK_LAUNCHER)
    gives_each_job_its_outcome(str(tmp_path / "quick.py"), tmp_path)
    assert doing(cluster) == []


def test_slurm_refuses_in_its_own_words(start: Any, cluster: Cluster, tmp_path: Path) -> None:
    process = start(*command(tmp_path, "0", "partition=nowhere"))
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, err
    assert "Slurm refuses 1 run" in err
    assert "invalid partition specified: nowhere" in err
    assert "Traceback" not in err


def doing(cluster: Cluster) -> list[str]:
    """Tasks in the queue, one a line."""
    return cluster("squeue", "-h", "-r", "-o", "%j %K").splitlines()


def test_what_slurm_has_begun_another_command_watches_and_a_local_one_finishes(
    start: Any, cluster: Cluster, tmp_path: Path
) -> None:
    """Two arrays are handed in and left; another with what is missing; watched; left; cancelled; finished here."""
    out, slow = tmp_path / "out", tmp_path / "slow"
    slow.touch()
    agent = agent_of(tmp_path / "patient.py", f"time.sleep(0.5 * os.path.exists({str(slow)!r}))")

    def ended(seeds: str, *words: str, launcher: str = "slurm") -> tuple[int, str, str]:
        process = start(*command(out, seeds, *words, launcher=launcher, agent=agent))
        said, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said, err

    code, said, err = ended("0-2", "wait=false", "most=2", "time=1:00:00")
    assert code == 0, err
    assert "3 runs go on without this command, in Slurm as job " in said
    assert "`covr-bench status` shows them" in said
    before = doing(cluster)
    assert len(before) == 3
    process = start(*command(out, "0-3", "most=2", agent=agent))
    wait_for(lambda: len(doing(cluster)) > 3)
    wait_for(lambda: [each for run_id in ids(out) if (each := read_lease(run_folder(out, run_id))) and each.progress])
    assert len(doing(cluster)) == 4, "they were handed in twice"
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "4 runs go on without this command, in Slurm as job " in said
    assert set(before) < set(doing(cluster))
    cluster("scancel", "-u", str(os.getuid()))
    wait_for(lambda: not doing(cluster) and not ours())
    assert "interrupted" in {record["status"] for record in provenance.statuses(out).values()}
    slow.unlink()
    code, _, err = ended("0-3", launcher="local")
    assert code == 0, err
    assert ours() == []
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs=4)


@pytest.fixture
def groups() -> Iterator[str]:
    """The beginning of control groups' names; a task that puts itself into one has no more memory than that allows."""
    for parent in (*cgroups.own_groups(), cgroups.CGROUPS / "memory", cgroups.CGROUPS):
        folder = parent / f"covr-bench-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        limited = any((folder / name).exists() for name in LIMITS)
        folder.rmdir()
        if limited:
            yield str(folder)
            for each in parent.glob(f"{folder.name}*"):
                each.rmdir()
            return
    pytest.skip("this process may make no control groups")


def test_a_run_out_of_memory_is_handed_in_again_with_enough(
    start: Any, cluster: Cluster, groups: str, tmp_path: Path
) -> None:
    """The kernel kills it, as under Slurm's own control groups; its next task has twice the memory."""
    eat = 'self.eaten = vars(self).get("eaten") or (b"x" * (400 << 20) if step > 100 else b"")'
    agent = agent_of(tmp_path / "eats.py", eat)
    out = tmp_path / "out"
    join = f"g={groups}-$SLURM_JOB_ID; mkdir $g; "
    join += f"for f in {' '.join(LIMITS)}; do [ ! -e $g/$f ] || echo ${{SLURM_MEM_PER_NODE}}M > $g/$f; done; "
    setup = f"setup={join} echo $$ > $g/cgroup.procs"
    process = start(*command(out, "0", "mem=600M", setup, agent=agent))
    said, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said + err
    assert "out of memory: the kernel killed it" in said + err
    (asked,) = {re.findall(r"--mem=(\S+)", path.read_text())[0] for path in out.glob("slurm/*/script.sh")} - {"600M"}
    assert asked.endswith("M") and int(asked[:-1]) >= 1200
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs=1)
