"""A pole swung up and balanced by rule: what a VLM that knows `cartpole_swingup` would answer.

It sees the physics' state: the cart's place (m) and the pole's angle (rad, 0 upright), then their speeds. Below, the
cart is pushed so that the pole gains the energy it has at rest on top (Astrom and Furuta 2000); near the top, towards
where the pole falls. Constants were tried by hand: 765 to 860 of 1,000 at action repeats 2, 4 and 8.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, NeverLearns
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

NEAR_TOP, CALM = 0.8, 4.0  # cosine of the angle above which it balances, rad/s below which it does
BALANCE = np.array([0.6, 6.0, 1.0, 1.5])  # gains of place, angle and their speeds
PUMP, CENTRE, SLOW = 0.5, 0.3, 0.1  # gains of missing energy, place and speed of the cart
INERTIA = 0.067  # s2: kinetic energy over height, in units of the pole's weight


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    """observation: what the environment is asked for."""

    observation: Literal["state"] = "state"


class SwingUp(NeverLearns):
    def __init__(self, config: Config, context: Context) -> None:
        if context.obs_shape != (4,) or context.action_dim != 1:
            raise UserError(f"swing_up plays only dmc's cartpole_swingup; observations here: {context.obs_shape}")

    def act(self, obs: npt.NDArray[Any], step: int, explore: bool) -> npt.NDArray[np.float32]:
        place, angle, speed, turn = map(float, obs)
        angle = math.remainder(angle, 2 * math.pi)
        if math.cos(angle) > NEAR_TOP and abs(turn) < CALM:
            push = float(BALANCE @ (place, angle, speed, turn))
        else:
            missing = 1 - math.cos(angle) - 0.5 * INERTIA * turn**2
            push = -PUMP * missing * math.copysign(1, turn * math.cos(angle)) - CENTRE * place - SLOW * speed
        return np.array([push], np.float32).clip(-1, 1)


AGENT = AgentSpec(name="swing_up", Config=Config, make=SwingUp, kind="control", replay_frames=0, sees="state")
