"""The stage of the probe: short episodes of every kind, the same on every machine.

A dot is moved about in a field of pixels. The first episode terminates, within an action's repeats; the next ones end
at the time limit, and so on. Where the dot begins follows from the seed. `SUITE` is a suite like any other, so that the
probe takes settings, loop and replay from where runs take them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from suites.base import Budget, Suite, Task
from suites.short_settings import PIXELS_36
from suites.wrappers import ActionRepeat, FrameStack, Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACTION_REPEAT = 2
LENGTHS = (9, 14, 11, 16)  # control steps, by the episode's number: an odd one ends within an action's repeats
TERMINATES = (True, False, False)  # by the episode's number
SPEED = 0.07  # field widths for each control step at full action


class Dot(gymnasium.Env[Any, Any]):
    """One control step at a time. Reward: closeness to the middle, and a share of the action. Nothing is random."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own declaration
    render_mode = "rgb_array"

    def __init__(self, image_size: int) -> None:
        self.labels: dict[str, str] = {}
        self._size = image_size
        self._episode, self._steps, self._at = -1, 0, np.zeros(2)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = Box(0.0, 1.0, (3,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._episode, self._steps = self._episode + 1, 0
        place = self._episode if seed is None else seed
        self._at = np.array([place % 7, place % 11]) / (6, 10) * 0.8 + 0.1
        return self._state(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._at = np.clip(self._at + SPEED * action.astype(np.float64), 0.0, 1.0)
        self._steps += 1
        reward = float(1 - np.abs(self._at - 0.5).sum() + 0.25 * action[0] - 0.1 * action[1])
        over = self._steps >= LENGTHS[self._episode % len(LENGTHS)]
        terminates = TERMINATES[self._episode % len(TERMINATES)]
        return self._state(), reward, over and terminates, over and not terminates, {}

    def render(self) -> NDArray[np.uint8]:
        return self.render_image(self._size, self._size)

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The present frame, uint8 `(height, width, 3)`."""
        rows, columns = np.mgrid[0:height, 0:width]
        image = np.stack([rows * 97 // height, columns * 61 // width, (rows + columns) % 32 + 40], axis=-1)
        top, left = (self._at * (height - 6, width - 6)).round().astype(int)
        image[top : top + 6, left : left + 6] = (230, 200 - 5 * self._steps, 30)
        return image.astype(np.uint8)

    def _state(self) -> NDArray[np.float64]:
        return np.array([*self._at, self._steps / max(LENGTHS)])


def make(action_repeat: int, seed: int, *, image_size: int = 36, frame_stack: int = 3) -> gymnasium.Env[Any, Any]:
    """A pixel environment, as `suites.base.MakeEnv` describes."""
    env = ActionRepeat(Dot(image_size), action_repeat)
    return FrameStack(Pixels(env, image_size, image_size), frame_stack)


# Small networks and batches: what is compared are formulas, and in float64 they show at any size. The first update
# draws from 160 steps, so that a replay that hands out its newest alone shows too.
SMALL: dict[str, Any] = {
    **PIXELS_36, "batch_size": 6, "hidden_dim": 24, "feature_dim": 10, "model_batch_size": 3, "model_dim": 16,
    "layers": 5, "filters": 8, "frames": 4, "block_size": 2, "steps": 3, "smallest_window": 8, "initial_updates": 2,
    "random_agent_steps": 160, "seed_steps": 320, "covr.psi0": 20, "covr.guidance_after": 1, "covr.episodes": "cut",
    "covr.vlm_episodes": 1, "covr.finetune_min_steps": 2, "query_every": 4, "query_batch": 2, "vpf.rollout": 8,
    "vpf.minibatch": 4, "dgc.query_batch": 4, "target_period": 3, "vlm": "scripted", "dgc.vlm": "tiny",
    "vpf.vlm": "tiny",
}  # fmt: skip
ENV_STEPS = 20_000  # of a run as far as schedules are concerned; the probe ends after some updates
SUITE = Suite(
    "probe",
    1,
    (
        Task(
            "dot",
            partial(make, ACTION_REPEAT),
            ACTION_REPEAT,
            (0.0, 20.0),
            "Keep the yellow dot in the middle.",
            max(LENGTHS),
        ),
    ),
    {"paper": Budget("paper", ENV_STEPS, ENV_STEPS, 2, (0,), SMALL, "A few updates, computed exactly.")},
    (),
    "Short episodes of every kind; not for training.",
)
