from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.kit.augment import CENTRED, random_shift, scaled, shifted


def slow_shift(obs: np.ndarray, shift: np.ndarray, pad: int) -> np.ndarray:
    """Pad with edge pixels, then crop."""
    _, _, height, width = obs.shape
    padded = np.pad(obs, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")
    crops = [
        padded[b, :, pad + dy : pad + dy + height, pad + dx : pad + dx + width] for b, (dy, dx) in enumerate(shift)
    ]
    return np.stack(crops).astype(np.float32) / np.float32(255) - np.float32(0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.randoms())
def test_shift_is_pad_and_crop(batch: int, frames: int, height: int, width: int, pad: int, random) -> None:
    rng = np.random.default_rng(random.getrandbits(32))
    obs = rng.integers(0, 256, (batch, 3 * frames, height, width), dtype=np.uint8)
    shift = rng.integers(-pad, pad + 1, (batch, 2))
    result = shifted(torch.from_numpy(obs), torch.from_numpy(shift))
    np.testing.assert_array_equal(result.numpy(), slow_shift(obs, shift, pad))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_table_is_bit_equal_to_the_formula() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(torch.from_numpy(CENTRED), every.float() / 255.0 - 0.5)


def test_random_shift_covers_every_offset_and_nothing_else() -> None:
    torch.manual_seed(0)
    place = np.arange(400, dtype=np.uint16).reshape(20, 20)  # each pixel spells its own place
    obs = np.broadcast_to(np.stack([place // 256, place % 256, place % 256]).astype(np.uint8), (600, 3, 20, 20))
    moved = ((random_shift(torch.from_numpy(obs.copy()), 2)[:, :, 10, 10] + 0.5) * 255).round().long()
    assert (moved[:, 1] == moved[:, 2]).all()  # channels move together
    seen = {divmod(int(high) * 256 + int(low), 20) for high, low, _ in moved}
    assert seen == {(10 + dy, 10 + dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_scaled_does_not_move() -> None:
    obs = torch.randint(0, 256, (2, 9, 8, 8), dtype=torch.uint8)
    assert torch.equal(scaled(obs), obs.float() / 255.0 - 0.5)
