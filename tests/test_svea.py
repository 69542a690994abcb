from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceSVEA
from test_augment import slow_shift
from test_sac import SMALL, A, B, OneBatch, assert_continues_bitwise, assert_updates_equal, batch, context

from baselines.svea import AGENT, SVEA, Config
from covr_bench.kit.augment import random_convolution
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)


def agent(**settings: Any) -> SVEA:
    torch.manual_seed(0)
    return SVEA(Config(**(SMALL | {"initial_updates": 1} | settings)), context())


def slow_convolution(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """One image, one frame at a time, pixels out of place taken from the edge."""
    count, channels, height, width = images.shape
    result = torch.empty(images.shape)
    for b in range(count):
        for first in range(0, channels, 3):
            padded = torch.from_numpy(np.pad(images[b, first : first + 3].numpy(), ((0, 0), (1, 1), (1, 1)), "edge"))
            total = torch.zeros(3, height, width)
            for dy in range(3):
                for dx in range(3):
                    window = padded[:, dy : dy + height, dx : dx + width]
                    total += torch.einsum("oc,chw->ohw", kernels[b, :, :, dy, dx], window)
            result[b, first : first + 3] = 1 / (1 + torch.exp(-total))
    return result


def seen(one: Batch) -> list[torch.Tensor]:
    """Drawing what the agent draws: shifts of s, of s', kernels."""
    shifts = [torch.randint(0, 9, (B, 2)) - 4 for _ in range(2)]
    obs, next_obs = (
        torch.from_numpy(slow_shift(images.numpy(), shift.numpy(), 4)) + 0.5
        for images, shift in zip((one.obs, one.next_obs), shifts, strict=True)
    )
    convolved = slow_convolution(obs, torch.randn(B, 3, 3, 3, 3))
    return [obs, one.action, one.reward, one.discount, next_obs, convolved]


@pytest.mark.parametrize(("updates", "taps"), [(3, 0.0), (1, 0.3)])
def test_updates_equal_the_papers_arithmetic(updates: int, taps: float) -> None:
    """At a tenth of the published rate: Adam's steps on gradients that are zero up to rounding add up in 11 layers."""
    ours, reference = agent(lr=1e-4), ReferenceSVEA(action_dim=A, lr=1e-4, hidden_dim=64)
    assert_updates_equal(ours, reference, [batch(i) for i in range(updates)], seen, 1e-4, taps=taps)


def test_random_convolution_is_the_slow_one() -> None:
    images = torch.rand(3, 6, 7, 9).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(1)
    result = random_convolution(images)
    torch.manual_seed(1)
    torch.testing.assert_close(result, slow_convolution(images, torch.randn(3, 3, 3, 3, 3)))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_random_convolution_mixes_each_image_by_itself_and_its_frames_alike() -> None:
    one = torch.rand(1, 3, 8, 8)
    result = random_convolution(one.repeat(2, 2, 1, 1))
    assert torch.equal(result[:, :3], result[:, 3:])
    assert not torch.allclose(result[0], result[1])


def test_weights_of_the_two_losses() -> None:
    """Only the plain images, then only the convolved ones, then both: the loss is linear in its weights."""
    one = batch(0)
    losses = {}
    for weights in ((1, 0), (0, 1), (0.25, 0.5)):
        ours = agent(plain_weight=weights[0], strong_weight=weights[1])
        torch.manual_seed(1)
        losses[weights] = float(ours.update(OneBatch(one), 0)["critic_loss"])  # type: ignore[arg-type]
    assert losses[1, 0] != losses[0, 1]
    assert losses[0.25, 0.5] == pytest.approx(0.25 * losses[1, 0] + 0.5 * losses[0, 1], rel=1e-5)


def test_policy_and_target_never_see_convolved_images() -> None:
    """With their weight at zero, what they learn from is not changed by the convolved images."""
    states = []
    for seed in (1, 2):
        ours = agent(strong_weight=0.0, shift_pad=0)
        one, kernels = batch(0), torch.Generator().manual_seed(seed)
        draw = torch.randn
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "covr_bench.kit.augment.torch.randn",
                lambda *size, device=None, _g=kernels, _draw=draw: _draw(*size, generator=_g),
            )
            torch.manual_seed(3)
            ours.update(OneBatch(one), 0)  # type: ignore[arg-type]
        states.append(ours.sac.actor.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_encoder_is_eleven_convolutions_that_may_end_negative() -> None:
    encoder = agent().sac.encoder
    assert len(encoder.convs) == 11
    assert encoder.out_dim == 21 * 21 * 32
    features = encoder(torch.rand(1, 9, 84, 84))
    assert features.shape == (1, 14_112)
    assert features.min() < 0


def test_first_update_is_a_burst() -> None:
    ours, learned = agent(random_agent_steps=2, initial_updates=3), []
    ours.learn = lambda replay, agent_step, guidance: learned.append(agent_step)  # type: ignore[method-assign]
    for i in range(5):
        ours.update(OneBatch(batch(0)), 4 * i)  # type: ignore[arg-type]
    assert learned == [2, 2, 2, 3, 4]


@pytest.mark.parametrize(("random_agent_steps", "updates"), [(0, 1), (3, 3), (500, 500)])
def test_the_burst_makes_up_for_the_random_steps(random_agent_steps: int, updates: int) -> None:
    ours, learned = agent(random_agent_steps=random_agent_steps, initial_updates=None), []
    ours.learn = lambda replay, agent_step, guidance: learned.append(agent_step)  # type: ignore[method-assign]
    for step in range(random_agent_steps + 1):
        ours.update(OneBatch(batch(0)), step)  # type: ignore[arg-type]
    assert learned == [random_agent_steps] * updates


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i) for i in range(3)])


def test_published_settings() -> None:
    config = Config()
    assert (config.layers, config.feature_dim, config.shift_pad, config.image_size) == (11, 100, 4, 84)
    assert (config.plain_weight, config.strong_weight, config.batch_size, config.lr) == (0.5, 0.5, 128, 1e-3)
    assert (config.critic_tau, config.encoder_tau, config.alpha_lr, config.alpha_beta) == (0.01, 0.05, 1e-4, 0.5)
    assert agent(random_agent_steps=1000, initial_updates=None).initial_updates == 1000
    assert (config.initial_updates, config.random_agent_steps) == (None, 1000)
    assert not AGENT.task_defaults
