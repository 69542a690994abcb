"""The wrappers a pixel task is built from: `FrameStack(Pixels(ActionRepeat(env)))`.

In that order the simulator is drawn once per agent step, not once per repeated control step.
Termination and truncation pass through all of them unchanged.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


def whole(name: str, value: int) -> int:
    """The value, if it is a whole number of at least 1. Raises ValueError."""
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value


class ActionRepeat(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Applies each action for `action_repeat` control steps, or until the episode ends, and sums the rewards.

    `info["env_steps"]` is the number of control steps taken; the rest of `info` is the last control step's.
    Raises ValueError for an action of another shape than the space's or that is not finite, which simulators would take
    for another action, and gymnasium's ResetNeeded outside an episode.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], action_repeat: int) -> None:
        super().__init__(env)
        self.action_repeat = whole("action_repeat", action_repeat)
        if fps := env.metadata.get("render_fps"):  # of control steps; here a picture is of an action
            self.metadata = {**env.metadata, "render_fps": fps / action_repeat}
        self._over = True  # there is no episode before the first reset

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(seed=seed, options=options)
        self._over = False
        return found

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._over:
            raise gymnasium.error.ResetNeeded("no episode is running: call reset before step, and again after its end")
        if np.shape(action) != (shape := self.action_space.shape):
            raise ValueError(f"the action has the shape {np.shape(action)}; this environment takes {shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"the action is {np.asarray(action).tolist()}; its parts must be finite numbers")
        total, env_steps = 0.0, 0
        while env_steps < self.action_repeat and not self._over:
            obs, reward, terminated, truncated, info = self.env.step(action)
            total, env_steps, self._over = total + float(reward), env_steps + 1, terminated or truncated
        return obs, total, terminated, truncated, {**info, "env_steps": env_steps}


class Pixels(gymnasium.ObservationWrapper[Frame, Any, Any]):
    """Replaces the observation with what `env.render()` draws: uint8 `(3, H, W)`. Needs render mode `rgb_array`."""

    def __init__(self, env: gymnasium.Env[Any, Any], height: int, width: int) -> None:
        if env.render_mode != "rgb_array":
            raise ValueError(f"render_mode is {env.render_mode!r}; pixels need 'rgb_array'")
        super().__init__(env)
        shape = (3, whole("image_size", height), whole("image_size", width))
        self.observation_space = Box(0, 255, shape, np.uint8)

    def observation(self, observation: Any) -> Frame:
        frame: Any = self.env.render()  # (H, W, 3)
        return np.ascontiguousarray(frame.transpose(2, 0, 1))


class States(gymnasium.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Replaces the observation with `env.unwrapped.state()`, float32 `(N,)`."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        state: NDArray[np.float32] = self.unwrapped.state()  # type: ignore[attr-defined]
        return state


class FrameStack(gymnasium.Wrapper[Frame, Any, Frame, Any]):
    """Joins the last `frame_stack` frames along the channel axis, newest last: `(C * frame_stack, H, W)`.

    A reset fills the stack with the first frame. Every observation is a new array.
    """

    def __init__(self, env: gymnasium.Env[Frame, Any], frame_stack: int) -> None:
        whole("frame_stack", frame_stack)
        super().__init__(env)
        channels, height, width = env.observation_space.shape or ()
        self.observation_space = Box(0, 255, (channels * frame_stack, height, width), np.uint8)
        self._channels, self._frame_stack = channels, frame_stack
        self._obs = np.zeros(self.observation_space.shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, dict[str, Any]]:
        frame, info = self.env.reset(seed=seed, options=options)
        self._obs = np.concatenate([frame] * self._frame_stack)
        return self._obs.copy(), info

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        frame, reward, terminated, truncated, info = self.env.step(action)
        self._obs = np.concatenate([self._obs[self._channels :], frame])
        return self._obs.copy(), float(reward), terminated, truncated, info
