"""An environment on trial: what it returns, or a sentence on why it cannot be tried further."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from gymnasium.spaces import Box

from suites.base import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from suites.base import Task, TaskEnv

T = TypeVar("T")
RESET = "write it as `def reset(self, *, seed=None, options=None)` and return `observation, info`"


class Broken(Exception):
    """Nothing that depends on this call can be tried; the message is the sentence."""


class Step(NamedTuple):
    """What one step returned. obs: as returned, not copied."""

    obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: Any

    @property
    def over(self) -> bool:
        return bool(self.terminated or self.truncated)


class Trial:
    """One environment made with these options of its task. obs: the newest of the episode begun first."""

    def __init__(self, env: TaskEnv, task: Task, options: Mapping[str, Any]) -> None:
        self.env, self.task = env, task
        self.options = {**task.options, **options}
        self.sees = task.observed(options)
        self.obs: Any = None

    def reset(self, seed: int | None) -> Any:
        """The first observation. Raises Broken."""
        call = f"reset(seed={seed})"
        returned = tried(call, lambda: self.env.reset(seed=seed), _mend_of_reset)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict)):
            raise Broken(f"{call} returns {described(returned)}; return a pair `observation, info`, info a dict")
        return returned[0]

    def step(self, action: Any) -> Step:
        """What a step returns. Raises Broken."""
        returned = tried("step", lambda: self.env.step(action), lambda error: "mend the step")
        if not (isinstance(returned, tuple) and len(returned) == 5 and isinstance(returned[4], dict)):
            raise Broken(
                f"step returns {described(returned)}; return `observation, reward, terminated, truncated, info`, "
                "info a dict"
            )
        return Step(*returned)

    def actions(self, seed: int = 7) -> Callable[[], Any]:
        """Actions at random, the same ones for the same seed: uniform, or whatever a space of another kind takes."""
        space = self.env.action_space
        if isinstance(space, Box) and len(space.shape) == 1 and space.is_bounded():
            rng = np.random.default_rng(seed)
            return lambda: rng.uniform(space.low, space.high).astype(space.dtype)
        space.seed(seed)
        return space.sample


def tried(call: str, do: Callable[[], T], mend: Callable[[BaseException], str]) -> T:
    """What the call returns. Raises Broken with what the call raised."""
    try:
        return do()
    except (SimulatorError, ImportError) as error:  # its message says what mends it
        raise Broken(f"{call}: {error}") from error
    except (Exception, SystemExit) as error:
        raise Broken(f"{call} raises {raised(error)}; {mend(error)}") from error


def _mend_of_reset(error: BaseException) -> str:
    return RESET if isinstance(error, TypeError) and "argument" in str(error) else "mend the reset"


def raised(error: BaseException) -> str:
    """`KeyError: 'speed' (my_env.py, line 12)`."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({Path(last.filename).name}, line {last.lineno})"


def described(value: Any) -> str:
    """A value in a few words: arrays by type and shape, tuples by length."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"{len(value)} values ({', '.join(type(item).__name__ for item in value)})"
    return "None" if value is None else f"a {type(value).__name__}"
