"""Evaluation: whole episodes of the deterministic policy on fixed starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covr_bench.run.contract import checked_action, checked_obs, checked_reward
from suites.base import EpisodeLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from covr_bench.kit.api import Policy
    from suites.base import TaskEnv


LONGEST = 200_000  # environment steps of an episode; of common benchmarks Atari's are the longest, 108,000 frames


def _give_up(lost: EpisodeLost) -> None:
    raise lost


def evaluate(
    agent: Policy,
    env: TaskEnv,
    seeds: Sequence[int],
    step: int,
    tick: Callable[[], None] = lambda: None,
    on_lost: Callable[[EpisodeLost], None] = _give_up,
) -> dict[str, list[float]]:
    """One episode from each reset seed; per episode its `return` (undiscounted) and `length` in environment steps.

    With them, by name, what the environment itself measured: the numbers in `info["episode_metrics"]` of the
    episode's last step. Raises ValueError if not every episode has the same names, and for one without an end.
    tick is called after every agent step; what it raises ends the evaluation. Raises Diverged for a NaN action.
    on_lost is told when a simulator failed in mid-episode; unless it raises, that episode begins again.
    """
    measured: dict[str, list[float]] = {"return": [], "length": []}
    for seed in seeds:
        for name, value in _play(agent, env, seed, step, tick, on_lost).items():
            measured.setdefault(name, []).append(_number(name, value))
    if partial := {name: len(values) for name, values in measured.items() if len(values) != len(seeds)}:
        raise ValueError(f"{partial} of {len(seeds)} episodes report these episode_metrics; each episode must")
    return measured


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the environment's episode_metrics {name!r} is {value!r}; it must be a number") from None


def _play(
    agent: Policy,
    env: TaskEnv,
    seed: int,
    step: int,
    tick: Callable[[], None],
    on_lost: Callable[[EpisodeLost], None],
) -> dict[str, float]:
    """The measures of one whole episode."""
    (action_dim,) = env.action_space.shape or ()
    when = f"in an evaluation at {step} env steps"
    while True:
        try:
            obs = checked_obs(env.reset(seed=seed)[0], when)
            total, length, done = 0.0, 0, False
            while not done:
                action = checked_action(agent.act(obs, step, explore=False), action_dim, step)
                answer, reward, terminated, truncated, info = env.step(action)
                obs, done = checked_obs(answer, when), terminated or truncated
                total, length = total + checked_reward(reward, when), length + int(info["env_steps"])
                tick()
                if length > LONGEST:
                    raise ValueError(
                        f"an episode goes on after {LONGEST:,} environment steps: return truncated at the task's time "
                        "limit (gymnasium.wrappers.TimeLimit does it); `covr-bench check-env` shows it"
                    )
            return {**info.get("episode_metrics", {}), "return": total, "length": length}
        except EpisodeLost as lost:
            on_lost(lost)
