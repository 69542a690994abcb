from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferencePER
from test_sac import (
    SMALL,
    A,
    B,
    assert_same_state,
    assert_same_weights,
    context,
    copy_into,
    floats,
    noises,
    official_weights,
)

from baselines.per import AGENT, PER, Config
from covr_bench.kit.priorities import Priorities
from covr_bench.kit.replay import Replay

torch.set_num_threads(1)


def filled(steps: int = 9, capacity: int = 32, side: int = 84) -> Replay:
    """Two episodes, of five steps and of the rest."""
    rng, replay = np.random.default_rng(0), Replay(capacity, (9, side, side), A, seed=0)
    for length in (5, steps - 5):
        replay.start(rng.integers(0, 256, (9, side, side), dtype=np.uint8))
        for _ in range(length):
            obs = rng.integers(0, 256, (9, side, side), dtype=np.uint8)
            replay.add(rng.uniform(-1, 1, A).astype(np.float32), rng.uniform(0, 3), False, obs)
    return replay


def agent(**settings: Any) -> PER:
    torch.manual_seed(0)
    return PER(Config(**(SMALL | {"batch_size": B} | settings)), context())


def test_updates_equal_the_papers_arithmetic() -> None:
    ours, reference, replay = agent(), ReferencePER(action_dim=A, hidden_dim=64), filled()
    copy_into(reference, ours.sac)
    stored = replay.starts()
    priority = dict.fromkeys(stored.tolist(), 1.0)
    largest, planned = 1.0, 25_000  # a run of 100,000 env steps at an action repeat of 4, no random ones
    for i in range(3):
        clone = np.random.default_rng()
        clone.bit_generator.state = replay.rng.bit_generator.state
        share = np.array([priority[slot] ** 0.6 for slot in stored.tolist()])
        share /= share.sum()
        slots = [int(stored[np.flatnonzero(share.cumsum() > u)[0]]) for u in clone.random(B)]
        beta = 0.4 + 0.6 * i / planned
        every = (len(stored) * share) ** -beta
        weight = [every[stored.tolist().index(slot)] / every.max() for slot in slots]
        torch.manual_seed(i)
        transitions = [*floats(replay.at(np.array(slots), 1, 0.99)), torch.tensor(weight)[:, None].float()]
        losses = reference.update(transitions, noises(1), even=i % 2 == 0)
        for slot, error in zip(slots, reference.error.tolist(), strict=True):
            priority[slot] = error + 1e-5
            largest = max(largest, priority[slot])
        torch.manual_seed(i)
        metrics = ours.update(replay, 0)
        for name, loss in losses.items():
            assert float(metrics[name]) == pytest.approx(loss, rel=3e-4, abs=1e-6), (i, name)
        expected = [priority[slot] ** 0.6 for slot in stored.tolist()]
        np.testing.assert_allclose(ours.priorities.powers[stored], expected, rtol=1e-3)
        assert ours.priorities.largest == pytest.approx(largest, rel=1e-3)
    assert_same_weights(official_weights(ours.sac, reference), 1e-3)


def test_transitions_are_drawn_by_their_priorities() -> None:
    priorities, replay = Priorities(0.5), filled(side=4)
    priorities.see(replay)
    starts = replay.starts()
    priorities.update(torch.from_numpy(starts), torch.arange(1.0, len(starts) + 1)[:, None] ** 2)
    drawn, rarity = priorities.draw(replay, 20_000)
    share = np.arange(1, len(starts) + 1) / np.arange(1, len(starts) + 1).sum()
    counts = np.array([(drawn == slot).sum() for slot in starts])
    assert np.abs(counts - 20_000 * share).max() < 6 * (20_000 * share.max()) ** 0.5
    assert rarity.max() == 1
    np.testing.assert_allclose(rarity, share.min() / share[np.searchsorted(starts, drawn)], rtol=1e-5)


def test_exponent_zero_is_uniform_and_unweighted() -> None:
    priorities, replay = Priorities(0.0), filled(side=4)
    priorities.see(replay)
    priorities.update(torch.tensor([0, 1]), torch.tensor([[100.0], [1e-3]]))
    drawn, rarity = priorities.draw(replay, 9_000)
    assert rarity.min() == rarity.max() == 1
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == 9 and counts.min() > 800


def test_new_transitions_have_the_largest_priority_also_where_the_ring_has_wrapped() -> None:
    priorities, replay = Priorities(0.6), filled(side=4, capacity=14)
    priorities.see(replay)
    priorities.update(torch.from_numpy(replay.starts()), torch.full((9, 1), 0.01))
    priorities.update(torch.tensor([2]), torch.tensor([[5.0]]))
    for _ in range(6):  # slots 11 to 16, the last three in place of 0 to 2
        replay.add(np.zeros(A, np.float32), 0.0, False, np.zeros((9, 4, 4), np.uint8))
    priorities.see(replay)
    new, old = np.arange(10, 16) % 14, np.arange(3, 10)  # slot 10 was the newest, and is a transition only now
    np.testing.assert_allclose(priorities.powers[new], 5**0.6)
    valued = [slot for slot in old.tolist() if slot != 5]  # the first episode ends with slot 5: no transition
    np.testing.assert_allclose(priorities.powers[valued], 0.01**0.6)


def test_nothing_is_drawn_from_a_replay_without_a_window() -> None:
    with pytest.raises(ValueError, match="no 10-step window stored yet: 11 frames"):
        Priorities(1.0).draw(filled(side=4), 1, nstep=10)


def test_a_transition_is_rated_when_it_is_stored() -> None:
    """As the authors' buffer does it: with the largest priority at that moment, not at its observation's arrival."""
    priorities, replay = Priorities(0.6), filled(side=4)
    expected, largest = dict.fromkeys(replay.starts().tolist(), 1.0), 1.0
    for error in (2.0, 0.5, 7.0, 3.0):
        priorities.see(replay)
        priorities.update(torch.tensor([0]), torch.tensor([[error]]))
        largest = max(largest, error)
        expected[0] = error
        expected[replay.head - 1] = largest  # the step that is now made from the newest observation
        replay.add(np.zeros(A, np.float32), 0.0, False, np.zeros((9, 4, 4), np.uint8))
    priorities.see(replay)
    starts = replay.starts()
    np.testing.assert_allclose(priorities.powers[starts], [expected[slot] ** 0.6 for slot in starts.tolist()])


def test_weights_grow_to_their_end_with_the_planned_updates() -> None:
    ours = agent(random_agent_steps=1000)
    assert [ours.beta(step) for step in (1000, 13_000, 25_000)] == pytest.approx([0.4, 0.7, 1.0])


def test_state_round_trip_continues_bitwise() -> None:
    first, second, replays = agent(), agent(), [filled(), filled()]
    first.update(replays[0], 0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    replays[1].rng.bit_generator.state = replays[0].rng.bit_generator.state
    for one, replay in zip((first, second), replays, strict=True):
        torch.manual_seed(5)
        for _ in range(2):
            replay.add(np.zeros(A, np.float32), 0.0, False, np.zeros((9, 84, 84), np.uint8))
            one.update(replay, 0)
    assert_same_state(first.state_dict(), second.state_dict())


def test_published_settings() -> None:
    config = Config()
    assert (config.priority_exponent, config.beta_start, config.beta_end) == (0.6, 0.4, 1.0)
    assert (config.smallest_priority, config.batch_size, config.lr) == (1e-5, 128, 1e-3)
    assert AGENT.task_defaults == {"dmc/cheetah_run": {"lr": 2e-4}}
