"""A Ray cluster as the launcher sees it: joining it, what its nodes hold, and whether runs can be executed there."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covr_bench.kit.errors import UserError
from covr_bench.launch.place import Place, Probe

MISSING = "the ray launcher needs Ray, which is not installed here: pip install 'covr-bench[ray]'"
NODES_FOR_S = 2.0  # a list of nodes may be so old
THREADS = 4  # of an actor: one waits for the run's process, others answer meanwhile
PROBE_S = 300.0  # a busy node starts a Python process
PASSED_ON = ("PYTHONPATH", "MUJOCO_GL", "PYOPENGL_PLATFORM", "HF_HOME", "HF_HUB_OFFLINE")
OURS = "COVR_BENCH_"  # how the names of our own variables begin; they are passed on too


@dataclass(frozen=True)
class Needs:
    """What a run takes of a node: CPU cores, GPUs (also parts of one), bytes of memory."""

    cpus: int
    gpus: float
    memory: int

    def fit(self, node: Mapping[str, float]) -> int:
        """How many such runs a node holds, by its resources as Ray names them."""
        pairs = [("CPU", self.cpus), ("GPU", self.gpus), ("memory", self.memory)]
        return min(int(node.get(name, 0.0) / need + 1e-9) for name, need in pairs if need)

    def __str__(self) -> str:
        cpus = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        return ", ".join(
            [cpus, *([f"{self.gpus:g} GPU"] if self.gpus else []), f"{self.memory / 1e9:.1f} GB of memory"]
        )


class Cluster:
    """A Ray cluster.

    Args:
        address: Of `ray.init`; empty to look for one on this machine, and to start one if there is none.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.ray = _ray()
        self._joined = False  # by us
        self._nodes: list[dict[str, Any]] = []
        self._listed = -math.inf

    def join(self) -> None:
        """Connect, unless this process is connected. Raises UserError."""
        if self.ray.is_initialized():
            return
        if self.address.startswith("ray://"):
            raise UserError(
                f"address={self.address}: the ray launcher cannot work through a Ray client, since runs end with their "
                "driver; give this command on a node of the cluster, with address=auto"
            )
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            with _own_signals():
                self.ray.init(address=self.address or None, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"cannot join a Ray cluster at {self.address or 'this machine'}: {error}\nStart one by `ray start "
                "--head`, give its --set-launcher address=HOST:PORT, or leave address out to use this machine alone"
            ) from error
        self._joined = True

    def leave(self) -> None:
        """Disconnect, if `join` has connected."""
        if self._joined:
            self._joined = False
            self.ray.shutdown()

    def place(self, needs: Needs, env: Sequence[str]) -> Any:
        """A new actor of `launch.place.Place`, wherever there is room for it, now or later.

        Args:
            needs: What it takes of its node.
            env: Names of environment variables to pass on to it.
        """
        options: dict[str, Any] = {"num_cpus": needs.cpus, "memory": needs.memory, "runtime_env": runtime_env(env)}
        if needs.gpus:
            options["num_gpus"] = needs.gpus
        return self.ray.remote(Place).options(max_concurrency=THREADS, max_restarts=0, **options).remote()

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that live, as Ray lists them."""
        if time.monotonic() - self._listed > NODES_FOR_S:
            self._nodes = [node for node in self.ray.nodes() if node["Alive"]]
            self._listed = time.monotonic()
        return self._nodes

    def holds(self, needs: Needs) -> int:
        """How many such runs all nodes hold together."""
        return sum(needs.fit(node["Resources"]) for node in self.nodes())

    def most(self, resource: str) -> float:
        """What the node with the most of a resource has of it."""
        return max((node["Resources"].get(resource, 0.0) for node in self.nodes()), default=0.0)

    def check(self, outs: Sequence[str], codes: dict[str, str], needs: Needs) -> None:
        """See that every node that holds runs sees the folders of results, and has the same code.

        Raises:
            UserError: Names the nodes that do not, and why.
        """
        for out in outs:
            nodes = [node for node in self.nodes() if needs.fit(node["Resources"])]
            probe = Probe(
                str(Path(out).resolve() / f".probe-{secrets.token_hex(4)}"), secrets.token_hex(), os.getcwd(), codes
            )
            with _written(probe):
                troubles = self._ask(nodes, probe)
            if troubles:
                raise UserError("runs cannot be executed on all nodes of the cluster:\n  " + "\n  ".join(troubles))

    def _ask(self, nodes: Sequence[Mapping[str, Any]], probe: Probe) -> list[str]:
        """What stands in the way of runs, a sentence for each node where something does."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        answer = self.ray.remote(Probe.answer)
        asked = {
            answer.options(
                num_cpus=0,
                max_retries=0,
                runtime_env=runtime_env(()),
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(probe): node
            for node in nodes
        }
        answered, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_S)
        self._listed = -math.inf
        living = {node["NodeID"] for node in self.nodes()}
        found = []
        for reference, node in asked.items():
            if node["NodeID"] not in living:
                continue
            told = self._answer(reference) if reference in answered else f"did not answer within {PROBE_S:.0f} s"
            found += [f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {told}"] if told else []
        return found

    def _answer(self, reference: Any) -> str:
        try:
            return str(self.ray.get(reference))
        except self.ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return f"cannot answer: {lines[-1] if lines else error!r}. Is the same covr-bench installed there?"


def runtime_env(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Environment variables of all processes of this launcher on all nodes, as Ray wants them.

    Args:
        names: Further variables that the user wants passed on.
    """
    passed = {name: os.environ[name] for name in (*PASSED_ON, *names) if name in os.environ}
    ours = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
    # A process of Ray would kill its children as it ends; ours get SIGTERM instead, checkpoint and end.
    kept = {"RAY_kill_child_processes_on_worker_exit": "0"}
    return {"env_vars": ours | passed | kept | {"COVR_BENCH_LAUNCHER": "ray"}}


def _ray() -> Any:
    """Ray. Raises UserError."""
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(MISSING) from error
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's answers to signals: Ray installs its own for SIGTERM."""
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _written(probe: Probe) -> Iterator[None]:
    """The probe's file, while it is needed. Raises UserError."""
    file = Path(probe.file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(probe.token)
    except OSError as error:
        raise UserError(f"cannot write to {file.parent}: {error.strerror}; mend that folder") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
