"""The paddle under the ball, by rule: how well `catch` can be played, and what a VLM that knows would answer.

It sees `(paddle_x, ball_x, ball_y)` in field widths and moves the paddle as far towards the ball as a decision can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, NeverLearns
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

REACH = 0.06  # field widths that the paddle moves in a control step at full action


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    """observation: what the environment is asked for."""

    observation: Literal["state"] = "state"


class Catcher(NeverLearns):
    def __init__(self, config: Config, context: Context) -> None:
        if context.obs_shape != (3,) or context.action_dim != 1:
            raise UserError(f"the catcher plays only tasks of the suite catch; observations here: {context.obs_shape}")
        self.reach = REACH * context.action_repeat

    def act(self, obs: npt.NDArray[Any], step: int, explore: bool) -> npt.NDArray[np.float32]:
        paddle, ball, _ = obs
        return np.array([(ball - paddle) / self.reach], np.float32).clip(-1, 1)


AGENT = AgentSpec(name="catcher", Config=Config, make=Catcher, kind="control", replay_frames=0, sees="state")
