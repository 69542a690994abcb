"""`catch`: an 84x84 pixel game in numpy, for tests and demonstrations that finish in seconds.

A ball falls, a paddle at the bottom slides under it. One continuous action; no simulator, no OpenGL.
After the game of the same name in bsuite (Osband et al. 2019, arXiv:1908.03568), here continuous and in colour.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from suites.base import Budget, Observation, Suite, Task
from suites.short_settings import GATE, STAND_IN
from suites.wrappers import ActionRepeat, FrameStack, Pixels, States

OBSERVATIONS: tuple[Observation, ...] = ("pixels", "state")
EPISODE_STEPS = 40  # control steps
DROP_STEPS = 20  # control steps a ball takes to fall: two balls an episode
PADDLE_SPEED = 0.06  # field widths per control step at full action: the whole field in 17 steps
PADDLE_HALF_WIDTH = 0.12
BALL_HALF_WIDTH = 0.05
CATCH_REWARD = 10.0
BACKGROUND, BALL, PADDLE = (20, 20, 40), (230, 60, 60), (80, 220, 120)


class Catch(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One control step at a time, observed as `(paddle_x, ball_x, ball_y)` in field widths, 0 to 1, y downward.

    The reward of a step is the closeness `1 - |paddle_x - ball_x|`, plus 10 for a catch. An episode is truncated after
    40 control steps; with `end_on_miss` it terminates at the first ball missed.

    labels: empty; nothing about these frames needs marking.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own declaration
    render_mode = "rgb_array"

    def __init__(self, seed: int, *, end_on_miss: bool, image_size: int = 84) -> None:
        self.labels: dict[str, str] = {}
        self._end_on_miss = end_on_miss
        self._image_size = image_size
        self._first_seed: int | None = seed
        self._paddle_x = self._ball_x = self._ball_y = 0.5
        self._steps = 0
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = Box(0.0, 1.0, (3,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        super().reset(seed=self._first_seed if seed is None else seed)
        self._first_seed = None
        self._steps = 0
        self._paddle_x = 0.5
        self._drop_ball()
        return self._state(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        velocity = PADDLE_SPEED * float(np.clip(action[0], -1.0, 1.0))
        self._paddle_x = float(np.clip(self._paddle_x + velocity, 0.0, 1.0))
        self._ball_y = (self._steps % DROP_STEPS or DROP_STEPS) / DROP_STEPS
        distance = abs(self._paddle_x - self._ball_x)
        reward, missed = 1.0 - distance, False
        if self._ball_y == 1.0:
            missed = distance > PADDLE_HALF_WIDTH + BALL_HALF_WIDTH
            reward += 0.0 if missed else CATCH_REWARD
        terminated = missed and self._end_on_miss
        truncated = self._steps >= EPISODE_STEPS and not terminated
        landed = self._state()
        if self._ball_y == 1.0 and not (terminated or truncated):
            self._drop_ball()
            landed = self._state()
        return landed, reward, terminated, truncated, {}

    def render(self) -> NDArray[np.uint8]:
        """The present frame, uint8 `(image_size, image_size, 3)`."""
        return self.render_image(self._image_size, self._image_size)

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The present frame at any size, uint8 `(height, width, 3)`."""
        image = np.empty((height, width, 3), np.uint8)
        image[:] = BACKGROUND
        _fill(image, self._ball_x, self._ball_y * 0.95, BALL_HALF_WIDTH, 0.05, BALL)
        _fill(image, self._paddle_x, 0.97, PADDLE_HALF_WIDTH, 0.03, PADDLE)
        return image

    def state(self) -> NDArray[np.float32]:
        """What the scripted player is shown, float32 `(3,)`."""
        return self._state().astype(np.float32)

    def _drop_ball(self) -> None:
        self._ball_x = float(self.np_random.uniform())
        self._ball_y = 0.0

    def _state(self) -> NDArray[np.float64]:
        return np.array([self._paddle_x, self._ball_x, self._ball_y])


def _fill(
    image: NDArray[np.uint8], x: float, y: float, half_width: float, half_height: float, colour: tuple[int, int, int]
) -> None:
    """Colours the rectangle around `(x, y)`, all in fractions of the image."""
    height, width = image.shape[:2]
    top, bottom = round((y - half_height) * height), round((y + half_height) * height)
    left, right = round((x - half_width) * width), round((x + half_width) * width)
    image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour


def make(
    action_repeat: int,
    end_on_miss: bool,
    seed: int,
    *,
    image_size: int = 84,
    frame_stack: int = 3,
    observation: str = "pixels",
) -> gymnasium.Env[Any, Any]:
    """As `suites.base.MakeEnv` describes; with `observation="state"` a `StateEnv` of `Catch`'s three numbers."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"observation is {observation!r}; valid: {', '.join(OBSERVATIONS)}")
    env = ActionRepeat(Catch(seed, end_on_miss=end_on_miss, image_size=image_size), action_repeat)
    if observation == "state":
        return States(env)
    return FrameStack(Pixels(env, image_size, image_size), frame_stack)


def _task(name: str, action_repeat: int, end_on_miss: bool, instruction: str) -> Task:
    return Task(
        name,
        partial(make, action_repeat, end_on_miss),
        action_repeat,
        # 0: no closeness at all; 60: two catches (20) and perfect closeness on each of the 40 control steps.
        score_range=(0.0, 60.0),
        instruction=instruction,
        max_episode_steps=EPISODE_STEPS,
        observations=OBSERVATIONS,
        player="catcher",
    )


SMOKE: dict[str, Any] = {
    "batch_size": 32,
    "seed_steps": 100,
    "random_agent_steps": 50,
    "initial_updates": 10,
    "target_period": 25,  # mrq's bursts
    "model_batch_size": 4,
}
SMOKE |= {"covr.psi0": 120, "covr.guidance_after": 2, "covr.vlm_episodes": 1, "covr.finetune_min_steps": 10}
SMOKE |= {"vpf.rollout": 16, "vpf.minibatch": 8, "dgc.query_batch": 8}
SHORT: dict[str, Any] = {
    "batch_size": 32,
    "seed_steps": 500,
    "random_agent_steps": 250,
    "initial_updates": 10,
    "model_batch_size": 4,
    "covr.psi0": 600,
    "covr.guidance_after": 2,
    "vpf.rollout": 64,
    "vpf.minibatch": 32,
    "vpf.query_every": 4,
}
PAPER: dict[str, Any] = {"mrq.random_agent_steps": 1_000}  # its own would be the whole run
INSTRUCTION = "A red ball falls; slide the green paddle at the bottom left or right so that it is under the ball."
SUITE = Suite(
    name="catch",
    version=1,
    tasks=(
        _task("catch", 2, False, INSTRUCTION),
        _task("catch_or_end", 1, True, f"{INSTRUCTION} A missed ball ends the game."),
    ),
    budgets={
        "gate": Budget(
            "gate", 800, 400, 5, tuple(range(8)), GATE, "Is training as it was? Signals of many small runs."
        ),
        "smoke": Budget("smoke", 400, 200, 1, (0,), SMOKE, "Does it run? Ten episodes."),
        "short": Budget("short", 4_000, 1_000, 5, (0,), SHORT, "Does it learn? A hundred episodes.", STAND_IN),
        "paper": Budget(
            "paper", 20_000, 2_000, 10, (0, 1, 2), PAPER, "The suite's reference protocol; no paper reports it."
        ),
    },
    agents=("random", "drqv2"),
    doc="A numpy pixel game for tests and demonstrations.",
)
