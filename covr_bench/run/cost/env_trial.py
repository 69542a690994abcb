"""A few steps of an environment."""

from __future__ import annotations

import functools
import statistics
import zlib
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.run.check import checked_env
from covr_bench.run.cost import peak
from covr_bench.run.cost.clock import unhindered
from covr_bench.run.cost.measured import EnvCost

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from suites.base import Task

STEPS = 6  # measured; half of them may be slower than what is taken


def try_env(config: RunConfig) -> EnvCost:
    """The cost of a run's environment. Raises UserError if it cannot be made, or breaks its contract."""
    peak.begin("cpu")
    env = checked_env(config.suite, task_of(config), config.env)
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    seconds = []
    for _ in range(STEPS):
        action = env.action_space.sample()
        start = unhindered()
        obs, _, terminated, truncated, _ = env.step(action)
        seconds.append(unhindered() - start)
        if terminated or truncated:
            obs, _ = env.reset()
    (action_dim,) = env.action_space.shape or ()
    ram_bytes = max(peak.ram() - peak.BARE, 0)
    env.close()
    frame_bytes = len(zlib.compress(obs[-3:].tobytes()))
    return EnvCost(statistics.median(seconds), frame_bytes, obs.shape, obs.dtype.name, action_dim, ram_bytes)


@functools.cache
def _suite(ref: str) -> Any:
    return registry.suite(ref)


def task_of(config: RunConfig) -> Task:
    """The task of a run."""
    return _suite(config.suite).task(config.task)  # type: ignore[no-any-return]
