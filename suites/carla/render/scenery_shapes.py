"""What stands beside the roads, as triangles in metres around its foot: trees, lamps, houses, barriers, signs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from suites.carla.render.mesh import LAMP, LEAF, MATTE, WALL, Mesh, Rgb, Sculptor, Vec

TAG_BUILDING, TAG_FENCE, TAG_POLE, TAG_SIGN, TAG_VEGETATION, TAG_GUARD_RAIL = 3, 5, 6, 8, 9, 28
BARK: Rgb = (0.30, 0.23, 0.16)
STEEL: Rgb = (0.58, 0.60, 0.62)
LAMP_HEIGHT = 7.0  # metres
LAMP_ARM = 1.6  # metres from the pole to the head, along the lamp's x axis


def _scaled(colour: Rgb, factor: float) -> Rgb:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _tinted(colour: Rgb, rng: np.random.Generator) -> Rgb:
    """A little lighter or darker, and a little warmer."""
    red, green, blue = _scaled(colour, float(rng.uniform(0.85, 1.2)))
    return red * float(rng.uniform(0.9, 1.25)), green, blue


@cache
def broadleaf(variant: int, detailed: bool) -> Mesh:
    """A tree of about 8 m: a trunk and a crown of uneven balls."""
    rng = np.random.default_rng(100 + variant)
    sculptor = Sculptor(tag=TAG_VEGETATION)
    sculptor.box((-0.16, -0.16, 0.0), (0.16, 0.16, 3.2), BARK, MATTE, taper=0.7)
    green = _tinted((0.22, 0.33, 0.12), rng)
    if not detailed:
        _lathe(sculptor, ((2.5, 0.0), (3.4, 2.0), (5.3, 2.8), (7.0, 1.8), (7.9, 0.0)), green)
        return sculptor.mesh()
    sculptor.ball((0.0, 0.0, 5.2), (2.5, 2.5, 2.6), green, LEAF)
    for _ in range(3):
        angle, out = rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 1.5)
        size = rng.uniform(1.3, 1.8)
        middle = (out * math.cos(angle), out * math.sin(angle), rng.uniform(4.2, 6.4))
        sculptor.ball(middle, (size, size, size * 0.9), _tinted(green, rng), LEAF)
    return sculptor.mesh()


@cache
def conifer(variant: int, detailed: bool) -> Mesh:
    """A fir of about 9 m."""
    rng = np.random.default_rng(200 + variant)
    sculptor = Sculptor(tag=TAG_VEGETATION)
    sculptor.box((-0.14, -0.14, 0.0), (0.14, 0.14, 1.6), BARK)
    green = _tinted((0.13, 0.26, 0.14), rng)
    if detailed:
        for low, radius, high in ((1.2, 2.1, 4.6), (3.2, 1.7, 6.6), (5.4, 1.2, 9.0)):
            _lathe(sculptor, ((low - 0.1, 0.0), (low, radius), (high, 0.0)), green)
    else:
        _lathe(sculptor, ((1.1, 0.0), (1.2, 2.0), (9.0, 0.0)), green)
    return sculptor.mesh()


def _lathe(sculptor: Sculptor, outline: Sequence[tuple[float, float]], colour: Rgb) -> None:
    """A seven-sided turned shape of foliage: (z, radius) from its foot to its tip."""
    angles = [2 * math.pi * k / 7 for k in range(7)]
    sculptor.inside = (0.0, 0.0, (outline[0][0] + outline[-1][0]) / 2)
    for (low, low_radius), (high, high_radius) in itertools.pairwise(outline):
        for a, b in zip(angles, [*angles[1:], angles[0]], strict=True):
            corners = [_on_ring(low_radius, a, low), _on_ring(low_radius, b, low), _on_ring(high_radius, b, high)]
            if low_radius > 0.0:
                sculptor.face(corners, colour, LEAF)
            if high_radius > 0.0:
                sculptor.face([corners[0], corners[2], _on_ring(high_radius, a, high)], colour, LEAF)


def _on_ring(radius: float, angle: float, z: float) -> Vec:
    return radius * math.cos(angle), radius * math.sin(angle), z


@cache
def bush(variant: int) -> Mesh:
    """A bush of about one metre."""
    rng = np.random.default_rng(300 + variant)
    sculptor = Sculptor(tag=TAG_VEGETATION)
    green = _tinted((0.18, 0.31, 0.12), rng)
    sculptor.ball((0.0, 0.0, 0.5), (0.8, 0.7, 0.6), green, LEAF)
    return sculptor.mesh()


@lru_cache(maxsize=1)
def street_lamp() -> Mesh:
    """A lamp post whose arm reaches along x."""
    sculptor = Sculptor(tag=TAG_POLE)
    sculptor.box((-0.08, -0.08, 0.0), (0.08, 0.08, LAMP_HEIGHT), (0.36, 0.38, 0.39), taper=0.6)
    sculptor.box((0.0, -0.04, LAMP_HEIGHT - 0.06), (LAMP_ARM, 0.04, LAMP_HEIGHT + 0.02), (0.36, 0.38, 0.39))
    sculptor.box(
        (LAMP_ARM - 0.35, -0.14, LAMP_HEIGHT - 0.14),
        (LAMP_ARM + 0.3, 0.14, LAMP_HEIGHT - 0.04),
        (0.80, 0.80, 0.76),
        LAMP,
    )
    return sculptor.mesh()


def house(width: float, depth: float, storeys: int, wall: Rgb, roof: Rgb, pitched: bool) -> Mesh:
    """A house around the origin: `width` along x, `depth` along y; flat or with a pitched roof."""
    sculptor = Sculptor(tag=TAG_BUILDING)
    x, y, top = width / 2, depth / 2, storeys * 3.3 + (0.2 if pitched else 0.7)
    corners = ((-x, -y), (x, -y), (x, y), (-x, y))
    sculptor.inside = (0.0, 0.0, top / 2)
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        sculptor.face([(ax, ay, 0.0), (bx, by, 0.0), (bx, by, top), (ax, ay, top)], wall, WALL)
    if pitched:
        ridge, over = top + depth * 0.32, 0.4
        for side in (-1.0, 1.0):
            eave = [(-x - over, side * (y + over), top - 0.2), (x + over, side * (y + over), top - 0.2)]
            sculptor.face([*eave, (x + over, 0.0, ridge), (-x - over, 0.0, ridge)], roof)
            sculptor.face([(side * x, -y, top), (side * x, y, top), (side * x, 0.0, ridge)], wall)
        sculptor.box((x * 0.4, -y * 0.3, ridge - 1.2), (x * 0.4 + 0.7, -y * 0.3 + 0.7, ridge + 0.5), (0.45, 0.28, 0.22))
    else:
        sculptor.face([(cx, cy, top) for cx, cy in corners], roof)
        sculptor.box((-x * 0.5, -y * 0.5, top), (-x * 0.1, -y * 0.1, top + 1.6), _scaled(wall, 0.8))
    return sculptor.mesh()


def rail(points: list[Vec]) -> Mesh:
    """A crash barrier along points at ground height, seen from both sides, with a post at each point."""
    sculptor = Sculptor(tag=TAG_GUARD_RAIL)
    for a, b in itertools.pairwise(points):
        for low, high, tone in ((0.48, 0.60, 0.80), (0.60, 0.66, 1.12), (0.66, 0.80, 0.95)):
            band = [
                (a[0], a[1], a[2] + low),
                (b[0], b[1], b[2] + low),
                (b[0], b[1], b[2] + high),
                (a[0], a[1], a[2] + high),
            ]
            colour = _scaled(STEEL, tone)
            for side in (-100.0, 100.0):
                sculptor.inside = (a[0] - side * (b[1] - a[1]), a[1] + side * (b[0] - a[0]), a[2] + 0.6)
                sculptor.face(band, colour)
    for x, y, z in points[:-1]:
        sculptor.box((x - 0.06, y - 0.06, z), (x + 0.06, y + 0.06, z + 0.62), (0.45, 0.46, 0.47))
    return sculptor.mesh()


@lru_cache(maxsize=4)
def gantry(half_span: float) -> Mesh:
    """A sign gantry across y; its boards face backwards along x, towards the traffic."""
    sculptor = Sculptor(tag=TAG_SIGN)
    for y in (-half_span, half_span):
        sculptor.box((-0.18, y - 0.18, 0.0), (0.18, y + 0.18, 6.9), STEEL)
    sculptor.box((-0.15, -half_span, 6.4), (0.15, half_span, 6.9), STEEL)
    for y in (-half_span * 0.48, half_span * 0.30):
        sculptor.box((-0.32, y - 2.6, 5.4), (-0.18, y + 2.6, 7.9), (0.90, 0.92, 0.92))
        sculptor.box((-0.36, y - 2.48, 5.52), (-0.30, y + 2.48, 7.78), (0.08, 0.32, 0.22))
        for z, half in ((7.1, 1.7), (6.3, 1.2)):
            sculptor.box((-0.39, y - half, z - 0.14), (-0.35, y + half, z + 0.14), (0.90, 0.92, 0.92))
    return sculptor.mesh()
