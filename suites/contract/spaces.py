"""Whether the spaces are those of a pixel or a state environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from suites.contract.trial import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from suites.contract.trial import Trial

STACKED = "`FrameStack(Pixels(ActionRepeat(env, n), size, size), frame_stack)` of suites.wrappers does it"


def methods(env: Any) -> Iterator[str]:
    """What `make` gives can be played."""
    if missing := [name for name in ("reset", "step", "close") if not callable(getattr(env, name, None))]:
        yield f"make gives {described(env)}, which has no {', '.join(missing)}: return a gymnasium.Env"


def actions(trial: Trial) -> Iterator[str]:
    """float32 Box(-1, 1) of one dimension."""
    space = trial.env.action_space
    if not isinstance(space, spaces.Box):
        yield (
            f"the action space is {_short(space)}, and agents give numbers from -1 to 1: declare "
            "`Box(-1, 1, (n,), np.float32)` and turn the numbers into a choice in step, for example "
            "`int(np.argmax(action))`"
        )
        return
    if len(space.shape) != 1 or space.shape == (0,):
        yield (
            f"the action space has the shape {space.shape}, and an action is one row of numbers: declare "
            f"`Box(-1, 1, ({max(1, int(np.prod(space.shape)))},), np.float32)` and reshape the action in step"
        )
    if not (np.all(space.low == -1.0) and np.all(space.high == 1.0)):
        yield (
            f"the action space goes from {_bounds(space.low)} to {_bounds(space.high)}, and agents give numbers from "
            "-1 to 1: declare `Box(-1, 1, shape, np.float32)` and scale the action in step, or wrap the environment in "
            "`gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))`"
        )
    if space.dtype != np.float32:
        yield f"the action space is {space.dtype}, and actions are float32: declare `Box(-1, 1, shape, np.float32)`"


def observations(trial: Trial) -> Iterator[str]:
    """A Box as the task declares it: pictures or states."""
    space = trial.env.observation_space
    if not isinstance(space, spaces.Box):
        yield (
            f"the observation space is {_short(space)}, and an observation is one array: return the picture alone "
            f"({STACKED}), or declare `Task(observations=('state',))` and flatten it with "
            "`gymnasium.wrappers.FlattenObservation`"
        )
    elif trial.sees == "state":
        yield from _state(space)
    else:
        yield from _pixels(space, trial)


def _state(space: spaces.Box) -> Iterator[str]:
    if len(space.shape) != 1:
        yield (
            f"the task shows states, and the observation space has the shape {space.shape} where a state is `(N,)`: "
            "wrap the environment in `gymnasium.wrappers.FlattenObservation`, or, if these are pictures, leave "
            "`observations` out of the Task"
        )
    if space.dtype != np.float32:
        yield f"the observation space is {space.dtype}, and a state is float32: declare and return np.float32"


def _pixels(space: spaces.Box, trial: Trial) -> Iterator[str]:
    if len(space.shape) != 3:
        yield (
            f"the observation space has the shape {space.shape}, and pictures have `(3 * frame_stack, height, width)`: "
            f"{STACKED}; numbers instead of pictures are declared by `Task(observations=('state',))`"
        )
        return
    yield from _layout(space.shape, trial)
    if space.dtype != np.uint8:
        yield (
            f"the observation space is {space.dtype}, and pictures are uint8 from 0 to 255: declare "
            f"`Box(0, 255, shape, np.uint8)` and return `np.round(255 * picture).astype(np.uint8)` if yours go from "
            "0 to 1"
        )
    elif not (np.all(space.low == 0) and np.all(space.high == 255)):
        yield (
            f"the observation space goes from {_bounds(space.low)} to {_bounds(space.high)}, and pictures go from 0 to "
            "255: declare `Box(0, 255, shape, np.uint8)`"
        )


def _layout(shape: tuple[int, ...], trial: Trial) -> Iterator[str]:
    """Channels first, three a frame, at the size asked for."""
    channels, height, width = shape
    stack, size = (trial.options.get(name) for name in ("frame_stack", "image_size"))
    if width % 3 == 0 and width < min(channels, height):
        yield (
            f"the observation space has the shape {shape}, channel last, and pictures are channel first: declare "
            f"{(width, channels, height)} and return `picture.transpose(2, 0, 1)`"
        )
        return
    if channels % 3 or (stack and channels != 3 * stack):
        wanted = f"{3 * stack}, three for each of {stack} frames" if stack else "a multiple of three"
        yield (
            f"the observation space has {channels} channels, and pictures have {wanted}: return RGB frames (a grey one "
            f"repeated three times), stacked; {STACKED}"
        )
    if size and (height != size or width % size):
        yield (
            f"the observation space has frames of {height} by {width} pixels, and image_size is {size}: draw or resize "
            f"each frame to {size} by {size}, and declare `Box(0, 255, (3 * frame_stack, image_size, image_size), "
            "np.uint8)`"
        )


def _bounds(values: NDArray[Any]) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"


def _short(space: spaces.Space[object]) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 60 else f"a {type(space).__name__}"
