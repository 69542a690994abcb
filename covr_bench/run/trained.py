"""A trained agent out of its run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
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
        agent.load_state_dict(saved.state["agent"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the settings and weights of run {config.run_id} do not fit the agent {config.agent}, whose code may have "
            f"changed since (trained at commit {commit or 'unknown'}): {error}"
        ) from error
    return agent


def without_optimisers(state: Any) -> Any:
    """A state, or a part of one, without what optimisers remember: two numbers a weight, which no action needs.

    An optimiser that loads what is left begins anew.
    """
    if isinstance(state, dict):
        if state.keys() == {"state", "param_groups"}:  # `torch.optim.Optimizer.state_dict`
            return state | {"state": {}}
        return {key: without_optimisers(part) for key, part in state.items()}
    return type(state)(map(without_optimisers, state)) if isinstance(state, list | tuple) else state
