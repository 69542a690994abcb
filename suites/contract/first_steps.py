"""Whether a reset and some steps return what the spaces say, and the present moment can be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from suites.contract.trial import Step, described, tried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from suites.contract.trial import Trial

STEPS = 4
DRAW = (
    "add `def render_image(self, height, width)` to it, which returns the present frame as uint8 (height, width, 3); "
    "an environment with rgb_array frames gets one from `suites.from_gymnasium`"
)
COUNT = "suites.wrappers.ActionRepeat counts them"


def reset(trial: Trial) -> Iterator[str]:
    """An episode can begin."""
    trial.obs = trial.reset(seed=0)
    yield from ()


def first_observation(trial: Trial) -> Iterator[str]:
    """What the reset returned."""
    yield from observation(trial, trial.obs)
    if _is_stack(trial, obs := trial.obs) and not np.array_equal(obs, np.tile(obs[-3:], (len(obs) // 3, 1, 1))):
        yield "the frames of a reset's observation differ: repeat the first frame, as suites.wrappers.FrameStack does"


def steps(trial: Trial) -> Iterator[str]:
    """A few steps of the episode that was begun; those after a fault are not taken."""
    act = trial.actions()
    for _ in range(STEPS):
        step, problems = observed_step(trial, trial.obs, act())
        yield from problems
        if problems:
            return
        trial.obs = trial.reset(seed=1) if step.over else step.obs


def observed_step(trial: Trial, before: Any, action: np.ndarray[Any, Any]) -> tuple[Step, list[str]]:
    """A step from the observation `before`, and all that is wrong with it. Raises Broken."""
    kept, given = np.array(before), action.copy()
    step = trial.step(action)
    problems = [*_flags(step), *_reward(step), *_count(trial, step), *observation(trial, step.obs)]
    if not np.array_equal(action, given):
        problems.append("step writes to the action it is given, which is stored afterwards: work on a copy of it")
    if not np.array_equal(kept, before):
        problems.append("step writes to the observation returned before, which is still in use: return a new array")
    elif not problems and _is_stack(trial, kept) and not np.array_equal(step.obs[:-3], kept[3:]):
        problems.append(
            "the older frames of an observation are not the newer frames of the one before: join the last frame_stack "
            "frames, newest last, as suites.wrappers.FrameStack does"
        )
    return step, problems


def observation(trial: Trial, obs: Any) -> Iterator[str]:
    """Whether an observation is of its space."""
    space = trial.env.observation_space
    if not isinstance(space, spaces.Box):
        return
    if not isinstance(obs, np.ndarray):
        yield f"an observation is {described(obs)}: return a numpy array, {space.dtype} {space.shape}"
    elif obs.shape != space.shape:
        mend = "draw or resize each frame to the size declared" if trial.sees == "pixels" else "make them agree"
        yield f"an observation has the shape {obs.shape}, and its space says {space.shape}: {mend}"
    elif obs.dtype != space.dtype:
        yield f"an observation is {obs.dtype}, and its space says {space.dtype}: return {space.dtype}"
    elif not np.isfinite(obs).all():
        yield "an observation holds numbers that are not finite: look for a division by zero"


def picture(trial: Trial) -> Iterator[str]:
    """The present moment, drawn at the observation's size, where a simulator has it ready."""
    draw = getattr(trial.env.unwrapped, "render_image", None)
    if not callable(draw):
        yield f"{type(trial.env.unwrapped).__name__}, which env.unwrapped is, has no render_image: {DRAW}"
        return
    size = trial.options.get("image_size", 84)
    yield from drawn(trial, size, size if trial.sees == "state" else (trial.env.observation_space.shape or (size,))[-1])


def drawn(trial: Trial, height: int, width: int) -> Iterator[str]:
    """What `render_image` returns at that size."""
    call = f"render_image({height}, {width})"
    frame: Any = tried(call, lambda: trial.env.unwrapped.render_image(height, width), lambda error: DRAW)
    if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape == (height, width, 3)):
        yield f"{call} returns {described(frame)}: return uint8 ({height}, {width}, 3)"


def labels(trial: Trial) -> Iterator[str]:
    """What results are marked with: strings by name."""
    found = getattr(trial.env.unwrapped, "labels", {})
    if not isinstance(found, Mapping) or any(not isinstance(item, str) for pair in found.items() for item in pair):
        yield f"labels is {found!r:.80}, and results are marked with strings by name: write `{{'render': 'fast'}}`"
    elif any(set(",=") & set(item) for pair in found.items() for item in pair):
        yield f"labels is {found!r:.80}, and ',' and '=' stand between labels in tables: write it without"


def _is_stack(trial: Trial, obs: Any) -> bool:
    return trial.sees == "pixels" and isinstance(obs, np.ndarray) and obs.ndim == 3 and len(obs) % 3 == 0


def _flags(step: Step) -> Iterator[str]:
    flags = {name: getattr(step, name) for name in ("terminated", "truncated")}
    wrong = {name: flag for name, flag in flags.items() if not isinstance(flag, bool | np.bool_)}
    for name, flag in wrong.items():
        yield f"step returns {described(flag)} as {name}: return a bool"
    if not wrong and all(flags.values()):
        yield (
            "step returns terminated and truncated both true, and a truncated episode is one that could have gone on: "
            "return `truncated and not terminated`"
        )


def _reward(step: Step) -> Iterator[str]:
    try:
        if isinstance(step.reward, str | np.ndarray) and np.shape(step.reward):
            raise TypeError
        reward = float(step.reward)
    except (TypeError, ValueError):
        yield f"step returns {described(step.reward)} as reward: return `float(reward)`"
        return
    if not np.isfinite(reward):
        yield f"step returns the reward {reward}: return a finite number, and look for a division by zero"


def _count(trial: Trial, step: Step) -> Iterator[str]:
    count, repeat = step.info.get("env_steps"), trial.task.repeat(trial.options)
    if count is None:
        yield f'step returns no info["env_steps"]: add the number of control steps it took; {COUNT}'
    elif isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        yield f'info["env_steps"] is {count!r}: it is the number of control steps a step took, at least 1; {COUNT}'
    elif count > repeat or (count < repeat and not step.over):
        yield (
            f'info["env_steps"] is {count} in a step {"that ends" if step.over else "within"} an episode, and the '
            f"task's action_repeat is {repeat}: report the control steps taken, fewer only where the episode ends, and "
            f"give the Task the repeat that the environment has; {COUNT}"
        )
