"""What a launcher is: it executes runs somewhere, and what has become of each can be read off its job at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from covr_bench.run.session import FINISHED, INTERRUPTED
from results.cancel import CANCELLED, is_cancelled
from results.layout import run_folder

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from covr_bench.launch.seats import Placement
    from covr_bench.run.session import Session


class State(str, Enum):
    """What a job does; the last four are outcomes."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    SUBMITTED = "submitted"  # handed over to what goes on without this command

    __str__ = str.__str__  # Python 3.10 prints the value, later ones the member's name

    @property
    def ended(self) -> bool:
        """Whether it is an outcome."""
        return self in (State.FINISHED, State.INTERRUPTED, State.FAILED, State.SUBMITTED)


@dataclass
class Job:
    """One run and what is known of it.

    Attributes:
        config: The run.
        state: What it does.
        error: Why it failed or was interrupted, or where it was handed over.
        warnings: What it told the user.
        progress: Its newest message: `phase`, `env_steps`, `env_steps_per_s`, `last_return`; empty before the first.
        restarts: How often its process was killed and started again.
        memory: Bytes of RAM that it needs, where it was killed for want of memory before; else 0.
        started: When it was last started, by `time.monotonic`.
        place: Environment variables of the place where it runs, such as those of its GPU.
    """

    config: RunConfig
    state: State = State.WAITING
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    progress: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    memory: int = 0
    started: float = 0.0
    place: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What the run and its libraries print."""
        return run_folder(self.config.out, self.config.run_id) / "worker.log"

    @property
    def last_words(self) -> str:
        """The last line of its error."""
        return next(reversed(self.error.strip().splitlines()), "its launcher did not say why")

    def cancelled(self) -> bool:
        """Whether `covr-bench cancel` was asked for this run before it started; if so, that is its outcome."""
        if not is_cancelled(self.config.out, self.config.run_id):
            return False
        self.state, self.error = State.INTERRUPTED, CANCELLED
        return True

    def hear(self, message: dict[str, Any]) -> None:
        """Note what the run says: `{"error": text}`, `{"warning": text}` or progress."""
        if "error" in message:
            self.error = message["error"]
        elif "warning" in message:
            self.warnings.append(message["warning"])
        else:
            self.progress = message

    def end(self, outcome: int) -> None:
        """Note how the run ended: `run.session.FINISHED`, `INTERRUPTED`, or anything else for a failure."""
        if outcome == FINISHED:
            self.state = State.FINISHED
        elif outcome == INTERRUPTED:
            self.state, self.error = State.INTERRUPTED, self.error or "it was asked to stop before its first step"
        else:
            self.state, self.error = State.FAILED, self.error or f"ended with status {outcome}; see {self.log}"


Watch = Callable[[Sequence[Job]], None]
"""Is shown all jobs a few times a second; may raise, see `Launcher`."""


class Launcher(Protocol):
    """Executes runs."""

    def run(self, jobs: Sequence[Job], workers: int, session: Session, watch: Watch) -> None:
        """Execute every job, and give each its outcome. A run that fails stops no other.

        Args:
            jobs: The runs, all `waiting`; kept up to date while they run.
            workers: How many may run at the same time.
            session: Goes into each run's provenance.
            watch: To be called a few times a second. When it raises (KeyboardInterrupt, if the user asks to stop), all
                runs are to be stopped at once, each after a checkpoint; call it while they do. If it raises
                KeyboardInterrupt again, the rest is to be killed. Then the first exception is raised again.
        """


@runtime_checkable
class SharesGpus(Protocol):
    """A launcher that heeds `--per-gpu`."""

    def share_gpus(self, per_gpu: int, backend: str) -> Placement:
        """Have so many runs share each GPU from now on.

        Args:
            per_gpu: Runs on each GPU.
            backend: What draws, such as `egl`; empty if no run draws with OpenGL.

        Returns:
            How many runs that makes at a time, and what the plan says of it.

        Raises:
            UserError: There are no GPUs, or they cannot be shared so.
        """


@runtime_checkable
class HasNodes(Protocol):
    """A launcher whose runs are executed on other machines than this, a core each."""

    def places(self, device: str) -> int:
        """How many runs its machines hold at a time.

        Args:
            device: What they compute on, `cpu` or `cuda`.

        Raises:
            UserError: None, or nobody can be asked.
        """


@dataclass(frozen=True)
class LauncherSpec:
    """A launcher as it is found by name, file or entry point (`covr_bench.launchers`); a file ends in `LAUNCHER = ...`.

    Attributes:
        name: What `--launcher` calls it.
        Settings: A frozen dataclass (pydantic's, if types are to be checked) of its options, each with a default.
        make: Makes the launcher from its settings.
        doc: What it is, in a sentence.
    """

    name: str
    Settings: type[Any]
    make: Callable[[Any], Launcher]
    doc: str
