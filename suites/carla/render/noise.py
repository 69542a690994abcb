"""One tile of smooth noise, from which asphalt, grass, clouds and puddles take their unevenness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import inlined

SIZE = 256  # texels, a power of two: indices wrap by masking
OCTAVES = (8, 16, 32, 64, 128)  # cells across the tile


def tile(seed: int) -> NDArray[np.float32]:
    """Fractal value noise that repeats at its borders: float32 (SIZE, SIZE), zero mean, unit deviation."""
    rng = np.random.default_rng(seed)
    total = np.zeros((SIZE, SIZE))
    position = np.arange(SIZE) / SIZE
    for octave, cells in enumerate(OCTAVES):
        grid = rng.standard_normal((cells, cells))
        low = (position * cells).astype(int)
        part = position * cells - low
        share = part * part * (3.0 - 2.0 * part)
        high = (low + 1) % cells
        rows = grid[low] * (1 - share)[:, None] + grid[high] * share[:, None]
        total += (rows[:, low] * (1 - share) + rows[:, high] * share) * 0.62**octave
    out: NDArray[np.float32] = ((total - total.mean()) / total.std()).astype(np.float32)
    return out


@inlined
def smooth(texture: NDArray[np.float32], x: float, y: float) -> float:
    """The tile at texel coordinates (x, y), interpolated."""
    fx, fy = np.floor(x), np.floor(y)
    i, j = int(fx) & (SIZE - 1), int(fy) & (SIZE - 1)
    k, m = (i + 1) & (SIZE - 1), (j + 1) & (SIZE - 1)
    u, v = np.float32(x - fx), np.float32(y - fy)
    top = texture[j, i] + u * (texture[j, k] - texture[j, i])
    bottom = texture[m, i] + u * (texture[m, k] - texture[m, i])
    return float(top + v * (bottom - top))
