"""A run's agent and replay, built for its environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.config.run_config import replay_slots
from covr_bench.kit.api import Context
from covr_bench.kit.replay import Replay
from covr_bench.kit.seeds import derive_seed
from covr_bench.run.contract import check_agent
from covr_bench.run.randomness import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import Agent, Services
    from suites.base import TaskEnv


@dataclass(frozen=True)
class Parts:
    """What learns, what it learns from, and the number of its action's components."""

    agent: Agent
    replay: Replay
    action_dim: int


def build(
    config: RunConfig,
    env: TaskEnv,
    make_agent: Callable[[Context], Agent],
    services: Services,
    replay_frames: int | None,
    instruction: str,
) -> Parts:
    """Seed everything, then make the agent and its replay. Raises UserError for an agent that breaks its contract.

    Args:
        config: What the run is.
        env: The environment of training, for its shapes.
        make_agent: Builds the agent for a context.
        services: What the run offers its agent.
        replay_frames: `AgentSpec.replay_frames`.
        instruction: The task in a sentence.
    """
    seed = derive_seed(config.seed, "agent")
    seed_everything(seed)
    shape: Any = env.observation_space.shape
    (action_dim,) = env.action_space.shape or ()
    context = Context(
        obs_shape=shape,
        action_dim=action_dim,
        action_repeat=config.action_repeat,
        total_env_steps=config.env_steps,
        device=config.device,
        seed=seed,
        instruction=instruction,
        services=services,
        conv_kernel=config.conv_kernel,
    )
    agent = make_agent(context)
    check_agent(agent)
    replay = Replay(
        replay_slots(config, replay_frames),
        shape,
        action_dim,
        seed=derive_seed(config.seed, "replay"),
        device=config.device,
        dtype=env.observation_space.dtype or np.uint8,
    )
    return Parts(agent, replay, action_dim)
