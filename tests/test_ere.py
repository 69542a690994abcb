from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceSAC
from test_sac import SMALL, A, OneBatch, assert_continues_bitwise, assert_updates_equal, batch, context, floats

from baselines.ere import AGENT, ERE, Config
from covr_bench.kit.replay import Batch, Replay

torch.set_num_threads(1)
SIDE = 4


class Recent(OneBatch):
    """Always the same transitions, from an episode that is `done` of `length` steps on."""

    asked: int
    done, length, held = 30, 125, 20_000

    def progress(self) -> tuple[int, int]:
        return self.done, self.length

    def __len__(self) -> int:
        return self.held

    def sample(self, n: int, nstep: int, discount: float, newest: int = 0) -> Batch:
        self.asked = newest
        return self.batch


def agent(**settings: Any) -> ERE:
    torch.manual_seed(0)
    return ERE(Config(**(SMALL | settings)), context())


def test_updates_equal_the_papers_arithmetic() -> None:
    ours, reference = agent(), ReferenceSAC(action_dim=A, hidden_dim=64)
    assert_updates_equal(ours, reference, [batch(i) for i in range(3)], floats, 1e-3, replay=Recent)


@pytest.mark.parametrize(
    ("agent_step", "done", "expected"),
    [
        (0, 0, 20_000),
        (0, 25, math.floor(20_000 * 0.996**200)),
        (0, 100, 5_000),  # 20,000 * 0.996^800 is 810: the floor
        (0, 125, 5_000),
        (0, 900, 5_000),  # longer than the episode before
        (12_500, 25, math.floor(20_000 * 0.998**200)),  # half of the run: eta is half way to 1
        (24_000, 900, math.floor(20_000 * 0.99984**1000)),  # the same, where it is not the floor
        (25_000, 125, 20_000),
    ],
)
def test_window(agent_step: int, done: int, expected: int) -> None:
    replay: Any = Recent(batch(0))
    replay.done = done
    assert agent().window(replay, agent_step) == expected


@pytest.mark.parametrize(("planned", "length"), [(12_500, 125), (25_000, 250), (50_000, 500)])
def test_the_authors_window_never_leaves_a_stored_step_out_in_100k_steps(planned: int, length: int) -> None:
    """Their N is the capacity of 1,000,000; with what is stored for N most of it is left out late in an episode."""
    theirs, ours, replay = agent(full_window=1_000_000), agent(), Recent(batch(0))
    for one in (theirs, ours):
        one.planned_agent_steps = planned
    replay.length = length
    narrower = 0
    for step in range(1_000, planned, 7):
        replay.held, replay.done = step, step % length
        assert theirs.window(replay, step) >= step  # type: ignore[arg-type]
        narrower += ours.window(replay, step) < step  # type: ignore[arg-type]
    assert narrower > planned // 70


def test_first_episode_draws_from_all() -> None:
    replay: Any = Recent(batch(0))
    replay.length = 0
    assert agent().window(replay, 0) == 20_000


def test_update_draws_from_the_window() -> None:
    ours, replay = agent(), Recent(batch(0))
    for i in range(3):
        ours.update(replay, 0)  # type: ignore[arg-type]
        assert replay.asked == max(5_000, int(20_000 * (0.996 + 0.004 * i / 25_000) ** (1000 * 30 / 125)))


def test_real_replay() -> None:
    """Late in an episode, with a small floor, only its newest steps are drawn."""
    ours = agent(smallest_window=3)
    replay = Replay(64, (9, SIDE, SIDE), A, seed=0)
    for _ in range(2):
        replay.start(np.zeros((9, SIDE, SIDE), np.uint8))
        for _ in range(20):
            replay.add(np.zeros(A, np.float32), 0.0, False, np.zeros((9, SIDE, SIDE), np.uint8))
    window = ours.window(replay, 0)
    assert window == 3
    assert set(replay.sample(200, newest=window).slot.tolist()) == {38, 39, 40}


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i) for i in range(3)], replay=Recent)


def test_published_settings() -> None:
    config = Config()
    assert (config.eta_start, config.eta_end, config.smallest_window, config.full_window) == (0.996, 1.0, 5_000, None)
    assert AGENT.task_defaults == {"dmc/cheetah_run": {"lr": 2e-4}}
