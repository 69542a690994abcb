"""A trained agent out of its run's state, and what of such a state acting needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.kit.errors import UserError
from covr_bench.run.state_tree import filled, has, without

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import Agent, Context
    from covr_bench.run.checkpoint import Saved


def trained_agent(config: RunConfig, saved: Saved, context: Context, commit: str | None) -> Agent:
    """The agent of a run with its trained weights, to act only.

    Args:
        config: Of the run.
        saved: Its newest state.
        context: Of the same shapes as in training.
        commit: Of the training, for the error.

    Raises:
        UserError: Settings and weights do not fit the agent.
    """
    # The VLM is asked beside the policy here, whatever device it had in training.
    settings = config.agent_config | ({"vlm_device": ""} if "vlm_device" in config.agent_config else {})
    try:
        agent = registry.make_agent(config.agent, settings, context)
        agent.load_state_dict(_whole(saved.state["agent"], agent, saved.state.get("only_learning", ())))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the settings and weights of run {config.run_id} do not fit the agent {config.agent}, whose code may have "
            f"changed since (trained at commit {commit or 'unknown'}): {error}"
        ) from error
    return agent


def only_learning(agent: Agent) -> list[str]:
    """`Agent.only_learning`; none where a class that derives from the one which states it acts in its own way."""
    stated, acts = (_depth(agent, name) for name in ("only_learning", "act"))
    return list(getattr(agent, "only_learning", ())) if stated <= acts else []


def _depth(agent: Agent, name: str) -> float:
    """How far up the classes of an agent a name is stated; -1 for the agent itself."""
    places = [vars(agent), *map(vars, type(agent).__mro__)] if hasattr(agent, "__dict__") else []
    return next((depth for depth, names in enumerate(places, start=-1) if name in names), math.inf)


def what_acts(state: Mapping[str, Any]) -> dict[str, Any]:
    """A finished run's state without what only learning reads: what optimisers remember, and `Agent.only_learning`.

    An optimiser that loads what is left begins anew.
    """
    agent = state["agent"]
    for path in state.get("only_learning", ()):  # runs of earlier versions do not say
        agent = without(agent, path)
    less: dict[str, Any] = _without_optimisers({**state, "agent": agent})
    return less


def _whole(state: Any, agent: Agent, only_learning: Iterable[str]) -> Any:
    """A published state with the parts it lacks as the new agent has them: acting reads none."""
    lacking = [path for path in only_learning if not has(state, path)]
    fresh = agent.state_dict() if lacking else {}
    for path in lacking:
        if has(fresh, path):  # an agent that cannot learn has less of a state
            state = filled(state, path, fresh)
    return state


def _without_optimisers(state: Any) -> Any:
    if isinstance(state, dict):
        if state.keys() == {"state", "param_groups"}:  # `torch.optim.Optimizer.state_dict`, two numbers a weight
            return state | {"state": {}}
        return {key: _without_optimisers(part) for key, part in state.items()}
    return type(state)(map(_without_optimisers, state)) if isinstance(state, list | tuple) else state
