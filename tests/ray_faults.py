"""A Ray cluster of three nodes on this machine, a command that runs on it, and ways to kill parts of both."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import SMALL_DRQV2

MARK = "COVR_BENCH_TEST_MARK"  # in the environment of the command and, as all of ours, of its runs
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "memory": 8 << 30}
PATIENT_RAY = {  # with a machine that is so busy that a process takes minutes to start
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_gcs_server_port_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_niceness": "0",  # Ray lets all else on the machine go first
}
GRACE_S = 10.0
PATIENCE_S = 1800.0  # on a busy machine
MORE_ROWS = 8  # after which runs have gone on
SLOW = """
import os, time
from dataclasses import replace
from baselines import drqv2

class Slow(drqv2.DrQV2):
    def update(self, replay, step):
        time.sleep(0.02 if "COVR_BENCH_TEST_MARK" in os.environ else 0)
        return super().update(replay, step)

AGENT = replace(drqv2.AGENT, name="slow", make=Slow)
"""  # with steps of a known length, kills find runs in training on any machine; undisturbed, it need not wait


class Nodes:
    """Three nodes; the first, which holds the cluster together and takes a run too, is never killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = NODE | {"include_dashboard": False}
        self.cluster: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.mortal = [_patiently(lambda: self.cluster.add_node(**NODE)) for _ in range(2)]
        self.cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def kill(self, draw: random.Random) -> None:
        """SIGKILL to all processes of a node but its actors; another node comes in its place."""
        victim = draw.choice(self.mortal)
        self.mortal.remove(victim)
        self.cluster.remove_node(victim, allow_graceful=False)
        self.mortal.append(_patiently(lambda: self.cluster.add_node(**NODE)))


def _patiently(start: Callable[[], Any]) -> Any:
    """Start part of a cluster; Ray itself gives it 30 s, which is little on a busy machine."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            print(f"once more, since {error}")
    return start()


@contextmanager
def three_nodes() -> Iterator[Nodes]:
    os.environ.update(PATIENT_RAY)
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()


class Driver:
    """`covr-bench run` on the cluster, started again by the same command as often as it is killed.

    Args:
        address: Of the cluster.
        folder: Results go to `out` in it, what is printed to `printed`.
        seeds: One run each.
        env_steps: Length of a run.
    """

    def __init__(self, address: str, folder: Path, seeds: Sequence[int], env_steps: int) -> None:
        self.out, self.printed = folder / "out", folder / "printed"
        self.mark = secrets.token_hex(8)
        (folder / "slow.py").write_text(SLOW)
        self.command = [sys.executable, "-m", "covr_bench", "run", "--suite", "catch", "--task", "catch"]
        self.command += ["--agent", "slow.py", "--budget", "short", "--env-steps", str(env_steps)]
        self.command += ["--seeds", ",".join(map(str, seeds)), "--conv-kernel", "torch", "--checkpoint-every", "2"]
        self.command += [item for text in SMALL_DRQV2 for item in ("--set", text.replace("drqv2", "slow"))]
        self.command += ["--launcher", "ray", "--out", str(self.out)]
        for text in (f"address={address}", "restarts=1000", "memory_gb=1"):
            self.command += ["--set-launcher", text]
        self.starts = 0
        self.start()

    def start(self) -> None:
        env = os.environ | {MARK: self.mark, "COLUMNS": "80"}
        with self.printed.open("a") as printed:
            self.process = subprocess.Popen(
                self.command, env=env, stdout=printed, stderr=printed, start_new_session=True, cwd=self.printed.parent
            )
        self.starts += 1

    def goes_on(self) -> bool:
        """Whether it runs; one that was killed, or lost its node, is started again."""
        status = self.process.poll()
        if status not in (None, 0):
            self.start()
        return status != 0

    def has_processes(self) -> bool:
        """Whether the command or any of its runs lives."""
        return bool(marked(self.mark))

    def runs(self) -> list[int]:
        """Processes of runs."""
        return [pid for pid in marked(self.mark) if b"covr_bench.run.worker" in _read(f"/proc/{pid}/cmdline")]

    def actors(self) -> list[int]:
        """Processes of actors; Ray hides their environment."""
        return [_parent(pid) for pid in self.runs()]

    def has(self, kind: Any) -> bool:
        """Whether there is now what that kind of kill is for."""
        return kind not in OF_RUNS or bool(self.runs())

    def rows(self) -> int:
        """Of all runs, whether they count or not."""
        return sum(file.read_bytes().count(b"\n") for file in self.out.glob("runs/*/*/*/*/rows.jsonl"))

    def kill_run(self, draw: random.Random, nodes: Nodes) -> None:
        _kill(self.runs(), draw)

    def kill_actor(self, draw: random.Random, nodes: Nodes) -> None:
        _kill(self.actors(), draw)

    def end_actor(self, draw: random.Random, nodes: Nodes) -> None:
        _kill(self.actors(), draw, signal.SIGTERM)

    def kill_node(self, draw: random.Random, nodes: Nodes) -> None:
        nodes.kill(draw)

    def kill_driver(self, draw: random.Random, nodes: Nodes) -> None:
        self.process.kill()
        self.process.wait()

    def stop_driver(self, draw: random.Random, nodes: Nodes) -> None:
        """As a batch system does: SIGTERM, and SIGKILL after a grace."""
        self.process.terminate()
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


KINDS: tuple[Callable[[Driver, random.Random, Nodes], None], ...] = (
    Driver.kill_run, Driver.kill_node, Driver.kill_driver, Driver.kill_actor, Driver.stop_driver, Driver.end_actor,
)  # fmt: skip

OF_RUNS = (Driver.kill_run, Driver.kill_actor, Driver.end_actor)


def kill_at_random(driver: Driver, nodes: Nodes, draw: random.Random, kinds: Sequence[Any]) -> list[str]:
    """Kill something of each kind, one after the other, until the command ends; what was killed.

    Half of the kills wait until runs have trained on, so that they come to an end; the others come at any time, in the
    planning and in a process's first second too.
    """
    done = []
    for kind in kinds:
        rows = driver.rows() + MORE_ROWS if draw.random() < 0.5 else 0
        if not wait_while(driver.goes_on, lambda kind=kind, rows=rows: driver.rows() >= rows and driver.has(kind)):
            break
        time.sleep(draw.uniform(0, 3))
        if driver.process.poll() is None and driver.has(kind):
            kind(driver, draw, nodes)
            done.append(kind.__name__)
    return done


def wait_while(going: Callable[[], bool], until: Callable[[], Any] = lambda: False) -> bool:
    """Wait as long as the first says so, until the second does; whether it did."""
    deadline = time.monotonic() + PATIENCE_S
    while going():
        if until():
            return True
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return False


def marked(mark: str) -> list[int]:
    """Living processes whose environment has a mark."""
    wanted = f"{MARK}={mark}".encode()
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if wanted in _read(f"/proc/{pid}/environ").split(b"\0")]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # it has ended, or is not ours
        return b""


def _parent(pid: int) -> int:
    return int((_read(f"/proc/{pid}/stat").rpartition(b")")[2].split() or [b"", b"0"])[1])


def _kill(pids: Sequence[int], draw: random.Random, signum: int = signal.SIGKILL) -> None:
    """One of them, unless all have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        if pids := [pid for pid in pids if pid > 1]:
            os.kill(draw.choice(pids), signum)
