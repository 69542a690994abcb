from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_sac import ReferenceSAC, crop, translate
from test_sac import SMALL, A, B, assert_continues_bitwise, assert_updates_equal, batch, context, see_every_pixel

from baselines.rad import AGENT, RAD, Config
from covr_bench.kit import augment
from covr_bench.kit.augment import UNIT, cropped, random_corner, scaled, translated
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)
RENDERED = {"crop": 100, "translate": 108}


def agent(augmentation: str, **settings: Any) -> RAD:
    torch.manual_seed(0)
    config = Config(augmentation=augmentation, **(SMALL | settings))  # type: ignore[arg-type]
    return RAD(config, context(RENDERED[augmentation]))


def seen_crop(one: Batch) -> list[torch.Tensor]:
    """Drawing what the agent draws: y then x of s, then of s'."""
    corners = [torch.stack([torch.randint(0, 17, (B,)) for _ in range(2)], 1).numpy() for _ in range(2)]
    return _floats(
        one, [crop(images.numpy(), c, 84) for images, c in zip((one.obs, one.next_obs), corners, strict=True)]
    )


def seen_translate(one: Batch) -> list[torch.Tensor]:
    corner = torch.stack([torch.randint(0, 9, (B,)) for _ in range(2)], 1).numpy()
    return _floats(one, [translate(images.numpy(), corner, 100) for images in (one.obs, one.next_obs)])


def _floats(one: Batch, images: list[np.ndarray]) -> list[torch.Tensor]:
    obs, next_obs = (torch.from_numpy(x) / 255.0 for x in images)
    return [obs, one.action, one.reward, one.discount, next_obs]


@pytest.mark.parametrize(
    ("augmentation", "side", "seen"), [("crop", 84, seen_crop), ("translate", 108, seen_translate)]
)
def test_updates_equal_the_papers_arithmetic(augmentation: str, side: int, seen: Any) -> None:
    ours, reference = agent(augmentation), ReferenceSAC(side, action_dim=A, hidden_dim=64)
    batches = [batch(i, RENDERED[augmentation]) for i in range(3)]
    assert_updates_equal(ours, reference, batches, seen, 1e-3)


def test_crop_moves_s_and_next_s_apart_and_translate_together() -> None:
    for augmentation, together in (("crop", False), ("translate", True)):
        one = batch(0, RENDERED[augmentation])
        images, next_images = agent(augmentation).augmented(one._replace(next_obs=one.obs))
        assert torch.equal(images, next_images) == together
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_acting() -> None:
    """Which picture the policy is shown, found by showing the networks each."""
    for augmentation in ("crop", "translate"):
        side = RENDERED[augmentation]
        ours = agent(augmentation)
        see_every_pixel(ours.sac.encoder)
        ours.sac.actor.policy[-1].bias.data[A:] = -10.0  # so that exploring is acting to about 1e-4
        obs = batch(3, side).obs[:1].numpy()
        middle = np.full((1, 2), 8 if augmentation == "crop" else 4)
        if augmentation == "crop":
            exploring = evaluated = crop(obs, middle, 84)
        else:
            exploring, evaluated = obs, translate(obs, middle, 100)
            assert not np.array_equal(exploring, evaluated)
        for explore, picture in ((True, exploring), (False, evaluated)):
            expected = torch.tanh(ours.sac.actor(ours.sac.encoder(torch.from_numpy(picture) / 255.0))[0])[0]
            np.testing.assert_allclose(ours.act(obs[0], 0, explore), expected.detach(), atol=5e-4 if explore else 1e-6)
        action = torch.full((1, A), 0.5)
        q = ours.sac.q_value(torch.from_numpy(evaluated) / 255.0, action)
        torch.testing.assert_close(ours.q_value(torch.from_numpy(obs), action), q, atol=1e-6, rtol=0)
        random_state = torch.get_rng_state()
        ours.act(obs[0], 0, explore=False)
        assert torch.equal(random_state, torch.get_rng_state())


@pytest.mark.parametrize("augmentation", ["crop", "translate"])
def test_state_round_trip_continues_bitwise(augmentation: str) -> None:
    assert_continues_bitwise(lambda: agent(augmentation), [batch(i, RENDERED[augmentation]) for i in range(3)])


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("cartpole_swingup", ("translate", 108, 100, 1e-3, 50)),
        ("reacher_easy", ("translate", 108, 100, 1e-3, 50)),
        ("cheetah_run", ("translate", 108, 100, 2e-4, 64)),
        ("walker_walk", ("crop", 100, 84, 1e-3, 50)),
        ("finger_spin", ("translate", 108, 100, 1e-3, 50)),
        ("ball_in_cup_catch", ("translate", 108, 100, 1e-3, 50)),
    ],
)
def test_published_settings_per_task(task: str, expected: tuple[Any, ...]) -> None:
    config = Config(**AGENT.task_defaults.get(f"dmc/{task}", {}))  # type: ignore[arg-type]
    assert (config.augmentation, config.image_size, config.window, config.lr, config.feature_dim) == expected


def test_sizes_follow_the_augmentation_unless_given() -> None:
    assert (Config(augmentation="crop").image_size, Config(augmentation="crop").window) == (100, 84)
    assert (Config(augmentation="crop", image_size=90).image_size, Config(window=96).window) == (90, 96)


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(UserError, match=r"window=100 does not fit images of 84x84"):
        RAD(Config(**SMALL), context(84))


shapes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(2, 11), st.integers(2, 11))


@settings(max_examples=30, deadline=None)
@given(shapes, st.data())
def test_crop_and_translation_are_slow_numpys(shape: tuple[int, int, int, int], data: Any) -> None:
    count, frames, height, width = shape
    size = data.draw(st.integers(1, min(height, width)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    obs = rng.integers(0, 256, (count, 3 * frames, height, width), dtype=np.uint8)
    images = torch.from_numpy(obs)
    corner = random_corner(images, size)
    cut = np.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(obs, corner.tolist(), strict=True)])
    pasted = np.zeros_like(obs)
    top, left = (height - size) // 2, (width - size) // 2
    for b, (y, x) in enumerate(corner.tolist()):
        pasted[b, :, y : y + size, x : x + size] = obs[b, :, top : top + size, left : left + size]
    for result, expected in (
        (cropped(images, size, corner, UNIT), cut),
        (translated(images, size, corner, UNIT), pasted),
    ):
        assert torch.equal(result, torch.from_numpy(expected).float() / 255)
        assert result.is_contiguous(memory_format=torch.channels_last)


class Elsewhere:
    """A tensor that says it is on a GPU, so that the code for one runs here."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor, self.shape = tensor, tensor.shape
        self.device = type("Device", (), {"type": "cuda", "__str__": lambda self: "cpu"})()

    def __len__(self) -> int:
        return len(self._tensor)

    def permute(self, *order: int) -> torch.Tensor:
        return self._tensor.permute(*order)


def test_gpu_path_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (6, 9, 20, 24), dtype=torch.uint8)
    corner = random_corner(images, 13)
    expected = [cropped(images, 13, corner, UNIT), translated(images, 13, corner, UNIT), scaled(images, UNIT)]
    elsewhere: Any = Elsewhere(images)
    for name in ("arange", "as_tensor", "tensor", "zeros"):
        function = getattr(torch, name)
        monkeypatch.setattr(augment.torch, name, lambda *a, _f=function, device=None, **k: _f(*a, **k))
    results = [cropped(elsewhere, 13, corner, UNIT), translated(elsewhere, 13, corner, UNIT), scaled(elsewhere, UNIT)]
    for result, one in zip(results, expected, strict=True):
        assert torch.equal(result, one)
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_centre_is_the_default_place() -> None:
    images = torch.randint(0, 256, (2, 3, 108, 108), dtype=torch.uint8)
    assert torch.equal(cropped(images, 84, table=UNIT), images[:, :, 12:96, 12:96].float() / 255)
    assert torch.equal(
        translated(images, 100, table=UNIT)[:, :, 4:104, 4:104], images[:, :, 4:104, 4:104].float() / 255
    )


def test_corners_are_every_one_that_fits() -> None:
    torch.manual_seed(0)
    corners = random_corner(torch.zeros(2000, 3, 12, 10, dtype=torch.uint8), 8)
    assert {tuple(corner) for corner in corners.tolist()} == {(y, x) for y in range(5) for x in range(3)}


def test_a_square_outside_the_image_is_refused() -> None:
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="leaves the 8x8 image"):
        translated(images, 6, torch.tensor([[0, 3]]))


def test_unit_table_is_bit_equal_to_the_formula() -> None:
    assert torch.equal(torch.from_numpy(UNIT), torch.arange(256, dtype=torch.uint8).float() / 255.0)


def test_the_encoder_is_guided_on_the_picture_that_is_acted_on_in_evaluation() -> None:
    ours, one = agent("translate"), batch(0, 108)
    see_every_pixel(ours.sac.encoder)
    images = torch.from_numpy(translate(one.obs.numpy(), np.full((len(one.obs), 2), 4), 100)) / 255.0
    expected = torch.tanh(ours.sac.actor(ours.sac.encoder(images))[0]).detach()
    seen: list[torch.Tensor] = []

    def guidance(_: Any, action: torch.Tensor) -> torch.Tensor:
        seen.append(action.detach())
        return action.square().mean()

    ours.guide_encoder(one, guidance)
    torch.testing.assert_close(seen, [expected])
