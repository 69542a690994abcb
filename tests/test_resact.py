from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceResAct, translate
from test_sac import (
    SMALL,
    A,
    B,
    OneBatch,
    assert_continues_bitwise,
    assert_same_weights,
    assert_updates_equal,
    batch,
    context,
    see_every_pixel,
)

from baselines.resact import AGENT, Config, ResAct
from covr.ranking import policy_actions
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Batch, Replay

torch.set_num_threads(1)


class WithPast(OneBatch):
    """A replay that always returns the same transitions, and the same steps before them."""

    def before(self, slot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert slot is self.batch.slot
        return past(self.batch)


def past(one: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Some stacks and actions, the first of them those before an episode's first step."""
    obs, action = one.obs.flip(2), -0.5 * one.action
    obs[0], action[0] = 0, 0
    return obs, action


def agent(**settings: Any) -> ResAct:
    torch.manual_seed(0)
    return ResAct(Config(**(SMALL | settings)), context(108))


def seen(one: Batch) -> list[Any]:
    corner = torch.stack([torch.randint(0, 9, (B,)) for _ in range(2)], 1).numpy()
    previous, previous_action = past(one)
    stacks = (previous, one.obs, one.next_obs)
    moved = [torch.from_numpy(translate(images.numpy(), corner, 100)) / 255.0 for images in stacks]
    return [moved[:2], one.action, one.reward, one.discount, moved[1:], previous_action]


def test_updates_equal_the_papers_arithmetic() -> None:
    ours, reference = agent(encoder_lr=2e-4), ReferenceResAct(action_dim=A, hidden_dim=64, encoder_lr=2e-4)
    pairs = [(reference.transition, ours.model.transition), (reference.reward, ours.model.reward)]
    for theirs, mine in pairs:
        theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
    assert_updates_equal(ours, reference, [batch(i, 108) for i in range(3)], seen, 1e-3, replay=WithPast)
    assert_same_weights([(theirs, mine.state_dict()) for theirs, mine in pairs], 1e-3)


def test_action_starts_from_the_previous_one() -> None:
    """Squashed after the sum, so that a residual of zero pulls towards zero."""
    actor = agent().sac.actor
    with torch.no_grad():
        actor.policy[-1].weight.zero_()
        actor.policy[-1].bias.copy_(torch.tensor([0.0] * A + [-10.0] * A))
        previous = torch.tensor([[0.5, -1.0], [0.0, 1.0]])
        action, _ = actor.sample(torch.zeros(2, actor.head[0].in_features), previous)
    torch.testing.assert_close(action, torch.tanh(previous), atol=1e-3, rtol=0)


def test_features_are_the_difference_of_two_encoders() -> None:
    encoder = agent().sac.encoder
    previous, current = torch.rand(2, 3, 9, 108, 108)
    expected = encoder.current(current) - encoder.previous(previous)
    assert torch.equal(encoder(torch.cat([previous, current])), expected)
    assert not any(
        torch.equal(a, b)
        for a, b in zip(encoder.current.convs.parameters(), encoder.previous.convs.parameters(), strict=True)
        if a.any()
    )


def test_one_place_for_the_three_stacks() -> None:
    ours, obs = agent(), batch(0, 108).obs
    pairs, next_pairs = ours.augmented(obs, obs, obs)
    assert torch.equal(pairs, next_pairs)
    assert torch.equal(pairs[:B], pairs[B:])
    assert (
        len({tuple(corner) for corner in (pairs[:B] > 0).any(dim=1).flatten(1).int().argmax(1)[:, None].tolist()}) > 1
    )
    assert pairs.is_contiguous(memory_format=torch.channels_last)


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 108, 108), dtype=np.uint8)


def stacks(episode: np.ndarray) -> list[np.ndarray]:
    return [np.concatenate([episode[max(i - back, 0)] for back in (2, 1, 0)]) for i in range(len(episode))]


@pytest.mark.parametrize("explore", [True, False])
def test_acts_on_the_step_before_and_forgets_it_at_a_reset(explore: bool) -> None:
    ours = agent()
    see_every_pixel(ours.sac.encoder)
    ours.sac.actor.policy[-1].bias.data[A:] = -10.0  # so that exploring is acting to about 1e-4
    middle = np.full((1, 2), 4)
    film = frames(7)
    for episode in (film[:4], film[4:]):
        previous, previous_action = np.zeros((9, 108, 108), np.uint8), np.zeros(A, np.float32)
        for obs in stacks(episode):
            pair = np.stack([previous, obs])
            if not explore:
                pair = translate(pair, middle.repeat(2, 0), 100)
            features = ours.sac.encoder(torch.from_numpy(pair) / 255.0)
            mean, _ = ours.sac.actor(features, torch.from_numpy(previous_action)[None])
            action = ours.act(obs, 0, explore)
            np.testing.assert_allclose(action, torch.tanh(mean[0]).detach(), atol=5e-4 if explore else 1e-6)
            previous, previous_action = obs, action


def test_evaluation_in_the_middle_of_an_episode_leaves_its_memory_alone() -> None:
    first, second = (agent() for _ in range(2))
    film, other = stacks(frames(4)), stacks(frames(9)[4:])
    torch.manual_seed(0)
    expected = [first.act(obs, 0, explore=True) for obs in film]
    torch.manual_seed(0)
    for obs, action in zip(film, expected, strict=True):
        np.testing.assert_array_equal(second.act(obs, 0, explore=True), action)
        for shown in other:
            second.act(shown, 0, explore=False)


def test_its_actions_in_a_replay_follow_from_the_steps_before_them() -> None:
    """Each slot was answered as an episode's first step, and COVR taught its VLM such answers."""
    ours, replay = agent(), Replay(32, (9, 108, 108), A, seed=0)
    see_every_pixel(ours.sac.encoder)
    done = []
    for film in (stacks(frames(4)), stacks(frames(9)[4:])):
        replay.start(film[0])
        for obs, later in itertools.pairwise(film):
            done.append(ours.act(obs, 0, explore=False))
            replay.add(done[-1], 0.0, False, later)
    slots = np.array([0, 1, 2, 4, 5, 6, 7])
    np.testing.assert_allclose(policy_actions(ours, replay, slots, 0), done, atol=1e-6)
    assert policy_actions(ours, replay, slots[:0], 0).shape == (0, A)


def test_memory_is_part_of_the_state() -> None:
    first, second = (agent() for _ in range(2))
    film = stacks(frames(3))
    for obs in film[:2]:
        first.act(obs, 0, explore=True)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for one in (first, second):
        torch.manual_seed(4)
        one.last = one.act(film[2], 0, explore=True)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(first.last, second.last)  # type: ignore[attr-defined]


def test_random_actions_are_remembered_too() -> None:
    ours = agent(random_agent_steps=1)
    action = ours.act(stacks(frames(1))[0], 0, explore=True)
    np.testing.assert_array_equal(ours.memory.action, action)


def test_learns_from_a_real_replay() -> None:
    ours, replay = agent(batch_size=4), Replay(32, (9, 108, 108), A, seed=0)
    film = stacks(frames(5))
    replay.start(film[0])
    for obs in film[1:]:
        replay.add(np.full(A, 0.25, np.float32), 1.0, False, obs)
    metrics = ours.update(replay, 0)
    assert {"critic_loss", "transition_loss", "reward_loss", "actor_loss"} <= set(metrics)


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i, 108) for i in range(3)], replay=WithPast)


def test_value_of_one_observation_is_refused() -> None:
    with pytest.raises(UserError, match="needs the observation before"):
        agent().q_value(batch(0, 108).obs, torch.zeros(B, A))


def test_frames_that_are_not_stacked_are_refused() -> None:
    with pytest.raises(UserError, match="frame_stack"):
        ResAct(Config(**SMALL), Context((3, 108, 108), A, 4, 100_000, "cpu", 0))


def test_published_settings() -> None:
    config = Config()
    assert (config.image_size, config.window, config.lr, config.encoder_lr, config.model_lr) == (
        108,
        100,
        1e-3,
        1e-3,
        1e-3,
    )
    assert (config.model_weight_decay, config.batch_size, config.feature_dim) == (0, 128, 50)
    cheetah = Config(**AGENT.task_defaults["dmc/cheetah_run"])
    assert (cheetah.lr, cheetah.encoder_lr, cheetah.model_lr, cheetah.feature_dim) == (2e-4, 2e-4, 1e-3, 64)


def test_guidance_cannot_reach_an_encoder_of_pairs() -> None:
    assert ResAct.guide_encoder is None


def test_its_q_values_in_a_replay_are_of_the_steps_before_them_too() -> None:
    ours, replay = agent(), Replay(32, (9, 108, 108), A, seed=0)
    see_every_pixel(ours.sac.encoder)
    film = stacks(frames(4))
    replay.start(film[0])
    for obs in film[1:]:
        replay.add(np.zeros(A, np.float32), 0.0, False, obs)
    actions = torch.linspace(-1, 1, 3 * A).view(3, A)
    before = [np.zeros_like(film[0]), *film[:2]]
    expected = []
    for previous, current, action in zip(before, film, actions, strict=False):
        pair = [torch.from_numpy(translate(obs[None], np.array([[4, 4]]), 100)) / 255.0 for obs in (previous, current)]
        expected += ours.sac.q_value(torch.cat(pair), action[None]).tolist()
    assert ours.q_in(replay, np.arange(3), actions).tolist() == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) == 3
