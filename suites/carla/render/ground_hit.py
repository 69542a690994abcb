"""Where a line of sight meets the ground, and what lies there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from suites.carla.maps.ground import DRIVING, SHOULDER, Ground, locate, slot_of
from suites.carla.maps.jit import compiled, inlined
from suites.carla.maps.terrain import level_at, reaches, slope_at
from suites.carla.render.raster import Samples
from suites.carla.render.view import View

FAR = 60.0  # metres: beyond this a kerb is too thin to look for
HORIZON = -0.0008  # z of a unit direction: sight lines above it meet no ground worth drawing
HORIZON_DISTANCE = 2500.0  # metres: the same on a hilly map
SUNK, SUNK_SHARE = 0.15, 0.003  # metres, and share of its distance, by which a triangle must lie behind the ground


class Hit(NamedTuple):
    """A point of the ground. distance: multiples of the direction that was asked for. x, y: metres.

    kind, row, slot, s, t, cos, sin: as `suites.carla.maps.ground.locate` gives them. kerb: it is the face of a kerb.
    slope_x, slope_y: of the terrain there; fall: how fast the line comes nearer to it, negative.
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
    slope_x: float
    slope_y: float
    fall: float


@inlined
def is_road(kind: int) -> bool:
    return DRIVING <= kind <= SHOULDER  # DRIVING, PARKING, SHOULDER


@inlined
def in_view(ground: Ground, samples: Samples, row: int, column: int, dz: float, length: float) -> bool:
    """Whether a pixel's line of sight, of that z and length, meets ground worth drawing."""
    if ground.hilly:
        return bool(samples.bare[row, column] < HORIZON_DISTANCE)
    return dz < HORIZON * length


@inlined
def hit(ground: Ground, x0: float, y0: float, z0: float, dx: float, dy: float, dz: float, bare: float) -> Hit:
    """The ground along the direction (dx, dy, dz) from a point above it; it must meet it.

    Roads lie a kerb lower than everything else: the line meets the upper surface first, and falls through it where
    that has a road; it then meets the road, or the face of the kerb before it. bare: where the line meets the upper
    surface of a hilly map.
    """
    if ground.hilly:
        upper, distance = ground.kerb, bare
        gx, gy = slope_at(ground, x0 + distance * dx, y0 + distance * dy)
        fall = min(dz - gx * dx - gy * dy, -1e-4)
    else:
        upper = ground.kerb if z0 > ground.kerb + 0.01 else 0.0
        distance, gx, gy, fall = (upper - z0) / dz, 0.0, 0.0, dz
    x, y = x0 + distance * dx, y0 + distance * dy
    kind, row, slot, s, t, cos, sin = locate(ground, x, y)
    if upper == 0.0 or not is_road(kind) or distance > FAR:
        return Hit(distance, x, y, kind, row, slot, s, t, cos, sin, False, gx, gy, fall)
    further = -upper / fall
    lower_x, lower_y = x + further * dx, y + further * dy
    if row >= 0:
        along, across = further * (dx * cos + dy * sin), further * (dy * cos - dx * sin)
        if slot_of(ground, row, t + across) == slot:
            return Hit(
                distance + further, lower_x, lower_y, kind, row, slot,
                np.float32(s + along), np.float32(t + across), cos, sin, False, gx, gy, fall,
            )  # fmt: skip
    low_kind, low_row, low_slot, s, t, cos, sin = locate(ground, lower_x, lower_y)
    face = not is_road(low_kind)
    share = 0.5 if face else 1.0
    return Hit(
        distance + further * share, lower_x, lower_y, low_kind, low_row, low_slot, s, t, cos, sin, face, gx, gy, fall
    )


@compiled
def bury(view: View, ground: Ground, samples: Samples) -> None:
    """Finds the ground of a hilly map in each pixel, and uncovers it in the samples whose triangle lies behind it."""
    n = view.supersampling
    for row in range(view.height):
        up = (view.height / 2.0 - row - 0.5) / view.focal
        for column in range(view.width):
            right = (column + 0.5 - view.width / 2.0) / view.focal
            dx = view.fx + right * view.rx + up * view.ux
            dy = view.fy + right * view.ry + up * view.uy
            dz = view.fz + right * view.rz + up * view.uz
            kerb = ground.kerb if view.z > level_at(ground, view.x, view.y) + ground.kerb + 0.01 else 0.0
            bare = reaches(ground, view.x, view.y, view.z, dx, dy, dz, kerb, HORIZON_DISTANCE)
            samples.bare[row, column] = bare
            for j in range(row * n, row * n + n):
                for i in range(column * n, column * n + n):
                    if samples.nearness[j, i] * (bare * (1.0 + SUNK_SHARE) + SUNK) < 1.0:
                        samples.seen[j, i], samples.nearness[j, i] = -1, 1.0 / bare
