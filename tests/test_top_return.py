"""Top return: the better transitions of finished episodes fill their share of every batch."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.top_return import Config, TopReturn, TopReturns
from covr_bench.config import registry
from covr_bench.config.settings import resolve
from covr_bench.kit.errors import UserError
from covr_bench.kit.priorities import Priorities
from covr_bench.kit.replay import Replay

OBS = np.zeros((3, 8, 8), np.uint8)


def filled(episodes: list[list[float]], capacity: int = 200, **settings: Any) -> TopReturns:
    """Episodes of these rewards, the last one running."""
    replay = Replay(capacity, (3, 8, 8), 1, seed=0)
    view = TopReturns(replay, Config(**settings))
    for rewards in episodes:
        replay.start(OBS)
        for reward in rewards:
            replay.add(np.zeros(1, np.float32), reward, False, OBS)
    return view


def test_the_share_of_a_batch_comes_from_the_better_half() -> None:
    view = filled([[0.0] * 10, [1.0] * 10, [0.0] * 5], top_share=0.75, return_discount=1.0)
    assert set(view.best(1)) == set(range(11, 21))  # the second episode's ten steps
    slots = view.sample(4000).slot.numpy()
    assert np.isin(slots[:3000], view.best(1)).all()
    assert set(slots[3000:]) >= {0, 5, 15, 22, 26}  # the rest: everything, the running episode as well


def test_a_share_of_nothing_is_uniform_and_of_everything_only_the_top() -> None:
    episodes = [[0.0] * 10, [1.0] * 10, [0.0]]
    assert set(filled(episodes, top_share=0.0).sample(2000).slot.tolist()) == {*range(10), *range(11, 21), 22}
    assert set(filled(episodes, top_share=1.0, return_discount=1.0).sample(500).slot.tolist()) == set(range(11, 21))


def test_no_episode_has_ended() -> None:
    assert set(filled([[1.0, 2.0, 3.0]], top_share=1.0).sample(100).slot.tolist()) == {0, 1, 2}


def test_the_top_changes_when_an_episode_ends() -> None:
    view = filled([[0.0] * 4, [1.0] * 4], best=0.25, return_discount=1.0)
    assert set(view.best(1)) <= {0, 1, 2, 3}
    view.replay.start(OBS)
    assert view.best(1).tolist() == [5, 6]  # 4 and 3 to go; a quarter of eight


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=12), min_size=2, max_size=12),
    st.integers(20, 60),
    st.sampled_from([1, 3]),
)
def test_what_is_drawn_is_always_stored_and_whole(episodes: list[list[float]], capacity: int, nstep: int) -> None:
    """Also when the ring has overwritten the start, and seen in one go or after every step."""
    once = filled(episodes, capacity)
    stepwise = TopReturns(Replay(capacity, (3, 8, 8), 1, seed=0), Config())
    for rewards in episodes:
        stepwise.replay.start(OBS)
        for reward in rewards:
            stepwise.replay.add(np.zeros(1, np.float32), reward, False, OBS)
            stepwise.best(nstep)
    batch = once.sample(32, nstep)
    assert np.isin(batch.slot.numpy(), once.replay.starts(nstep)).all()
    assert len(batch.slot) == 32
    np.testing.assert_array_equal(
        stepwise.returns[stepwise.best(nstep) % capacity], once.returns[stepwise.best(nstep) % capacity]
    )


def test_a_window_never_leaves_its_episode() -> None:
    view = filled([[1.0] * 6, [0.0] * 6], return_discount=1.0, best=1.0)
    assert view.best(3).tolist() == [0, 1, 2, 3]


def test_a_base_that_draws_from_recent_experience_is_refused() -> None:
    view = filled([[1.0] * 6], base="ere")
    with pytest.raises(UserError, match="base='ere', which draws them from recent experience"):
        view.sample(4, 1, 0.99, newest=3)


def test_a_longer_window_than_the_return_is_kept() -> None:
    """As TACO asks for it: the episode goes on for as many steps."""
    view = filled([[1.0] * 6, [0.0] * 6])
    drawn = view.sample(200, 1, 0.99, window=3).slot.numpy()
    assert set(drawn.tolist()) == set(view.replay.starts(3).tolist())


def test_a_base_that_draws_by_its_own_priorities_is_refused() -> None:
    """It would learn as if alone, and the rows would say it had favoured the top."""
    view = filled([[1.0] * 6], base="mrq")
    with pytest.raises(UserError, match="base='mrq', which draws them by its own priorities"):
        Priorities(0.4).draw(cast("Replay", view), 4)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="top_share"):
        Config(top_share=share)


@pytest.mark.parametrize("stop", [45, 52, 66, 71])
def test_goes_on_as_if_it_had_not_stopped_after_the_ring_has_wrapped(stop: int) -> None:
    """What counts as the top was set when the episode ended, over slots some of which are overwritten since."""
    config, rng = Config(), np.random.default_rng(0)
    replay = Replay(40, (3, 8, 8), 1, seed=0)
    whole, resumed = TopReturns(replay, config), TopReturns(replay, config)
    for step in range(80):
        if step % 15 == 0:
            replay.start(OBS)
        replay.add(np.zeros(1, np.float32), float(rng.normal()), False, OBS)
        expected = whole.best(2).tolist()
        if step == stop:
            resumed = TopReturns(replay, config, json.loads(json.dumps(whole.least)))
        if step >= stop:
            assert resumed.best(2).tolist() == expected


class Draws:
    """A base agent that draws a batch, and has no state."""

    def update(self, replay: Any, step: int) -> dict[str, float]:
        return {"drawn": float(len(replay.sample(4, 2).slot))}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


def test_the_state_says_what_counted_as_the_top() -> None:
    context: Any = SimpleNamespace(make_agent=lambda *_: Draws())
    before, after = TopReturn(Config(), context), TopReturn(Config(), context)
    replay, rng = Replay(40, (3, 8, 8), 1, seed=0), np.random.default_rng(0)
    for step in range(60):
        if step % 15 == 0:
            replay.start(OBS)
        replay.add(np.zeros(1, np.float32), float(rng.normal()), False, OBS)
        if replay.can_sample(2):
            before.update(replay, step)
    after.load_state_dict(before.state_dict())
    after.update(replay, 60)
    assert before.returns and after.returns
    assert after.returns.best(2).tolist() == before.returns.best(2).tolist()


def test_an_episode_that_was_given_up_is_none_of_the_top() -> None:
    """Its slots have no return, and one without a return left none that counted as the top."""
    view = filled([[0.0] * 10, [1.0] * 10], return_discount=1.0)
    view.replay.abandon()
    for _ in range(2):
        view.replay.start(OBS)
        for reward in (2.0, 2.0):
            view.replay.add(np.zeros(1, np.float32), reward, False, OBS)
    view.replay.start(OBS)
    assert set(view.best(1)) <= {22, 23, 25, 26, *range(10)} and {22, 25} <= set(view.best(1))


@pytest.mark.parametrize(
    ("agent", "settings"), [("top_return", {"base": "dgc"}), ("covr", {"base": "dgc", "prior": "zero"})]
)
def test_a_base_whose_vlm_would_not_be_named_is_refused(agent: str, settings: dict[str, str]) -> None:
    suite = registry.suite("catch")
    with pytest.raises(UserError, match=rf"agent {agent} cannot wrap dgc, whose rows say vlm=tiny, and its own"):
        resolve(registry.agent(agent), suite.tasks[0], suite.budgets["smoke"], settings)
