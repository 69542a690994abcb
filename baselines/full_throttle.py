"""Straight on with the throttle down: what a driving task gives to who does not look. For tasks of (steer, pedal)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, NeverLearns
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    """No settings."""


class FullThrottle(NeverLearns):
    def __init__(self, config: Config, context: Context) -> None:
        if context.action_dim != 2:
            raise UserError(f"full_throttle steers tasks of (steer, pedal); this one has {context.action_dim} numbers")

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        return np.array([0.0, 1.0], np.float32)


AGENT = AgentSpec(name="full_throttle", Config=Config, make=FullThrottle, kind="control", replay_frames=0)
