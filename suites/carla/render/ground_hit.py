"""Where a line of sight meets the ground, and what lies there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from suites.carla.maps.ground import DRIVING, SHOULDER, Ground, locate, slot_of
from suites.carla.maps.jit import inlined

FAR = 60.0  # metres: beyond this a kerb is too thin to look for


class Hit(NamedTuple):
    """A point of the ground. distance: multiples of the direction that was asked for. x, y: metres.

    kind, row, slot, s, t, cos, sin: as `suites.carla.maps.ground.locate` gives them. kerb: it is the face of a kerb.
    """

    distance: float
    x: float
    y: float
    kind: int
    row: int
    slot: int
    s: float
    t: float
    cos: float
    sin: float
    kerb: bool


@inlined
def is_road(kind: int) -> bool:
    return DRIVING <= kind <= SHOULDER  # DRIVING, PARKING, SHOULDER


@inlined
def hit(ground: Ground, x0: float, y0: float, z0: float, dx: float, dy: float, dz: float) -> Hit:
    """The ground along the direction (dx, dy, dz), dz < 0, from a point above it.

    Roads lie at 0 and everything else a kerb higher: the line meets the upper plane first, and falls through it where
    that plane has a road; it then meets the road, or the face of the kerb before it.
    """
    upper = ground.kerb if z0 > ground.kerb + 0.01 else 0.0
    distance = (upper - z0) / dz
    x, y = x0 + distance * dx, y0 + distance * dy
    kind, row, slot, s, t, cos, sin = locate(ground, x, y)
    if upper == 0.0 or not is_road(kind) or distance > FAR:
        return Hit(distance, x, y, kind, row, slot, s, t, cos, sin, False)
    further = -upper / dz
    lower_x, lower_y = x + further * dx, y + further * dy
    if row >= 0:
        along, across = further * (dx * cos + dy * sin), further * (dy * cos - dx * sin)
        if slot_of(ground, row, t + across) == slot:
            return Hit(
                distance + further, lower_x, lower_y, kind, row, slot,
                np.float32(s + along), np.float32(t + across), cos, sin, False,
            )  # fmt: skip
    lower_kind, lower_row, lower_slot, s, t, cos, sin = locate(ground, lower_x, lower_y)
    if is_road(lower_kind):
        return Hit(distance + further, lower_x, lower_y, lower_kind, lower_row, lower_slot, s, t, cos, sin, False)
    return Hit(distance + further / 2.0, lower_x, lower_y, lower_kind, lower_row, lower_slot, s, t, cos, sin, True)
