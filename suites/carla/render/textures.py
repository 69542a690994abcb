"""Textures, made from noise: asphalt with cracks and patches, grass with tufts, facades of bricks and plaster.

Cameras whose `textured` is false do without: those of the driving tasks, so that what their agents see stays as it was.
Whatever is smaller than a pixel fades out, so that nothing flickers in small pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import inlined
from suites.carla.render.noise import smooth
from suites.carla.render.road_paint import pulses

GRIT = 23.0  # noise texels per metre: the stones of asphalt
CRACK, CRACK_WIDTH = 1.7, 0.035  # texels per metre; share of the noise's height that is a crack
PATCH, PATCH_LENGTH = 14.0, 4.5  # metres from one place of a mended patch to the next; and its length at most
TUFT, MOTTLE = 5.0, 1.3  # texels per metre: of grass
COURSE, MORTAR = 0.24, 0.03  # metres: rows of bricks, as far as a camera tells them apart
PLINTH, LEDGE = 0.55, 0.14  # metres: the dark foot of a house, and the ledge at each storey
STOREY = 3.3  # metres


@inlined
def hashed(a: int, b: int) -> float:
    """A number from 0 to 1 that belongs to two whole numbers."""
    mixed = (a * 73856093) ^ (b * 19349663)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return float((mixed ^ (mixed >> 16)) & 4095) / 4095.0


@inlined
def asphalt_tone(noise: NDArray[np.float32], x: float, y: float, s: float, lane: int, size: float) -> float:
    """A factor of the asphalt's brightness. s: metres along the road; lane: its number; size: of a pixel, in metres."""
    tone = 1.0 + 0.085 * smooth(noise, x * GRIT, y * GRIT) * min(1.0, 0.6 / (GRIT * size + 1e-6))
    tone += 0.035 * smooth(noise, x * 0.31 + 17.0, y * 0.31)
    ridge = abs(smooth(noise, x * CRACK + 3.7, y * CRACK + 9.1))
    where = min(1.0, max(0.0, 1.2 * smooth(noise, x * 0.13 + 51.0, y * 0.13) + 0.1))
    width = CRACK_WIDTH + 0.6 * CRACK * size
    tone -= 0.34 * where * max(0.0, 1.0 - ridge / width) * (CRACK_WIDTH / width)
    number = int(np.floor(s / PATCH))
    chance = hashed(number, lane + 5)
    if chance < 0.22:
        at = s - number * PATCH - 1.0
        length = PATCH_LENGTH * (0.4 + 2.7 * chance)
        soft = max(0.03, size)
        inside = min(1.0, max(0.0, min(at, length - at) / soft))
        tone -= inside * (0.07 + 0.05 * smooth(noise, x * 4.0, y * 4.0))
    return tone


@inlined
def grass_tone(noise: NDArray[np.float32], x: float, y: float, size: float) -> tuple[float, float]:
    """(a factor of the brightness of grass, how much of it is dry or in flower)."""
    tuft = smooth(noise, x * TUFT, y * TUFT + 31.0) * min(1.0, 0.7 / (TUFT * size + 1e-6))
    mottle = smooth(noise, x * MOTTLE + 7.0, y * MOTTLE) * min(1.0, 0.9 / (MOTTLE * size + 1e-6))
    return 1.0 + 0.15 * tuft + 0.08 * mottle, min(1.0, max(0.0, 0.8 * mottle - 1.0))


@inlined
def facade_tone(noise: NDArray[np.float32], along: float, z: float, half: float, brick: bool) -> float:
    """A factor of a wall's brightness. along, z: metres along it and above its foot; half: of a pixel's size there."""
    size = 2.0 * half
    stain = smooth(noise, along * 2.1, z * 0.6 + 11.0) * min(1.0, 0.5 / (2.1 * size + 1e-6))
    tone = 1.0 + 0.045 * stain + 0.05 * smooth(noise, along * 0.23, z * 0.23 + 5.0)
    if brick:
        row = int(np.floor(z / COURSE))
        offset = 0.5 * COURSE if row & 1 else 0.0
        joints = max(pulses(z, half, COURSE, MORTAR), 0.7 * pulses(along + offset, half, 2.0 * COURSE, MORTAR))
        tone += 0.10 * joints
        stone = hashed(row, int(np.floor((along + offset) / (2.0 * COURSE))))
        tone += 0.13 * (stone - 0.5) * min(1.0, 0.5 * COURSE / (size + 1e-6))
    else:
        tone += 0.05 * smooth(noise, along * 17.0, z * 17.0) * min(1.0, 0.7 / (17.0 * size + 1e-6))
    ledge = pulses(z + LEDGE, half, STOREY, LEDGE)
    tone += 0.14 * ledge - 0.16 * pulses(z + LEDGE + 0.10, half, STOREY, 0.10)
    foot = min(1.0, max(0.0, (PLINTH + half - z) / size)) if size > 0.0 else 0.0
    return tone * (1.0 - 0.30 * foot)
