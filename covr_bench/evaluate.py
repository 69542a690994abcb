"""Evaluation: whole episodes of the deterministic policy on fixed starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium

    from covr_bench.api import Agent


def evaluate(
    agent: Agent, env: gymnasium.Env[Any, Any], seeds: Sequence[int], step: int, tick: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """One episode from each reset seed; per episode its `return` (undiscounted) and `length` in environment steps.

    tick is called after every agent step; what it raises ends the evaluation.
    """
    returns: list[float] = []
    lengths: list[float] = []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        total, length, done = 0.0, 0, False
        while not done:
            obs, reward, terminated, truncated, info = env.step(agent.act(obs, step, explore=False))
            total, length, done = total + float(reward), length + info["env_steps"], terminated or truncated
            tick()
        returns.append(total)
        lengths.append(float(length))
    return {"return": returns, "length": lengths}
