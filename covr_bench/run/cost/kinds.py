"""Which runs cost the same per step: a key for each kind of environment and of agent.

Task, seed, length and schedule of a run do not enter an agent's key, its agent does not enter the environment's.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.config.run_config import setting

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from covr_bench.run.cost.measured import EnvCost
    from suites.base import Task

DELAYS = {"random_agent_steps": 0, "seed_steps": 0, "initial_updates": 1, "target_period": 1}
"""Settings that put off learning, or part of it, with the value that does not."""
SCHEDULES = frozenset(DELAYS) | {"stddev_steps", "replay_capacity"}
"""Settings that say when something happens or how much is kept, not what a step costs."""
PACE = "update_every"
"""The setting of those of our agents that learn once in so many environment steps; others do at every agent step."""


@functools.cache
def machine() -> dict[str, Any]:
    """The kind of node that a cost is of: CPU model, kinds of GPU, versions. Code that matters is in the keys."""
    from results.environment import collect

    facts = collect()
    gpus = sorted({gpu.rpartition(",")[0] or gpu for gpu in facts["gpus"]})  # without the driver
    return {name: facts[name] for name in ("cpu", "packages", "python", "version")} | {"gpus": gpus}


def described(node: Mapping[str, Any]) -> str:
    """A kind of node in words. node: of `machine`."""
    gpus = ", ".join(node["gpus"]) or "no GPU"
    return f"{node['cpu']}, {gpus}, torch {node['packages'].get('torch', 'absent')}"


def env_key(config: RunConfig, task: Task, facts: Mapping[str, Any]) -> str:
    """Runs whose environments cost the same have the same key.

    Args:
        config: The run.
        task: Its task. Suites that share a family share its tasks' costs.
        facts: The machine, and the renderer if the task needs one.
    """
    options = task.options | config.env
    home = config.code.get("suite") or task.family
    return digest("env", home, config.suite_version, task.name, config.action_repeat, options, config.threads, facts)


def agent_key(config: RunConfig, env: EnvCost, facts: Mapping[str, Any]) -> str:
    """Runs whose agents cost the same have the same key.

    The number of action components is left out: it sets the width of an actor's last layer and of a critic's first,
    a thousandth of what the convolutions cost. So is the action repeat, where `learning_steps` knows what it means.

    Args:
        config: The run.
        env: Its environment, of which the shape of observations counts.
        facts: The machine.
    """
    settings = what_counts(config.agent_config)
    repeat = None if _is_paced(config) else config.action_repeat
    computed = (config.device, config.threads, config.conv_kernel)
    agent = (config.agent, config.code.get("agent"))
    return digest("agent", agent, settings, repeat, env.obs_shape, env.obs_dtype, computed, facts)


def what_counts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change the work of a step: all but schedules; of a coefficient, whether it is zero."""
    return {name: _amount(value) for name, value in settings.items() if name not in SCHEDULES}


def _amount(value: Any) -> Any:
    if isinstance(value, Mapping):
        return what_counts(value)
    return bool(value) if isinstance(value, float) else value


def tried_repeat(config: RunConfig) -> int:
    """The action repeat at which an agent is tried: that of the run, or one at which it learns once per agent step."""
    return setting(config.agent_config, PACE, config.action_repeat) if _is_paced(config) else config.action_repeat


def learning_steps(config: RunConfig) -> float:
    """How often a run's agent learns per agent step, if it learned once per agent step when it was tried."""
    return config.action_repeat / tried_repeat(config)


def _is_paced(config: RunConfig) -> bool:
    """Whether it is known what the action repeat means: for our own agents, if they learn from batches.

    Those that count agent steps are tried at the run's own repeat.
    """
    settings = config.agent_config
    counts_agent_steps = "agent" in (settings.get("clock"), settings.get("base_settings", {}).get("clock"))
    return config.agent in _ours() and setting(settings, "batch_size") is not None and not counts_agent_steps


@functools.cache
def _ours() -> frozenset[str]:
    return frozenset(registry.our_agents())


def digest(kind: str, *what: Any) -> str:
    """A word that stands for JSON values. kind: its beginning."""
    text = json.dumps(what, sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
