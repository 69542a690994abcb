"""Any registered Gymnasium environment with `Box` actions and `rgb_array` frames as a task of ours."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from PIL import Image

from suites.base import SimulatorError, Task
from suites.wrappers import ActionRepeat, FrameStack, Pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def from_gymnasium(
    env_id: str,
    *,
    name: str = "",
    action_repeat: int = 1,
    score_range: tuple[float, float] | None = None,
    instruction: str = "",
    max_episode_steps: int | None = None,
    needs_gl: bool | None = None,
    **settings: Any,
) -> Task:
    """A task of a registered environment, seen by camera.

    Args:
        env_id: As `gymnasium.make` takes it; `my_package:MyEnv-v0` imports `my_package` first.
        name: The task's; by default the id in snake case, `bipedal_walker` of `BipedalWalker-v3`.
        action_repeat: Control steps per agent step.
        score_range: Returns that count as 0 and as 1; by default 0 and the id's registered `reward_threshold`, or,
            where it has none above 0, 0 and 1, which leaves returns as they are.
        instruction: The task as a vision-language model is told it.
        max_episode_steps: Time limit in control steps; by default the registered one.
        needs_gl: Whether MuJoCo draws it, which needs an OpenGL backend; by default whether its entry point says so.
        **settings: Keyword arguments of the environment itself, such as `continuous=True`.

    Raises:
        gymnasium.error.Error: No such id.
        ValueError: Neither the id nor the caller says how long an episode is.
    """
    spec = gymnasium.spec(env_id)
    threshold = spec.reward_threshold or 0.0
    limit = max_episode_steps or spec.max_episode_steps
    if limit is None:
        raise ValueError(f"{env_id} is registered without a time limit; give from_gymnasium max_episode_steps=...")
    return Task(
        name or _snake(spec.name),
        partial(make, env_id, limit, action_repeat, settings),
        action_repeat,
        score_range or (0.0, float(threshold) if threshold > 0 else 1.0),
        instruction,
        limit,
        needs_gl="mujoco" in str(spec.entry_point).lower() if needs_gl is None else needs_gl,
    )


def make(
    env_id: str,
    max_episode_steps: int,
    action_repeat: int,
    settings: Mapping[str, Any],
    seed: int,
    *,
    image_size: int = 84,
    frame_stack: int = 3,
) -> gymnasium.Env[Any, Any]:
    """A pixel environment, as `suites.base.MakeEnv` describes."""
    env = ActionRepeat(Registered(env_id, max_episode_steps, settings, seed, image_size=image_size), action_repeat)
    return FrameStack(Pixels(env, image_size, image_size), frame_stack)


class Registered(gymnasium.Env[Any, "NDArray[np.float32]"]):
    """A registered environment, one control step at a time, with its actions scaled to -1..1 and clipped.

    Frames are the environment's own, drawn at its size and scaled with antialiasing; one that is not square is
    squeezed into a square.

    labels: empty.
    Raises ImportError where its simulator is missing, SimulatorError where its actions or frames cannot be used.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - gymnasium's own declaration
    render_mode = "rgb_array"

    def __init__(
        self, env_id: str, max_episode_steps: int, settings: Mapping[str, Any], seed: int, *, image_size: int
    ) -> None:
        self._env = _open(env_id, max_episode_steps, settings)
        self.labels: dict[str, str] = {}
        self.metadata = {**self.metadata, "render_fps": self._env.metadata.get("render_fps")}
        self._id, self._image_size = env_id, image_size
        self._frame: NDArray[np.uint8] | None = None  # of the present moment, once it is drawn
        self._first_seed: int | None = seed
        space = _continuous(env_id, self._env.action_space)
        self._action_shape, self._action_dtype = space.shape, space.dtype
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._low, self._high = low.ravel(), high.ravel()
        self._scale, self._middle = (self._high - self._low) / 2, (self._high + self._low) / 2
        self.action_space = Box(-1.0, 1.0, self._scale.shape, np.float32)
        self.observation_space = self._env.observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seed, self._first_seed = self._first_seed if seed is None else seed, None
        self._frame = None
        return self._env.reset(seed=seed)

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        scaled = np.clip(action, -1.0, 1.0) * self._scale + self._middle
        scaled = np.clip(scaled, self._low, self._high)  # rounding may leave them by a last digit
        self._frame = None
        obs, reward, terminated, truncated, info = self._env.step(
            scaled.reshape(self._action_shape).astype(self._action_dtype)
        )
        # A termination at the time limit is one: Gymnasium's TimeLimit reports both.
        return obs, float(reward), bool(terminated), bool(truncated) and not terminated, info

    def render(self) -> NDArray[np.uint8]:
        """The present frame, uint8 `(image_size, image_size, 3)`."""
        return self.render_image(self._image_size, self._image_size)

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The present frame at any size, uint8 `(height, width, 3)`."""
        if self._frame is None:  # once a moment: some environments, such as LunarLander, change as they draw
            self._frame = self._drawn()
        return np.array(Image.fromarray(self._frame).resize((width, height), Image.Resampling.BILINEAR))

    def _drawn(self) -> NDArray[np.uint8]:
        frame: Any = self._env.render()
        if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,)):
            raise SimulatorError(
                f"{self._id} renders {_described(frame)}; it must return uint8 (height, width, 3) with "
                "render_mode='rgb_array'"
            )
        return np.array(frame)

    def close(self) -> None:
        self._env.close()


def _open(env_id: str, max_episode_steps: int, settings: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame prints a greeting when imported
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no window is opened, so no display is looked for
    try:
        return gymnasium.make(
            env_id,
            render_mode="rgb_array",
            max_episode_steps=max_episode_steps,
            disable_env_checker=True,  # ours says more
            **settings,
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{env_id} cannot be made: {error}") from None
    except ModuleNotFoundError as error:
        if "gymnasium.envs.mujoco" in str(gymnasium.spec(env_id).entry_point):
            raise ImportError(f"{env_id} cannot be made: {error}: pip install 'gymnasium[mujoco]'") from None
        raise


def _continuous(env_id: str, space: gymnasium.Space[Any]) -> Box:
    """Raises SimulatorError for actions that cannot be scaled to -1..1."""
    if not isinstance(space, Box):
        raise SimulatorError(
            f"{env_id} takes actions from {space}, and agents here give numbers from -1 to 1: choose an environment "
            "with a Box action space, or its continuous variant if it has one (continuous=True)"
        )
    if not (np.issubdtype(space.dtype, np.floating) and space.is_bounded()):
        raise SimulatorError(
            f"{env_id} takes actions from {space}, which cannot be scaled to -1..1: register it with bounded "
            "floating-point actions (gymnasium.wrappers.RescaleAction and ClipAction help)"
        )
    return space


def _described(frame: Any) -> str:
    if isinstance(frame, np.ndarray):
        return f"{frame.dtype} {frame.shape}"
    return "None" if frame is None else f"a {type(frame).__name__}"


def _snake(name: str) -> str:
    """`BipedalWalker` as `bipedal_walker`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|\W+", "_", name).lower()
