"""Lane markings, zebras and stop lines: how much of a small patch of road they cover."""

from __future__ import annotations

import numpy as np

from suites.carla.maps.ground import CROSSING, DRIVING, PARKING, STOP_LEFT, STOP_RIGHT, Ground
from suites.carla.maps.jit import inlined

DASH, DASH_PERIOD = 3.0, 9.0  # metres of a broken line
ZEBRA, ZEBRA_PERIOD = 0.5, 1.0  # metres
DOUBLE = 0.13  # metres from the middle of a double line to each of its two
HAS_YELLOW = 8  # set in a marking that is not white
SOLID, BROKEN = 1, 2
# Strokes of each marking (index in MARKINGS): in its middle, left of it and right of it.
STROKES = np.array(
    (
        (0, 0, 0),
        (SOLID, 0, 0),
        (BROKEN, 0, 0),
        (0, SOLID, SOLID),
        (0, SOLID, BROKEN),
        (0, BROKEN, SOLID),
        (0, BROKEN, BROKEN),
    ),
    np.int64,
)


@inlined
def overlap(at: float, half: float, low: float, high: float) -> float:
    """The share of [at - half, at + half] that lies in [low, high]."""
    return max(0.0, min(at + half, high) - max(at - half, low)) / (2.0 * half)


@inlined
def pulses(at: float, half: float, period: float, on: float) -> float:
    """The share of [at - half, at + half] where (position mod period) < on."""
    low, high = at - half, at + half
    a, b = np.floor(low / period), np.floor(high / period)
    covered = (b - a) * on + min(high - b * period, on) - min(low - a * period, on)
    return float(covered / (2.0 * half))


@inlined
def paint_cover(
    ground: Ground, kind: int, row: int, slot: int, s: float, t: float, half_s: float, half_t: float
) -> tuple[float, float]:
    """(white, yellow) shares of a patch around (s, t) of a cross-section, `half_s` and `half_t` metres each way."""
    white, yellow = 0.0, 0.0
    for side in range(2):
        edge = slot + side
        mark = int(ground.mark[row, edge])
        if mark == 0:
            continue
        width = ground.mark_width[row, edge]
        middle = ground.border[row, edge]
        if abs(t - middle) > DOUBLE + width + half_t:
            continue
        covered = 0.0
        for k in range(3):
            stroke = STROKES[mark & 7, k]
            if stroke:
                shift = 0.0 if k == 0 else (DOUBLE if k == 1 else -DOUBLE)
                share = overlap(t - middle + shift, half_t, -0.5 * width, 0.5 * width)
                if share > 0.0:
                    covered += share if stroke == SOLID else share * pulses(s, half_s, DASH_PERIOD, DASH)
        if mark & HAS_YELLOW:
            yellow = min(1.0, yellow + covered)
        else:
            white = min(1.0, white + covered)
    flag = ground.flag[row]
    if flag and kind in (DRIVING, PARKING):
        if flag & CROSSING:
            yellow = 0.0
            white = pulses(t, half_t, ZEBRA_PERIOD, ZEBRA)
        elif kind == DRIVING and ((flag & STOP_RIGHT and t > 0.0) or (flag & STOP_LEFT and t < 0.0)):
            white = 1.0
    return white, yellow
