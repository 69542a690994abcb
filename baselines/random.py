"""Uniform random actions: the floor every score is read against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Metrics

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    """No settings."""


class Random:
    def __init__(self, config: Config, context: Context) -> None:
        self.action_dim = context.action_dim
        self.rng = np.random.default_rng(context.seed)

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        return self.rng.uniform(-1, 1, self.action_dim).astype(np.float32)

    def update(self, replay: Replay, step: int) -> Metrics:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


AGENT = AgentSpec(name="random", Config=Config, make=Random, kind="control", replay_frames=0, sees="nothing")
