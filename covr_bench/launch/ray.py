"""Runs on a Ray cluster: an actor for each at a time, which owns the run's process as the local launcher does.

An actor ends with the command that started it, and the run's process then checkpoints and ends too; the same command
goes on. A run whose node dies is started again on another, from its checkpoint in the folder that all nodes share.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass

from covr_bench.kit.errors import UserError
from covr_bench.launch.base import Job, LauncherSpec, State, Watch
from covr_bench.launch.cluster import Cluster, Needs
from covr_bench.launch.local import STOPPED_MEANWHILE, TICK_S, LocalLauncher, RunningJob
from covr_bench.launch.local import Settings as LocalSettings
from covr_bench.launch.memory import memory_to_retry, peak_of
from covr_bench.launch.remote import RemoteRun
from covr_bench.launch.seats import Placement
from covr_bench.run.cost.estimate import remembered_memory
from covr_bench.run.machine import RUN_MEMORY

if TYPE_CHECKING:
    from covr_bench.run.session import Session

UNKNOWN = RUN_MEMORY  # bytes that a run may need if nothing is known of it
MARGIN = 1.25  # over the most memory that was measured
STEP = 1 << 28  # bytes; runs that need about the same can follow each other in an actor


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the ray launcher.

    Attributes:
        address: Of the cluster, as `ray.init` takes it: `auto`, or `HOST:PORT`. Empty: a cluster that runs on this
            machine, or one that is started for this command alone.
        restarts: How often a run goes on from its checkpoint after its process, its actor or its node died.
        stop_patience_s: How long runs may take to checkpoint when asked to stop, in seconds; then they are killed.
        memory_gb: Memory that Ray sets aside for a run, in GB; 0 for a quarter more than was measured for it, or
            `UNKNOWN` where nothing was. A run that is killed for want of memory gets more.
        ahead: Runs that wait in Ray's queue beyond those that the nodes hold, for an autoscaler to see.
        env: Environment variables to pass on to the runs, by name, with commas; Ray's dashboard shows their values.
    """

    address: str = ""
    restarts: NonNegativeInt = 3
    stop_patience_s: PositiveFloat = LocalSettings.stop_patience_s
    memory_gb: NonNegativeFloat = 0.0
    ahead: NonNegativeInt = 0
    env: str = ""


class RayLauncher(LocalLauncher):
    """An actor for each run. Raises UserError without Ray."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(LocalSettings(restarts=settings.restarts, stop_patience_s=settings.stop_patience_s))
        self.options = settings
        self.cluster = Cluster(settings.address)
        self._per_gpu = 1
        self._counted = math.inf  # runs at a time, if it was this launcher that said how many
        self._memory: dict[str, int] = {}  # bytes, by run, as far as known
        self._free: list[tuple[Needs, Any]] = []  # actors between two runs
        self._waiting: deque[Job] = deque()

    def share_gpus(self, per_gpu: int, backend: str) -> Placement:
        """See `launch.base.SharesGpus`."""
        self._per_gpu = per_gpu
        places = self.places("cuda")
        gpus = sum(node["Resources"].get("GPU", 0.0) for node in self.cluster.nodes())
        runs = "one run" if per_gpu == 1 else f"{per_gpu} runs"
        return Placement(places, (f"GPUs: {gpus:g} of the Ray cluster, {runs} on each; Ray chooses which",))

    def places(self, device: str) -> int:
        """See `launch.base.HasNodes`."""
        self.cluster.join()
        self._counted = self._room(self._needs(device))
        return int(self._counted)

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """See `launch.base.Launcher`. Raises UserError if a node cannot execute runs."""
        self.cluster.join()
        try:
            self._remember_memory(jobs, session)
            needs = [self._needs_of(job) for job in jobs]
            self._room(needs[0])
            codes = {job.config.agent: job.config.code.get("agent", "") for job in jobs}
            outs = sorted({job.config.out for job in jobs})
            self.cluster.check(outs, {ref: code for ref, code in codes.items() if code}, needs[0])
            # Nodes that come later are used too, unless the user has said how many runs there may be at a time.
            self._run(jobs, workers if workers < self._counted else len(jobs), session, watch)
        finally:
            self.cluster.leave()

    def _run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        self._waiting = deque(job for job in jobs if job.state is State.WAITING)
        running: list[RunningJob] = []
        shown = -TICK_S
        try:
            while running or self._waiting:
                room = self._holds(workers) - len(running)
                for job in [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]:
                    running += [] if job.cancelled() else self._started(job, session)
                self._drop_free()  # those left over hold what others may wait for
                if time.monotonic() - shown >= TICK_S:
                    watch(jobs)
                    shown = time.monotonic()
                if results := [each.result for each in running if isinstance(each, RemoteRun)]:
                    self.cluster.ray.wait(results, timeout=TICK_S)
                else:
                    time.sleep(TICK_S)
                running, ended = self._partition(running)
                self._waiting.extendleft(each.job for each in reversed(ended) if each.job.state is State.WAITING)
        except BaseException:
            self._stop(running, jobs, watch)
            raise
        finally:
            self._drop_free()

    def start(self, job: Job, session: Session) -> RemoteRun:
        """Raises OSError if the run's folder cannot be made."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        needs = self._needs_of(job)
        return RemoteRun(job, self._place(needs), needs, session, self.settings.stop_patience_s)

    def _place(self, needs: Needs) -> Any:
        """An actor for a run: one that has ended a run with the same needs, or a new one."""
        for entry in self._free:
            if entry[0] == needs:
                self._free.remove(entry)
                return entry[1]
        names = [name for name in self.options.env.split(",") if name]
        return self.cluster.place(needs, names)

    def _settled(self, worker: Any, running: int) -> bool:
        """Whether its run has ended; if so, what became of it? running: makes no difference on a cluster."""
        if not worker.ended():
            return False
        job, status = worker.job, worker.status()
        if status >= 0:
            job.end(status)
        elif job.state is State.STOPPING:
            job.state, job.error = State.INTERRUPTED, STOPPED_MEANWHILE
        else:
            self._start_again(worker)
        if worker.lives and not worker.out_of_memory and (self._waiting or job.state is State.WAITING):
            self._free.append((worker.needs, worker.place))
        else:
            worker.drop()
        return True

    def _start_again(self, run: RemoteRun) -> None:
        """Let a run that died go on, unless that was too often, or no node has the memory that it needs."""
        job = run.job
        if run.out_of_memory:
            most = int(self.cluster.most("memory"))
            needed = min(memory_to_retry(peak_of(job), run.needs.memory), most)
            if needed <= run.needs.memory:
                job.state = State.FAILED
                job.error = f"{run.cause}, and no node has more than the {most / 1e9:.1f} GB that were set aside for it"
                return
            self._memory[job.config.run_id] = needed
        if job.restarts < self.settings.restarts:
            job.state, job.restarts = State.WAITING, job.restarts + 1
        else:
            restarts = f"{job.restarts} restart{'' if job.restarts == 1 else 's'}"
            job.state, job.error = State.FAILED, f"{run.cause}, after {restarts}; see {job.log}"

    def _holds(self, workers: int) -> int:
        """How many runs may be in Ray's hands now."""
        if not self._waiting:
            return workers
        needs = self._needs_of(self._waiting[0])
        held = self.cluster.holds(needs) + self.options.ahead
        if not held and (text := f"no node of the Ray cluster holds it now: {needs}") not in self._waiting[0].warnings:
            self._waiting[0].warnings.append(text)
        return min(workers, held)

    def _room(self, needs: Needs) -> int:
        """How many runs the cluster holds. Raises UserError if it holds none, and nobody will change that."""
        held = self.cluster.holds(needs) + self.options.ahead
        if not held:
            raise UserError(
                f"no node of the Ray cluster holds a run, which takes {needs}: the most that a node has is "
                f"{self.cluster.most('CPU'):g} CPUs, {self.cluster.most('GPU'):g} GPUs, "
                f"{self.cluster.most('memory') / 1e9:.1f} GB. Give --set-launcher memory_gb=..., add a node, or let an "
                "autoscaler add one: --set-launcher ahead=1"
            )
        return held

    def _needs_of(self, job: Job) -> Needs:
        """Raises UserError for a GPU of a certain number."""
        config = job.config
        if config.device not in ("cpu", "cuda"):
            raise UserError(f"device {config.device}: Ray chooses the GPU of a run; give --device cuda")
        return self._needs(config.device, config.threads, self._memory.get(config.run_id, 0))

    def _needs(self, device: str, cpus: int = 1, memory: int = 0) -> Needs:
        gpus = 0.0 if device == "cpu" else 1 / self._per_gpu
        return Needs(cpus, gpus, memory or int(self.options.memory_gb * 1e9) or UNKNOWN)

    def _remember_memory(self, jobs: Sequence[Job], session: Session) -> None:
        if not self.options.memory_gb:
            measured = remembered_memory([job.config for job in jobs], session.facts)
            for job, most in zip(jobs, measured, strict=True):
                self._memory[job.config.run_id] = math.ceil(MARGIN * most / STEP) * STEP

    def _drop_free(self) -> None:
        for _, place in self._free:
            with contextlib.suppress(self.cluster.ray.exceptions.RayError):
                self.cluster.ray.kill(place)
        self._free = []


LAUNCHER = LauncherSpec("ray", Settings, RayLauncher, "Actors on the nodes of a Ray cluster.")
