"""What a trial finds out: the cost of an environment and that of an agent, each by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class EnvCost:
    """An environment, as its first steps show it.

    Attributes:
        step_s: Seconds of an agent step, action repeat and drawing included.
        frame_bytes: Bytes of a compressed frame.
        obs_shape: `(3 * frame_stack, height, width)`, or `(N,)` of states.
        obs_dtype: Such as `uint8`.
        action_dim: Number of action components.
        ram_bytes: What the environment and its libraries add to a process that has imported neither.
    """

    step_s: float
    frame_bytes: int
    obs_shape: tuple[int, ...]
    obs_dtype: str
    action_dim: int
    ram_bytes: int

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> EnvCost:
        """From JSON. Raises TypeError or KeyError if it is none."""
        return cls(**{**entry, "obs_shape": tuple(entry["obs_shape"])})


@dataclass(frozen=True)
class AgentCost:
    """An agent, as its first actions and updates show it.

    Attributes:
        act_s: Seconds to choose an action.
        update_s: Seconds of learning per agent step.
        state_bytes: Bytes of what a checkpoint holds of it.
        ram_bytes: RAM of a process that learns, torch included, replay and environment aside.
        gpu_bytes: What torch takes of the GPU; 0 on a CPU.
    """

    act_s: float
    update_s: float
    state_bytes: int
    ram_bytes: int
    gpu_bytes: int
