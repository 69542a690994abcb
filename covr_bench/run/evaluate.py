"""Evaluation: whole episodes of the deterministic policy on fixed starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from suites.base import EpisodeLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium
    import numpy.typing as npt

    from covr_bench.kit.api import Policy


class Diverged(Exception):
    """A loss or an action became NaN, or a loss exploded."""


def _give_up(lost: EpisodeLost) -> None:
    raise lost


def evaluate(
    agent: Policy,
    env: gymnasium.Env[Any, Any],
    seeds: Sequence[int],
    step: int,
    tick: Callable[[], None] = lambda: None,
    on_lost: Callable[[EpisodeLost], None] = _give_up,
) -> dict[str, list[float]]:
    """One episode from each reset seed; per episode its `return` (undiscounted) and `length` in environment steps.

    With them, by name, what the environment itself measured: the numbers in `info["episode_metrics"]` of the
    episode's last step. Raises ValueError if not every episode has the same names.
    tick is called after every agent step; what it raises ends the evaluation. Raises Diverged for a NaN action.
    on_lost is told when a simulator failed in mid-episode; unless it raises, that episode begins again.
    """
    measured: dict[str, list[float]] = {"return": [], "length": []}
    for seed in seeds:
        for name, value in _play(agent, env, seed, step, tick, on_lost).items():
            measured.setdefault(name, []).append(float(value))
    if partial := {name: len(values) for name, values in measured.items() if len(values) != len(seeds)}:
        raise ValueError(f"{partial} of {len(seeds)} episodes report these episode_metrics; each episode must")
    return measured


def _play(
    agent: Policy,
    env: gymnasium.Env[Any, Any],
    seed: int,
    step: int,
    tick: Callable[[], None],
    on_lost: Callable[[EpisodeLost], None],
) -> dict[str, float]:
    """The measures of one whole episode."""
    while True:
        try:
            obs, _ = env.reset(seed=seed)
            total, length, done = 0.0, 0, False
            while not done:
                action = finite(agent.act(obs, step, explore=False), step)
                obs, reward, terminated, truncated, info = env.step(action)
                total, length, done = total + float(reward), length + info["env_steps"], terminated or truncated
                tick()
            return {**info.get("episode_metrics", {}), "return": total, "length": length}
        except EpisodeLost as lost:
            on_lost(lost)


def finite(action: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """The action itself. Raises Diverged if it is not made of numbers: a simulator's own complaint is obscure."""
    if not np.isfinite(action).all():
        raise Diverged(
            f"the agent's action is {action.tolist()} at {step} env steps: its networks have diverged. The run stops "
            "here; its rows are kept. A smaller learning rate may help."
        )
    return action
