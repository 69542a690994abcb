"""What is measured: a task, a suite of tasks, and the budgets a suite is run on.

Everything here is a frozen value that can be printed, compared and counted without starting a simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import gymnasium


# Compared by default: no learning, the two best known visual learners, COVR's base, a distilled VLM, and COVR.
LINE_UP = ("random", "drqv2", "curl", "rad", "dgc", "covr")


class SimulatorError(Exception):
    """A simulator cannot be used; the message says why and what mends it."""


class EpisodeLost(SimulatorError):
    """The simulator failed in mid-episode: that episode does not count. `reset` begins another, on a new one."""


class MakeEnv(Protocol):
    """Builds one environment of a task.

    The environment's observation is uint8, channel first, `(3 * frame_stack, image_size, image_size)`; its action is
    a float32 `Box(-1, 1)`. `info["env_steps"]` of every step is the number of simulator control steps it consumed
    (action repeat counted); termination and truncation are kept apart.
    """

    def __call__(
        self, seed: int, *, image_size: int = 84, frame_stack: int = 3, **options: Any
    ) -> gymnasium.Env[Any, Any]: ...


@dataclass(frozen=True)
class Task:
    """One task of a suite.

    name: unique within the suite, in snake case (`cartpole_swingup`).
    family: suites that share tasks name it (`dmc`), so that an agent's published exceptions hold in all of them; the
        suite's own name where nothing is said.
    make: builds a seeded environment.
    action_repeat: simulator control steps per agent step.
    score_range: returns that count as 0 and as 1 when scores are normalised.
    instruction: the task as a vision-language model is told it. A first sentence "You are ..." is who it is told to be.
    max_episode_steps: the time limit of an episode, in simulator control steps.
    needs_gl: whether its environment is drawn with OpenGL, so that a backend must be chosen first.
    """

    name: str
    make: MakeEnv
    action_repeat: int
    score_range: tuple[float, float] = (0.0, 1000.0)
    instruction: str = ""
    max_episode_steps: int = 1000
    needs_gl: bool = False
    family: str = ""

    @property
    def key(self) -> str:
        """What agents key their published exceptions by: `family/name`."""
        return f"{self.family}/{self.name}"


@dataclass(frozen=True)
class Budget:
    """How long each run is and how it is evaluated. All lengths are environment steps (action repeat counted).

    overrides: settings this budget changes (a tour cannot afford the published batch size): `key` for every agent that
    has it, `agent.key` for one, `env.key` for the environment of every agent that does not ask for another itself;
    recorded with the run, and themselves overridden by `--set`.
    """

    name: str
    env_steps: int
    eval_every: int
    eval_episodes: int
    seeds: tuple[int, ...] = (0,)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""


@dataclass(frozen=True)
class Variant:
    """An agent as a suite compares it with itself: some of its settings changed.

    name: what its runs are called, empty for the agent as published; letters, digits and `_.,=+-`.
    settings: as `--set` takes them; the user's own go before them.
    """

    agent: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    doc: str = ""


@dataclass(frozen=True)
class Suite:
    """A named, versioned set of tasks. A change that moves scores raises `version`.

    agents: the line-up that runs when none is asked for.
    budgets: by name; `paper` is the published protocol and the default.
    default_tasks: those that run when none is asked for; all of them if empty.
    variants: of each agent named here the suite runs exactly these, in this order; of others, the agent as published.
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
        """The task of that name. Raises KeyError."""
        return {task.name: task for task in self.tasks}[name]
