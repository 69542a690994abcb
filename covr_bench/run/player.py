"""A task's scripted player beside a run: what would be good to do now, for studies that have to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.kit.api import Context

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from suites.base import TaskEnv


class ScriptedPlayer:
    """The agent that plays a task by rules, in an environment that shows pictures to another.

    Args:
        name: The agent's.
        env: Whose state it is shown.
        action_repeat: Of that environment.
    """

    def __init__(self, name: str, env: TaskEnv, action_repeat: int) -> None:
        self._name, self._env, self._repeat = name, env, action_repeat
        self._agent: Any = None

    def act(self) -> npt.NDArray[np.float32]:
        """What it does at the present moment, float32 `(A,)` in [-1, 1]."""
        state = self._env.unwrapped.state()
        if self._agent is None:
            (actions,) = self._env.action_space.shape or ()
            context = Context(state.shape, actions, self._repeat, 0, "cpu", 0)
            self._agent = registry.make_agent(self._name, {}, context)
        action: npt.NDArray[np.float32] = self._agent.act(state, 0, False)
        return action
