"""The contract between the loop and an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

from annotated_types import Interval

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import torch

    from covr_bench.kit.replay import Batch, Replay

Fraction = Annotated[float, Interval(ge=0, le=1)]
"""The type of a setting between 0 and 1: a discount, a rate of averaging."""

Sees = Literal["pixels", "state", "nothing"]
"""What an agent looks at: pictures, a vector of numbers, or neither, so that any task will do."""

Metrics = Mapping[str, "torch.Tensor"]
"""Named scalars of one update, as detached 0-d tensors, so that reading them is the loop's choice."""

Guidance = Callable[["Batch", "torch.Tensor"], "torch.Tensor"]
"""An extra actor loss: of the batch and the policy's own action for `batch.obs`, float32 `(B, A)` with its gradient.

Returns a scalar that is added to the actor loss; its gradient reaches what the actor's own loss reaches, no more.
"""


class Agent(Protocol):
    """What the loop asks of an agent. Steps are environment steps (action repeat counted).

    An agent that has a method `finish(step)` is told by it that its run is over, before the last checkpoint; if it
    raises UserError the run has failed.

    An agent that has `only_learning` names there parts of its state that `act` never reads, such as a critic, by their
    paths in it: "critic", "networks/critic". A published policy leaves them out.
    """

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        """The action, float32 `(action_dim,)` in [-1, 1], for one observation, uint8 `(C, H, W)`, or
        float32 `(N,)` if it sees states.

        explore: act as in training; otherwise the policy that is evaluated, deterministic where the method has one.
        """
        ...

    def update(self, replay: Replay, step: int) -> Metrics:
        """Called once before every step of the environment; learns if it is time to. Empty when it did not."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changed, as nested dicts and lists of tensors, numbers and strings."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`: training goes on as if it had never stopped."""
        ...


@runtime_checkable
class GuidedAgent(Agent, Protocol):
    """An agent whose actor can be pulled towards another's advice, and that says how undecided its policy is."""

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        """As `Agent.update`; `guidance`, if given, is added to the actor loss whenever the actor is updated."""
        ...

    def entropy(self, step: int) -> float:
        """Differential entropy of the training policy in nats, summed over action components; may be negative.

        NaN if it is estimated from batches and there was none yet.
        """
        ...

    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The critics' lower estimate, float32 `(B,)`, of uint8 `(B, C, H, W)` and float32 `(B, A)`; no gradient."""
        ...


class ActingOnly:
    """What a trained agent without its training has in the place of `Agent.update`."""

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        raise UserError("this agent was made without Context.services: it acts, and cannot learn")


class NeverLearns:
    """What an agent that plays by rules has in the place of learning and of a state."""

    def update(self, replay: Replay, step: int) -> Metrics:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Render = Callable[[int, int], "npt.NDArray[np.uint8]"]
"""`(height, width)` to the environment's present frame, uint8 `(height, width, 3)`."""


Player = Callable[[], "npt.NDArray[np.float32]"]
"""What a task's scripted player does at the present moment, float32 `(A,)` in [-1, 1]."""


class Policy(Protocol):
    """What acts in an environment: an agent, or something of an agent's own that it wants to see tried."""

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Demonstration:
    """Whole episodes of a teacher, N decisions in order.

    images: `(N, ...)`, what was kept of each observation. actions: float32 `(N, A)`. rewards: `(N,)`.
    episode: int `(N,)`, its number. age: int `(N,)`, decisions since its start.
    """

    images: npt.NDArray[Any]
    actions: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float64]
    episode: npt.NDArray[np.int64]
    age: npt.NDArray[np.int64]


class Services(Protocol):
    """What a run in training offers its agent."""

    @property
    def folder(self) -> Path:
        """The run's folder, for files the agent wants to keep."""
        ...

    def render(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        """The frame the newest observation ends with, drawn at another size, uint8 `(height, width, 3)`."""
        ...

    def play(self, policy: Callable[[Render], Policy], episodes: int) -> dict[str, list[float]]:
        """Per episode `return` and `length` of a policy, made anew for each.

        The starts are those of the run's evaluations, and further ones where more are asked for.
        """
        ...

    def player(self) -> Player | None:
        """The task's scripted player, where it has one; it watches the run from the step before which it is asked for.

        Returns:
            What tells what it does at the present moment, float32 `(A,)` in [-1, 1].
        """
        ...

    def demonstrate(self, teacher: str, agent_steps: int, number: int, image: Callable[[Any], Any]) -> Demonstration:
        """Whole episodes of a teacher, at starts of their own.

        Args:
            teacher: `scripted`, or the folder of a trained run that sees what this agent sees.
            agent_steps: Decisions, at least.
            number: Of the demonstration; another has other starts.
            image: What is kept of an observation, uint8 `(C, H, W)`.

        Raises:
            UserError: The task has no scripted player, or the run cannot be used.
        """
        ...

    def record(self, step: int, values: Mapping[str, float | list[float]]) -> None:
        """Store rows of kind `vlm`."""
        ...

    def warn(self, text: str) -> None:
        """Tell the user, once per text."""
        ...


def _no_agents(name: str, settings: Mapping[str, Any], context: Context) -> Agent:
    raise UserError(f"{name!r} is to be wrapped by another agent: build that one with `registry.make_agent`")


@dataclass(frozen=True)
class Context:
    """What an agent is built for.

    obs_shape: `(3 * frame_stack, height, width)`, or `(N,)` for an agent that sees states.
    action_dim: number of action components.
    total_env_steps: the length of the run, for schedules that end with it.
    instruction: the task in a sentence. services: of the run it trains in; None where a trained agent only acts.
    make_agent: builds another agent for the same context, by name and settings; of an agent that wraps one.
    conv_kernel: what a `PixelEncoder` convolves with on a CPU, `torch` or `winograd`; see `kit.winograd.choose`.
    """

    obs_shape: tuple[int, ...]
    action_dim: int
    action_repeat: int
    total_env_steps: int
    device: str
    seed: int
    instruction: str = ""
    services: Services | None = None
    make_agent: Callable[[str, Mapping[str, Any], Context], Agent] = _no_agents
    conv_kernel: str = "torch"


def vlm_as_set(settings: Mapping[str, Any]) -> Mapping[str, str]:
    """Labels of an agent that says nothing else: its setting `vlm`, if it has one, as it is."""
    return {"vlm": str(settings["vlm"]).replace(",", "_").replace("=", "_")} if settings.get("vlm") else {}


@dataclass(frozen=True)
class AgentSpec:
    """An agent as the registry knows it; an agent file ends in `AGENT = AgentSpec(...)`.

    Attributes:
        Config: a frozen (pydantic) dataclass of settings, each with its published default.
        make: `(config, context) -> Agent`.
        kind: `control`, `visual-rl` or `vlm`.
        paper: where the method is published.
        task_defaults: published exceptions by `family/task`, such as `dmc/walker_walk`; they override the defaults,
            and the budget's and the user's settings override them.
        wraps: the setting that names another agent, the base; that agent's settings are resolved as if it ran by itself
            and handed over as the setting `base_settings`.
        follows: another agent whose settings `agent.key`, a budget's or a command's, are this one's too, unless it has
            its own: for a variant with a name of its own.
        labels: what marks the rows of an agent with these settings, such as `{"vlm": "tiny"}`; runs whose labels differ
            are never averaged.
        sees: what its observations are, `pixels` or `state`; `nothing` if it does not look.
        checked: exactly what of the agent was compared with what, scores included; empty if nothing yet.
        replay_frames: frames of replay that the agent reads; 0 of a policy that does not learn from replay. None: its
            setting `replay_capacity`, or all frames of the run where it has none.
    """

    name: str
    Config: type[Any]
    make: Callable[[Any, Context], Agent]
    kind: str
    paper: str = ""
    needs_vlm: bool = False
    task_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checked: str = ""
    wraps: str = ""
    follows: str = ""
    labels: Callable[[Mapping[str, Any]], Mapping[str, str]] = vlm_as_set
    replay_frames: Annotated[int, Interval(ge=0)] | None = None
    sees: Sees = "pixels"
