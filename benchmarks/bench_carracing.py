"""Speed of the CarRacing suite against Gymnasium's own environment, A B A B.

    python -m pytest benchmarks/bench_carracing.py -s --benchmark-json=carracing.json

`agent step`: one step of the suite's environment (four control steps, one 84x84 frame, the stack) against four steps of
`CarRacing-v3`, which draws each of them at 96x96. `control step`: the suite's environment with action repeat 1, against
one step of Gymnasium's, drawing as often: what all of our wrappers, counters and the stack add is `1 / ratio - 1`.
`reset` compares resets. `ratio` is Gymnasium's CPU time over ours, the median of pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from paired import Contestant, compare

from suites.carracing import SUITE, make

if TYPE_CHECKING:
    from collections.abc import Callable

AGENT_STEPS = 50
ACTIONS = np.random.default_rng(0).uniform([-1, -1, -1], [1, 1, -0.8], (AGENT_STEPS, 3)).astype(np.float32)
MAPPED = ((ACTIONS * [1, 0.5, 0.5]) + [0, 0.5, 0.5]).astype(np.float32)


def plays(env: Any, actions: Any, repeat: int) -> Callable[[], None]:
    """A call that drives an episode's first steps; the track is the same each time."""

    def call() -> None:
        env.reset(seed=1)
        for action in actions:
            for _ in range(repeat):
                env.step(action)

    return call


def bare() -> Any:
    """Gymnasium's environment without the checks and the time limit that `gymnasium.make` wraps it in."""
    return gymnasium.make("CarRacing-v3", lap_complete_percent=1.0, disable_env_checker=True).unwrapped


def resets(env: Any) -> Callable[[], None]:
    def call() -> None:
        for seed in range(20):
            env.reset(seed=seed)

    return call


def ours() -> Callable[[], None]:
    return plays(SUITE.tasks[0].make(0), ACTIONS, 1)


def ours_every_control_step() -> Callable[[], None]:
    return plays(make(1, 0), ACTIONS.repeat(4, axis=0), 1)


def gymnasiums() -> Callable[[], None]:
    return plays(bare(), MAPPED, 4)


def our_resets() -> Callable[[], None]:
    return resets(SUITE.tasks[0].make(0))


def gymnasiums_resets() -> Callable[[], None]:
    return resets(bare())


@pytest.mark.parametrize(
    ("mine", "theirs", "floor"),
    [
        ("ours", "gymnasiums", 1.0),
        ("ours_every_control_step", "gymnasiums", 1 / 1.05),
        ("our_resets", "gymnasiums_resets", 1 / 1.05),
    ],
    ids=["agent step", "control step", "reset"],
)
def test_speed(mine: str, theirs: str, floor: float, benchmark: Any) -> None:
    contestants = [Contestant(f"bench_carracing:{name}", keep_heap=False) for name in (mine, theirs)]
    ratio = compare(benchmark, contestants[0], contestants[1], rounds=5)
    assert ratio > floor
