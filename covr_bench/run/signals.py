"""Signals: what training emits, as mean and deviation over each of twenty intervals of a run.

The losses of every update and the actions of every step count. What costs more to see (norms of gradients and weights,
the sampled batches, the augmentation) is looked at in ten updates of an interval, see `run.watch`.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr_bench.run.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from covr_bench.kit.api import Agent, Policy
    from covr_bench.kit.replay import Replay

INTERVALS = 20  # of a run
WATCHED = 10  # updates of an interval that are looked at closely
FOLD = 50  # updates whose losses are read at once: reading them stops a GPU
NEAR_LIMIT = 0.99  # size of an action component that counts as saturated
IN_TRAINING, IN_EVALUATION = "action", "evaluation action"


class Signals:
    """Collects signals, and says what an interval had when it is over.

    Args:
        agent: The run's, whose networks are watched.
        replay: The run's, whose batches are watched.
        env_steps: Length of the run.
    """

    def __init__(self, agent: Agent, replay: Replay, env_steps: int) -> None:
        self._agent, self._replay, self._env_steps = agent, replay, env_steps
        self._values: dict[str, list[float]] = {}
        self._actions: dict[str, list[list[float]]] = {IN_TRAINING: [], IN_EVALUATION: []}
        self._losses: list[Mapping[str, Any]] = []
        self._updates = self._interval = self._looks = 0

    def acted(self, action: npt.NDArray[np.float32], when: str = IN_TRAINING) -> None:
        """Note an action, float32 `(action_dim,)`."""
        self._actions[when].append(action.tolist())

    def update(self, step: int) -> AbstractContextManager[Any]:
        """What the agent's update at an environment step is to be made in."""
        due = step * INTERVALS * WATCHED // self._env_steps >= self._looks
        return Watch(self._agent, self._replay, step, self._look) if due else nullcontext()

    def _look(self, step: int, seen: Mapping[str, float]) -> None:
        self._looks = step * INTERVALS * WATCHED // self._env_steps + 1
        for name, value in seen.items():
            self._values.setdefault(name, []).append(value)

    def learned(self, metrics: Mapping[str, Any]) -> None:
        """Note what an update returned."""
        self._updates += 1
        self._losses.append(metrics)
        if len(self._losses) >= FOLD:
            self._fold()

    def _fold(self) -> None:
        names = dict.fromkeys(name for losses in self._losses for name in losses)
        for name in names:
            values = [losses[name] for losses in self._losses if name in losses]
            device = next((value.device for value in values if isinstance(value, torch.Tensor)), None)
            tensors = [torch.as_tensor(value, dtype=torch.float64, device=device) for value in values]
            self._values.setdefault(name, []).extend(torch.stack(tensors).tolist())
        self._losses = []

    def interval(self, step: int) -> dict[str, float]:
        """The signals of the interval that ended by an environment step; none if it goes on."""
        now = step * INTERVALS // self._env_steps
        if now == self._interval:
            return {}
        self._fold()
        self._interval = now
        values = {name: np.asarray(each) for name, each in self._values.items()}
        for when, actions in self._actions.items():
            values |= _of_actions(when, np.asarray(actions)) if actions else {}
        measured = {"updates": float(self._updates)}
        for name, each in values.items():
            measured[name] = float(each.mean())
            if len(each) > 1:
                measured[f"{name}.sd"] = float(each.std())
        self._values, self._updates = {}, 0
        self._actions = {when: [] for when in self._actions}
        return measured

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        self._fold()
        return {
            "values": {name: torch.tensor(each, dtype=torch.float64) for name, each in self._values.items()},
            "actions": {when: torch.tensor(each, dtype=torch.float64) for when, each in self._actions.items()},
            "counted": [self._updates, self._interval, self._looks],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._values = {name: each.tolist() for name, each in state["values"].items()}
        self._actions = {when: each.tolist() for when, each in state["actions"].items()}
        self._updates, self._interval, self._looks = state["counted"]

    def evaluated(self, agent: Agent) -> Policy:
        """The agent as an evaluation asks it, with its actions noted."""
        return _Noted(agent, self)


class _Noted:
    def __init__(self, agent: Agent, signals: Signals) -> None:
        self._agent, self._signals = agent, signals

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        action = self._agent.act(obs, step, explore)
        if isinstance(action, np.ndarray):  # else the caller says what is wrong with it
            self._signals.acted(action, IN_EVALUATION)
        return action


def _of_actions(when: str, actions: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Signals of actions `(n, action_dim)`, one after the other."""
    size = np.abs(actions)
    signals = {
        f"{when}": actions.mean(axis=1),
        f"{when} size": size.mean(axis=1),
        f"{when} saturated": (size > NEAR_LIMIT).mean(axis=1),
    }
    if len(actions) > 1:
        signals[f"{when} change"] = np.abs(np.diff(actions, axis=0)).mean(axis=1)
    return {name: each for name, each in signals.items() if not math.isnan(each.sum())}
