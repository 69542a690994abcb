from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceDrQ
from test_augment import slow_shift
from test_sac import SMALL, A, B, OneBatch, assert_continues_bitwise, assert_updates_equal, batch, context

from baselines.drq import AGENT, Actor, Config, DrQ
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)


def agent(**settings: Any) -> DrQ:
    torch.manual_seed(0)
    return DrQ(Config(**(SMALL | settings)), context())


def views(obs: torch.Tensor, count: int = 2) -> list[torch.Tensor]:
    """Drawing what the agent draws: each view's shifts, padded with edge pixels and cut out again."""
    shifts = [torch.randint(0, 9, (B, 2)) - 4 for _ in range(count)]
    return [torch.from_numpy(slow_shift(obs.numpy(), shift.numpy(), 4)) + 0.5 for shift in shifts]


def seen(one: Batch) -> list[Any]:
    return [views(one.obs), one.action, one.reward, one.discount, views(one.next_obs)]


def test_updates_equal_the_papers_arithmetic() -> None:
    ours, reference = agent(), ReferenceDrQ(action_dim=A, hidden_dim=64)
    assert_updates_equal(ours, reference, [batch(i) for i in range(3)], seen, 1e-3, targets=2)


def test_one_view_of_each_is_plain_sac_on_shifted_images() -> None:
    """K = M = 1: the loss is half of two equal views' and its target one view's own."""
    one = batch(0)
    still: dict[str, Any] = {"shift_pad": 0}
    losses = []
    for settings in (still, still | {"target_views": 1, "loss_views": 1}):
        ours = agent(**settings)
        ours.sac.actor.policy[-1].bias.data[A:] = -10.0  # no noise and no entropy: both target views are equal
        ours.sac.log_alpha.data.fill_(-20)
        losses.append(float(ours.update(OneBatch(one), 0)["critic_loss"]))  # type: ignore[arg-type]
    assert losses[0] == pytest.approx(2 * losses[1], rel=1e-3)


def test_views_are_moved_apart() -> None:
    first, second = agent().shifted(batch(0).obs, 2)
    assert not torch.equal(first, second)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_density_is_exact_for_a_saturated_policy() -> None:
    torch.manual_seed(0)
    actor = Actor(5, 1, 50, 32, tanh=True)
    with torch.no_grad():
        for mean in (-12.0, 0.3, 12.0):
            actor.policy[-1].weight.zero_()
            actor.policy[-1].bias.copy_(torch.tensor([mean, 0.5]))
            torch.manual_seed(1)
            _, log_pi = actor.sample(torch.zeros(4, 5, dtype=torch.float32))
            torch.manual_seed(1)
            std = actor(torch.zeros(4, 5))[1].exp().double()
            before = mean + std * torch.randn(4, 1)
            slope = 4 / (before.exp() + (-before).exp()) ** 2
            expected = torch.distributions.Normal(mean, std).log_prob(before) - slope.log()
            torch.testing.assert_close(log_pi.double(), expected, atol=1e-4, rtol=1e-5)


def test_acts_on_whole_images_by_heads_that_end_in_tanh() -> None:
    ours = agent()
    obs = batch(0).obs[0].numpy()
    features = ours.sac.encoder(torch.from_numpy(obs)[None] / 255.0)
    mean, _ = ours.sac.actor(features)
    np.testing.assert_allclose(ours.act(obs, 0, explore=False), torch.tanh(mean[0]).detach(), atol=1e-6)
    for head in (ours.sac.actor.head, ours.sac.critic.head, ours.sac.target_critic.head):
        head[1].weight.data.fill_(100)
        assert head(features).abs().max() <= 1


def test_convolutions_start_orthogonal_as_a_whole() -> None:
    for conv in agent().sac.encoder.convs[1:]:
        rows = conv.weight.detach().flatten(1)
        torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(32), atol=1e-4, rtol=0)


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i) for i in range(3)])


def test_published_settings() -> None:
    config = Config()
    assert (config.target_views, config.loss_views, config.shift_pad, config.image_size) == (2, 2, 4, 84)
    assert (config.lr, config.critic_tau, config.encoder_tau) == (1e-3, 0.01, 0.01)
    optimiser = agent().sac.alpha_opt.param_groups[0]
    assert (optimiser["lr"], optimiser["betas"]) == (1e-3, (0.9, 0.999))
    assert not AGENT.task_defaults
