from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import test_sac
import torch
from reference_sac import ReferenceSVEA
from test_augment import slow_shift
from test_sac import (
    SMALL,
    A,
    B,
    OneBatch,
    assert_continues_bitwise,
    assert_same_state,
    assert_same_weights,
    assert_updates_equal,
    context,
    see_every_pixel,
)
from test_svea import slow_convolution
from torch import nn

from baselines.madi import AGENT, Config, MaDi, Masker
from covr_bench.kit import winograd
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)
SIDE = 47  # pixels; eleven convolutions leave three
UPDATES = {"initial_updates": 1}


def agent(**settings: Any) -> MaDi:
    torch.manual_seed(0)
    ours = MaDi(Config(**(SMALL | UPDATES | settings)), context(SIDE))
    see_every_pixel(ours.masker)
    return ours


def batch(seed: int) -> Batch:
    return test_sac.batch(seed, SIDE)


class ReferenceMaDi(ReferenceSVEA):
    """Every image that a network sees is masked; updates are counted from 1, and the policy learns in even ones."""

    def __init__(self, masker_lr: float, updates: int, **sizes: Any) -> None:
        super().__init__(SIDE, **sizes)
        layers = []
        for inputs, outputs in ((3, 32), (32, 32), (32, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.masker = nn.Sequential(*layers[:-1], nn.Sigmoid())
        self.masker_opt = torch.optim.Adam(self.masker.parameters(), lr=masker_lr)
        self.updates = updates

    def seen(self, one: Batch) -> list[torch.Tensor]:
        """Drawing what the agent draws: shifts of s, the noise of the target's action, kernels. s' is not shifted."""
        shift = torch.randint(0, 9, (B, 2)) - 4
        obs = torch.from_numpy(slow_shift(one.obs.numpy(), shift.numpy(), 4)) + 0.5
        self.target_noise = torch.randn(B, A)
        convolved = slow_convolution(obs, torch.randn(B, 3, 3, 3, 3))
        return [obs, one.action, one.reward, one.discount, one.next_obs / 255.0, convolved]

    def masked(self, stack: torch.Tensor) -> torch.Tensor:
        return torch.cat([frame * self.masker(frame) for frame in stack.split(3, dim=1)], dim=1)

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        self.updates += 1
        return super().update(transitions, [self.target_noise, noises[0]], even=self.updates % 2 == 0)

    def update_critic(self, obs, action, reward, discount, next_obs, noise) -> float:
        self.masker_opt.zero_grad()
        loss = super().update_critic(obs, action, reward, discount, self.masked(next_obs).detach(), noise)
        self.masker_opt.step()
        return loss

    def critic_loss(self, obs, action, y) -> torch.Tensor:
        q1, q2 = self.critic(self.masked(torch.cat([obs, self.convolved])), torch.cat([action, action]))
        y = torch.cat([y, y])
        return ((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()

    def update_actor_and_alpha(self, obs, noise) -> tuple[float, float]:
        return super().update_actor_and_alpha(self.masked(obs), noise)


def masker_weights(ours: MaDi) -> dict[str, torch.Tensor]:
    return {f"{2 * int(name[6])}{name[7:]}": weight for name, weight in ours.masker.state_dict().items()}


@pytest.mark.parametrize(("before", "updates", "taps"), [(0, 3, 0.0), (1, 1, 0.3)])
def test_updates_equal_the_official_arithmetic(before: int, updates: int, taps: float) -> None:
    """At a tenth of the published rate, as SVEA's. before: updates that were made before, so that one is even."""
    ours = agent(lr=1e-4, masker_lr=1e-4)
    ours.updates = before
    reference = ReferenceMaDi(1e-4, before, action_dim=A, lr=1e-4, hidden_dim=64)
    reference.masker.load_state_dict(copy.deepcopy(masker_weights(ours)))
    assert_updates_equal(ours, reference, [batch(i) for i in range(updates)], reference.seen, 1e-4, taps=taps)
    assert_same_weights([(reference.masker, masker_weights(ours))], 1e-4)


def test_the_masker_really_moved() -> None:
    """Guards the test above: without its step the tolerances would not hold."""
    ours = agent(masker_lr=1e-4)
    see_every_pixel(ours.sac.encoder)
    before = copy.deepcopy(ours.masker.state_dict())
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    moved = torch.cat([(before[key] - value).abs().flatten() for key, value in ours.masker.state_dict().items()])
    assert (moved > 5e-5).float().mean() > 0.3


@pytest.mark.parametrize("kernel", ["torch", "winograd"])
def test_a_mask_is_of_one_frame_and_multiplies_its_colours(kernel: str) -> None:
    if kernel == "winograd" and winograd.choose("auto").kernel == "torch":
        pytest.skip("no C++ compiler, or a CPU without AVX2")
    torch.manual_seed(0)
    masker = Masker(32, kernel)
    see_every_pixel(masker)
    images = torch.rand(2, 9, 13, 11).contiguous(memory_format=torch.channels_last)
    result = masker(images)
    exact = copy.deepcopy(masker).double()
    for b in range(2):
        for frame in range(3):
            picture = x = images[b : b + 1, 3 * frame : 3 * frame + 3].double()
            for i, conv in enumerate(exact.convs):
                x = nn.functional.conv2d(nn.functional.pad(x, [1] * 4), conv.weight, conv.bias)
                x = x.relu() if i < 2 else x.sigmoid()
            assert x.shape == (1, 1, 13, 11) and x.min() > 0 and x.max() < 1
            mine = result[b : b + 1, 3 * frame : 3 * frame + 3].double()
            torch.testing.assert_close(mine, picture * x, atol=1e-5, rtol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", ["torch", "winograd"])
def test_the_masker_s_gradient(kernel: str) -> None:
    if kernel == "winograd" and winograd.choose("auto").kernel == "torch":
        pytest.skip("no C++ compiler, or a CPU without AVX2")
    torch.manual_seed(0)
    masker, images, weight = Masker(32, kernel), torch.rand(2, 9, 12, 10), torch.randn(2, 9, 12, 10)
    see_every_pixel(masker)
    (masker(images) * weight).sum().backward()
    first, second, last = (conv.double() for conv in copy.deepcopy(masker).convs)
    frames = images.double().reshape(6, 3, 12, 10)
    masks = torch.sigmoid(last(torch.relu(second(torch.relu(first(frames))))))
    (masks * frames * weight.double().reshape(6, 3, 12, 10)).sum().backward()
    for ours, theirs in zip(masker.parameters(), [*first.parameters(), *second.parameters(), *last.parameters()],
                            strict=True):  # fmt: skip
        torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-3, rtol=1e-4)


def test_only_the_critics_loss_moves_the_masker() -> None:
    ours, one = agent(), batch(0)
    before = copy.deepcopy(ours.masker.state_dict())
    obs = ours.shown(one.obs, explore=True)
    assert not obs.requires_grad
    pull = []

    def guidance(given: Batch, action: torch.Tensor) -> torch.Tensor:
        pull.append(action)
        return action.sum()

    ours.masker.zero_grad()
    ours.update_critic_and_masker = lambda *_: None  # type: ignore[method-assign]
    for i in range(2):
        ours.update(OneBatch(one), 4 * i, guidance)  # type: ignore[arg-type]
    assert len(pull) == 1
    assert_same_state(before, ours.masker.state_dict())
    assert all(parameter.grad is None for parameter in ours.masker.parameters())


def test_every_network_sees_masked_images() -> None:
    """With a Masker that keeps nothing, no image makes a difference to what is acted, valued or learned."""
    outcomes = []
    for seed in (0, 1):
        ours, one = agent(), batch(0)
        ours.masker.convs[2].weight.data.zero_()
        ours.masker.convs[2].bias.data.fill_(-200.0)
        obs, next_obs = batch(seed).obs, batch(seed).next_obs
        one = one._replace(obs=obs, next_obs=next_obs)
        outcomes.append([ours.act(obs[0].numpy(), 0, explore=False).tolist(), ours.q_value(obs, one.action).tolist()])
        torch.manual_seed(1)
        for i in range(2):
            metrics = ours.update(OneBatch(one), 4 * i)  # type: ignore[arg-type]
        outcomes[-1].append({name: float(value) for name, value in metrics.items()})
    assert outcomes[0] == outcomes[1]


def test_passes_of_masker_and_convolutions() -> None:
    """Images of one pass, by who asks: nothing is computed again for the same weights."""
    ours, passes = agent(), []
    for name, module in (("masker", ours.masker), ("online", ours.sac.encoder), ("target", ours.sac.target_encoder)):
        module.register_forward_hook(lambda *_, name=name: passes.append(name))
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    update = ["masker", "online", "target", "masker", "online", "masker", "online"]
    assert passes == update
    ours.update(OneBatch(batch(0)), 4)  # type: ignore[arg-type]
    assert passes == update * 2 + ["masker", "online"]


def test_without_strong_images_they_are_not_computed() -> None:
    ours, calls = agent(plain_weight=1.0, strong_weight=0.0), []
    ours.masker.register_forward_hook(lambda *_: calls.append(1))
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    assert len(calls) == 2  # s' and s


def test_updates_count_from_one_in_the_burst_too() -> None:
    ours = agent(random_agent_steps=1, initial_updates=5)
    policy: list[int] = []
    ours.sac.update_actor_and_alpha = lambda *_: policy.append(ours.updates)  # type: ignore[method-assign]
    for i in range(4):
        ours.update(OneBatch(batch(0)), 4 * i)  # type: ignore[arg-type]
    assert ours.updates == 7
    assert policy == [2, 4, 6]


def test_state_round_trip_continues_bitwise() -> None:
    def learned() -> MaDi:
        """Once, so that the next update is one of the policy, and its entropy a number."""
        ours = agent()
        torch.manual_seed(8)
        ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
        return ours

    assert learned().state_dict()["updates"] == 1
    assert_continues_bitwise(learned, [batch(i) for i in range(3)])


def test_published_settings() -> None:
    config = Config()
    assert (config.layers, config.feature_dim, config.shift_pad, config.image_size) == (11, 100, 4, 84)
    assert (config.plain_weight, config.strong_weight, config.batch_size, config.lr) == (0.5, 0.5, 128, 1e-3)
    assert (config.masker_lr, config.masker_filters) == (1e-3, 32)
    assert (config.critic_tau, config.encoder_tau, config.alpha_lr, config.alpha_beta) == (0.01, 0.05, 1e-4, 0.5)
    assert MaDi(Config(), context(SIDE)).initial_updates == config.random_agent_steps == 1000
    assert not AGENT.task_defaults
    masker = MaDi(Config(**SMALL), context()).masker
    assert sum(parameter.numel() for parameter in masker.parameters()) == 10_433
    for conv in masker.convs:
        edges = conv.weight.detach().clone()
        edges[:, :, 1, 1] = 0
        assert not edges.any() and conv.weight[:, :, 1, 1].any() and not conv.bias.any()
    assert np.isclose(masker.convs[1].weight[0, :, 1, 1].norm().item(), 2**0.5)
