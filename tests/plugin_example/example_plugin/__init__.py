"""An agent that always does the same, a suite of one task, and a budget of one episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from covr_bench import AgentSpec, Budget, Context, Suite, Task
from suites import catch


@dataclass(frozen=True)
class Config:
    """action: what it does, -1 to 1."""

    action: float = 0.5


class Constant:
    def __init__(self, config: Config, context: Context) -> None:
        self.action = np.full(context.action_dim, config.action, np.float32)

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        return self.action

    def update(self, replay: Any, step: int) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


AGENT = AgentSpec("example_constant", Config, Constant, kind="control")
BUDGET = Budget("example_tiny", env_steps=40, eval_every=40, eval_episodes=1)
SUITE = Suite(
    "example_catch", 1, (Task("slow_catch", catch.SUITE.tasks[0].make, 2),), {"smoke": BUDGET}, ("example_constant",)
)
