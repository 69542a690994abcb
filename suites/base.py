"""What is measured: the environment contract, a task, a suite of tasks, and the budgets a suite is run on.

Tasks, suites and budgets are frozen values, there without a simulator. `covr-bench check-env` tries a task.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsFloat, runtime_checkable

from suites.checked import Checked, Positive, Seeds

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray

Observation = Literal["pixels", "state"]
"""What an environment shows: pictures (`PixelEnv`) or a vector of numbers (`StateEnv`)."""

# Compared by default: no learning, the two best known visual learners, COVR's base, a distilled VLM, and COVR.
LINE_UP = ("random", "drqv2", "curl", "rad", "dgc", "covr")


class SimulatorError(Exception):
    """A simulator cannot be used; the message says why and what mends it."""


class EpisodeLost(SimulatorError):
    """The simulator failed in mid-episode: that episode does not count. `reset` begins another, on a new one."""


class Scene(Protocol):
    """What is under the wrappers: `env.unwrapped`.

    Attributes:
        labels: What results measured here must be marked with, strings by name; empty where nothing is special.
    """

    @property
    def labels(self) -> Mapping[str, str]: ...

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """Draws the present moment at any size, and changes nothing else.

        Args:
            height, width: In pixels.

        Returns:
            RGB, uint8 `(height, width, 3)`.
        """
        ...


class TaskEnv(Protocol):
    """What every environment of a task promises. A `gymnasium.Env` that keeps these promises is one.

    Attributes:
        observation_space: A `Box`; see `PixelEnv` and `StateEnv`.
        action_space: float32 `Box(-1, 1)` of shape `(A,)`.
        unwrapped: A `Scene`.
    """

    @property
    def observation_space(self) -> gymnasium.Space[Any]: ...

    @property
    def action_space(self) -> gymnasium.Space[Any]: ...

    @property
    def unwrapped(self) -> Any: ...

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode.

        Args:
            seed: Determines the whole episode, whatever happened before: the same seed and actions give the same
                observations and rewards. Without one the environment's own random stream goes on.
            options: Not used.

        Returns:
            The first observation, a new array, and `info`.

        Raises:
            EpisodeLost: The simulator failed; the next `reset` begins on a new one.
        """
        ...

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Repeats an action for `Task.action_repeat` control steps, or until the episode ends.

        Args:
            action: float32 `(A,)` in -1..1; it is not written to.

        Returns:
            The observation, a new array; the sum of the control steps' rewards, finite; `terminated`, whether nothing
            more can be earned; `truncated`, whether the time limit ended the episode, never both; and `info`:
            `env_steps`, the control steps this step took, and, of tasks with measures of their own,
            `episode_metrics`, numbers by name in an episode's last step, with the same names in every episode.

        Raises:
            EpisodeLost: The simulator failed; this episode does not count.
        """
        ...

    def close(self) -> None:
        """Frees the simulator: no process or thread of it is left."""
        ...


class PixelEnv(TaskEnv, Protocol):
    """An environment seen by camera.

    Its observation is uint8 `(3 * frame_stack, H, W)` in a `Box(0, 255)`: RGB frames, channel first, the newest last;
    a reset repeats the first frame. `H` is `image_size`, and so is `W` unless pictures stand side by side.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]: ...


class StateEnv(TaskEnv, Protocol):
    """An environment told in numbers: its observation is float32 `(N,)`, finite, and no stack of earlier ones."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]: ...


@runtime_checkable
class MakeEnv(Protocol):
    """Builds one environment of a task."""

    def __call__(self, seed: int, *, image_size: int = 84, frame_stack: int = 3, **options: Any) -> TaskEnv:
        """A `PixelEnv` or a `StateEnv`.

        Args:
            seed: Where the environment's own random stream starts, for resets without a seed.
            image_size: Height of a frame, in pixels, and its width.
            frame_stack: How many frames an observation holds, the newest last.
            options: The task's own, each with a default; `env.KEY` sets them. `action_repeat` among them is what
                each action is repeated for.

        Raises:
            ValueError: An option has no such value.
            ImportError: A package that the simulator needs is missing.
            SimulatorError: The simulator cannot be used.
        """
        ...


@dataclass(frozen=True)
class Task(Checked):
    """One task of a suite.

    Attributes:
        name: Unique within the suite, in snake case (`cartpole_swingup`).
        make: Builds a seeded environment.
        action_repeat: Simulator control steps per agent step. Where `make` has an option of that name, it is that
            option's default and needs no mention.
        score_range: Returns that count as 0 and as 1 when scores are normalised.
        instruction: The task as a VLM is told it. A first sentence "You are ..." is who it is told to be.
        max_episode_steps: The time limit of an episode, in simulator control steps.
        needs_gl: Whether its environment is drawn with OpenGL, so that a backend must be chosen first.
        family: Of suites that share tasks (`dmc`): an agent's published exceptions hold in all of them.
        observations: What it can show, what it shows by default first. A task that offers both takes the choice as
            the option `observation` of `make`.
        player: The agent that plays it by rules, where there is one; it is shown the `state()` of the `Scene`.
    """

    name: str
    make: MakeEnv
    action_repeat: int = 0
    score_range: tuple[float, float] = (0.0, 1000.0)
    instruction: str = ""
    max_episode_steps: Positive = 1000
    needs_gl: bool = False
    family: str = ""
    observations: tuple[Observation, ...] = ("pixels",)
    player: str = ""

    def __post_init__(self) -> None:
        default = self.options.get("action_repeat", self.action_repeat)
        if default < 1 or self.action_repeat not in (0, default):
            raise ValueError(
                f"task {self.name} has action_repeat={self.action_repeat}, and its make offers "
                f"{self.options.get('action_repeat', 'no such option')}: give one of them, 1 or more"
            )
        object.__setattr__(self, "action_repeat", default)

    @property
    def key(self) -> str:
        """What agents key their published exceptions by: `family/name`."""
        return f"{self.family}/{self.name}"

    @property
    def options(self) -> dict[str, Any]:
        """The options of `make` with their defaults: its keyword-only parameters."""
        every = inspect.signature(self.make).parameters.values()
        return {item.name: item.default for item in every if item.kind is item.KEYWORD_ONLY}

    def observed(self, options: Mapping[str, Any]) -> Observation:
        """What an environment made with these options shows."""
        shown: Observation = {**self.options, **options}.get("observation", self.observations[0])
        return shown

    def repeat(self, options: Mapping[str, Any]) -> int:
        """Control steps per agent step in an environment made with these options.

        Raises ValueError where the options name fewer than one, or more than an episode has."""
        found: int = {"action_repeat": self.action_repeat, **options}["action_repeat"]
        if not 1 <= found <= self.max_episode_steps:
            raise ValueError(
                f"action_repeat is {found}; it must be 1 to {self.max_episode_steps}, the control steps of an episode"
            )
        return found


@dataclass(frozen=True)
class Budget(Checked):
    """How long each run is and how it is evaluated. All lengths are environment steps.

    Attributes:
        name: Part of the names of its runs.
        env_steps: Length of a run.
        eval_every: Between evaluations; the first is at 0, the last at the end.
        eval_episodes: Episodes of an evaluation.
        seeds: Of the runs, unless others are asked for.
        overrides: Settings this budget changes (a tour cannot afford the published batch size): `key` for every agent
            that has it, `agent.key` for one, `env.key` for the environment of every agent that does not ask for
            another itself. They are recorded with the run, and `--set` overrides them.
        stand_in: The same, where a stand-in that ships (rows labelled `vlm=tiny...`) is the agent's VLM.
    """

    name: str
    env_steps: Positive
    eval_every: Positive
    eval_episodes: Positive
    seeds: Seeds = (0,)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    stand_in: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant(Checked):
    """An agent as a suite compares it with itself: some of its settings changed.

    Attributes:
        agent: The agent's name.
        name: What its runs are called, empty for the agent as published; letters, digits and `_.,=+-`.
        settings: As `--set` takes them; the user's own override them.
        doc: One sentence.
    """

    agent: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    doc: str = ""


@dataclass(frozen=True)
class Suite:
    """A named, versioned set of tasks.

    Attributes:
        name: Part of the names of its runs.
        version: A change that moves scores raises it.
        tasks: What is measured.
        budgets: By name; `paper` is the published protocol and the default.
        agents: The line-up that runs when none is asked for.
        doc: One sentence.
        default_tasks: Those that run when none is asked for; all of them if empty.
        variants: Of each agent named here the suite runs exactly these, in this order; of others, the agent as
            published.
    """

    name: str
    version: int
    tasks: tuple[Task, ...]
    budgets: Mapping[str, Budget]
    agents: tuple[str, ...]
    doc: str = ""
    default_tasks: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        named = tuple(task if task.family else replace(task, family=self.name) for task in self.tasks)
        object.__setattr__(self, "tasks", named)

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            KeyError: The suite has no such task.
        """
        return {task.name: task for task in self.tasks}[name]
