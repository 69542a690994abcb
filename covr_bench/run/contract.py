"""What an agent hands to the loop, checked: the first thing that is wrong is named in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from covr_bench.kit.errors import UserError
from covr_bench.run.state_tree import copied, has

if TYPE_CHECKING:
    from covr_bench.run.counters import Counters

LOSS_LIMIT = 1e8
RANGE_TOLERANCE = 1e-6  # by how much rounding may leave [-1, 1]
_NO_NUMBER = "look in the environment for a division by zero, or for a simulation that blew up"
_METRICS = (Real, np.number, np.bool_, np.ndarray, torch.Tensor)


class Diverged(Exception):
    """A loss or an action became NaN, or a loss exploded."""


def checked_action(action: Any, action_dim: int, step: int) -> npt.NDArray[np.float32]:
    """The action itself, float32 `(action_dim,)` in [-1, 1].

    Raises:
        UserError: It is of another type, dtype, shape or range: a mistake in the agent's code.
        Diverged: It is not made of numbers; a simulator's own complaint would be obscure.
    """
    if not isinstance(action, np.ndarray):
        raise _wrong_action(f"a {type(action).__name__}, {action!r:.60}", "return a numpy array", action_dim)
    if action.shape != (action_dim,):
        raise _wrong_action(f"of shape {action.shape}", f"return shape ({action_dim},)", action_dim)
    if action.dtype != np.float32:
        raise _wrong_action(f"of dtype {action.dtype}", "return action.astype(np.float32)", action_dim)
    if not np.isfinite(action).all():
        raise Diverged(
            f"the agent's action is {action.tolist()} at {step} env steps: its networks have diverged. The run stops "
            "here; its rows are kept. A smaller learning rate may help."
        )
    if np.abs(action).max(initial=0.0) > 1 + RANGE_TOLERANCE:
        raise _wrong_action(f"{action.tolist()}, out of range", "clip or squash it into [-1, 1]", action_dim)
    return action


def checked_reward(reward: Any, when: str) -> float:
    """A reward as a number. Raises UserError where it is not finite: the agent would be blamed for it."""
    if not math.isfinite(number := float(reward)):
        raise UserError(f"the environment's reward is {number} {when}: {_NO_NUMBER}")
    return number


def checked_obs(obs: npt.NDArray[Any], when: str) -> npt.NDArray[Any]:
    """The observation itself. Raises UserError where it is not finite: the agent would be blamed for it."""
    if obs.dtype.kind == "f" and not np.isfinite(obs).all():
        raise UserError(f"the environment's observation is {obs.tolist()!s:.80} {when}: {_NO_NUMBER}")
    return obs


def checked_metrics(metrics: Any) -> dict[str, Any]:
    """What `update` returned, as a dict. Raises UserError unless it maps names to single numbers."""
    if metrics is None:
        raise UserError("the agent's update returned None; it should return its metrics, {} if it did not learn")
    if not isinstance(metrics, Mapping):
        kind = type(metrics).__name__
        raise UserError(f"the agent's update returned a {kind}; it should return a mapping of names to 0-d tensors")
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, _METRICS) or getattr(value, "ndim", 0) != 0:
            raise UserError(f"the agent's metric {name!r} is {value!r:.60}; each should be a name and a 0-d tensor")
    return {
        name: value.item() if isinstance(value, np.generic | np.ndarray) else value for name, value in metrics.items()
    }


def check_losses(losses: Mapping[str, Any], counters: Counters) -> None:
    """Raises Diverged if a loss of the newest update is not a finite, sane number."""
    for name, value in losses.items():
        if not abs(float(value)) <= LOSS_LIMIT:  # NaN compares false
            raise Diverged(
                f"{name} is {float(value):g} at {counters.env_steps} env steps (update {counters.updates}): training "
                "has diverged. The run stops here; its rows are kept. A smaller learning rate may help."
            )


def check_agent(agent: Any) -> None:
    """Raises UserError if the agent lacks a method of the contract, or its state cannot be kept in a checkpoint."""
    for method in ("act", "update", "state_dict", "load_state_dict"):
        if not callable(getattr(agent, method, None)):
            raise UserError(f"the agent {type(agent).__name__} has no method {method}; see covr_bench.kit.api.Agent")
    try:
        state = copied(agent.state_dict())
    except TypeError as error:
        raise UserError(
            f"the state_dict of agent {type(agent).__name__} cannot be checkpointed: {error}. It may hold nested dicts "
            "and lists of tensors, numbers and strings"
        ) from error
    paths = getattr(agent, "only_learning", ())
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) and has(state, path) for path in paths):
        raise UserError(
            f"only_learning of agent {type(agent).__name__} is {paths!r:.200}; it should be a list of paths in its "
            'state_dict, such as ["critic", "networks/critic"]'
        )


def _wrong_action(what: str, mend: str, action_dim: int) -> UserError:
    return UserError(
        f"the agent's action is {what}; it should be a float32 numpy array of shape ({action_dim},) in [-1, 1]: {mend}"
    )
