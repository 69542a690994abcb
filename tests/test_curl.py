from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceCURL, crop
from test_sac import (
    SMALL,
    A,
    B,
    OneBatch,
    assert_continues_bitwise,
    assert_updates_equal,
    batch,
    context,
    see_every_pixel,
)

from baselines.curl import AGENT, CURL, Config
from covr_bench.kit.augment import UNIT, cropped
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)


def agent(**settings: Any) -> CURL:
    torch.manual_seed(0)
    return CURL(Config(**(SMALL | settings)), context(100))


def seen(one: Batch) -> list[torch.Tensor]:
    """Drawing what the agent draws: y then x of the anchor, of s', of the positive."""
    images = []
    for obs in (one.obs, one.next_obs, one.obs):
        corners = torch.stack([torch.randint(0, 16, (B,)) for _ in range(2)], 1).numpy()
        images.append(torch.from_numpy(crop(obs.numpy(), corners, 84)) / 255.0)
    return [images[0], one.action, one.reward, one.discount, images[1], images[2]]


def test_updates_equal_the_papers_arithmetic() -> None:
    """Its two optimisers of the encoder against our one of twice the rate."""
    ours, reference = agent(), ReferenceCURL(action_dim=A, hidden_dim=64)
    reference.bilinear.data.copy_(ours.contrast.weight)
    assert_updates_equal(ours, reference, [batch(i, 100) for i in range(3)], seen, 1e-3)
    difference = (ours.contrast.weight - reference.bilinear).abs()
    assert difference.max() < 1e-4
    assert (ours.contrast.weight - agent().contrast.weight).abs().max() > 1e-3


def test_contrastive_loss_trains_query_encoder_and_similarity_only() -> None:
    ours = agent()
    before = copy.deepcopy({**ours.sac.parts(), "contrast": ours.contrast})
    obs = cropped(batch(0, 100).obs, 84, table=UNIT)
    ours.update_contrast(ours.sac.encoder(obs), obs.flip(2).contiguous(memory_format=torch.channels_last))
    after = {**ours.sac.parts(), "contrast": ours.contrast}
    moved = {
        f"{name}.{key.split('.')[0]}"
        for name in ("encoder", "actor", "critic", "target_encoder", "target_critic", "contrast")
        for key, value in before[name].state_dict().items()
        if not torch.equal(value, after[name].state_dict()[key])
    }
    assert moved == {"encoder.convs", "critic.head", "contrast.weight"}


def test_contrast_prefers_the_own_key() -> None:
    contrast = agent().contrast
    with torch.no_grad():
        contrast.weight.copy_(torch.eye(50))
        keys = 20 * torch.eye(50)[:B]
        assert contrast(keys, keys).item() == pytest.approx(0, abs=1e-6)
        assert contrast(keys, keys.roll(1, 0)).item() == pytest.approx(400, rel=1e-3)
        assert contrast(keys, torch.zeros_like(keys)).item() == pytest.approx(np.log(B))


def test_crops_differ_and_never_reach_the_last_row() -> None:
    ours = agent()
    place = np.arange(10_000, dtype=np.uint16).reshape(100, 100)  # each pixel spells its own place
    obs = np.stack([place // 256, place % 256, place % 256]).astype(np.uint8)
    images = (ours.random_crop(torch.from_numpy(obs).repeat(2000, 1, 1, 1)) * 255).round().long()
    corners = {divmod(int(high) * 256 + int(low), 100) for high, low, _ in images[:, :, 0, 0]}
    assert corners == {(y, x) for y in range(16) for x in range(16)}
    assert images.shape[2:] == (84, 84)


def test_acts_on_the_central_crop() -> None:
    ours = agent()
    see_every_pixel(ours.sac.encoder)
    ours.sac.actor.policy[-1].bias.data[A:] = -10.0  # so that exploring is acting to about 1e-4
    obs = batch(3, 100).obs[0].numpy()
    middle = torch.from_numpy(obs[None, :, 8:92, 8:92]) / 255.0
    expected = torch.tanh(ours.sac.actor(ours.sac.encoder(middle))[0])[0].detach()
    for explore in (True, False):
        np.testing.assert_allclose(ours.act(obs, 0, explore), expected, atol=5e-4 if explore else 1e-6)


def test_policy_and_query_read_the_same_features() -> None:
    """The saving: convolutions of the anchor run once after the critic's step."""
    ours, one = agent(), batch(0, 100)
    calls: list[str] = []
    for name in ("encoder", "target_encoder"):
        getattr(ours.sac, name).register_forward_hook(lambda *_, called=name: calls.append(called))
    ours.update(OneBatch(one), 0)  # type: ignore[arg-type]
    ours.update(OneBatch(one), 8)  # type: ignore[arg-type]
    # s' twice for the target; s for the critic; s again for policy and query; the positive for the keys.
    assert calls == ["encoder", "target_encoder", "encoder", "encoder", "target_encoder"] * 2


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i, 100) for i in range(3)])


def test_published_settings() -> None:
    config = Config()
    assert (config.image_size, config.window, config.lr, config.feature_dim) == (100, 84, 1e-3, 50)
    cheetah = CURL(Config(**SMALL, **AGENT.task_defaults["dmc/cheetah_run"]), context(100))
    encoder, similarity = cheetah.contrast_opt.param_groups
    assert (cheetah.sac.critic_opt.param_groups[0]["lr"], encoder["lr"], similarity["lr"]) == (2e-4, 4e-4, 2e-4)
    assert [id(p) for p in encoder["params"]] == [id(p) for p in cheetah.sac.encoder_parameters()]


def test_images_without_room_for_a_crop_are_refused() -> None:
    with pytest.raises(UserError, match=r"curl's window=84 does not fit images of 84x84 pixels; .* at least 85"):
        CURL(Config(**SMALL), context(84))
