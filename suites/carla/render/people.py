"""The shapes of pedestrians and riders, in half extents of their boxes: x forward, y right, z up."""

from __future__ import annotations

from suites.carla.render.mesh import (
    CLOTHES,
    FRONT_WHEEL,
    HEADLAMP,
    LEFT_LEG,
    MATTE,
    PAINT,
    REAR_WHEEL,
    RIGHT_LEG,
    TAILLAMP,
    Mesh,
    Rgb,
    Sculptor,
    Vec,
)
from suites.carla.render.vehicles import LENS, TAIL, TRIM, WHITE, wheel

SKIN: Rgb = (0.80, 0.60, 0.48)
HAIR: Rgb = (0.20, 0.14, 0.10)
TROUSERS: Rgb = (0.20, 0.22, 0.30)
SHOES: Rgb = (0.12, 0.10, 0.10)
RIDER = 13  # CARLA's semantic tag
FRAME: tuple[tuple[Vec, Vec], ...] = (  # the bars of a bicycle
    ((-0.62, -0.05, -0.62), (0.0, 0.05, -0.56)), ((-0.05, -0.05, -0.62), (0.03, 0.05, -0.02)),
    ((-0.02, -0.05, -0.20), (0.50, 0.05, -0.14)), ((0.46, -0.05, -0.62), (0.54, 0.05, 0.06)),
)  # fmt: skip


def adult() -> Mesh:
    """A grown person on foot."""
    return _person(hip=0.0, shoulder=0.62, head=0.13)


def child() -> Mesh:
    """A child: a larger head on a shorter body."""
    return _person(hip=-0.10, shoulder=0.46, head=0.19)


def _person(hip: float, shoulder: float, head: float) -> Mesh:
    sculptor = Sculptor()
    sculptor.box((-0.42, -0.62, hip - 0.04), (0.42, 0.62, shoulder), WHITE, CLOTHES, taper=1.12)
    neck = 1.0 - 2 * head
    sculptor.box((-0.15, -0.15, shoulder), (0.15, 0.15, neck + 0.04), SKIN)
    # The head is round in metres: its radii across are in half widths, which are about a quarter of the half height.
    sculptor.ball((0.02, 0.0, 1.0 - head), (head * 3.0, head * 3.0, head), SKIN)
    sculptor.ball((-0.16, 0.0, 1.0 - head * 0.62), (head * 2.6, head * 3.1, head * 0.62), HAIR)
    for side, leg, arm in ((1.0, RIGHT_LEG, LEFT_LEG), (-1.0, LEFT_LEG, RIGHT_LEG)):
        down = -1.0 - hip
        at: Vec = (0.0, side * 0.32, hip)
        sculptor.limb_box(at, (-0.075, -0.065, down + 0.06), (0.075, 0.065, 0.0), TROUSERS, MATTE, leg)
        sculptor.limb_box(at, (-0.08, -0.06, down), (0.14, 0.06, down + 0.07), SHOES, MATTE, leg)
        at = (0.0, side * 0.78, shoulder - 0.03)
        sculptor.limb_box(at, (-0.055, -0.05, -0.44), (0.055, 0.05, 0.0), WHITE, CLOTHES, arm)
        sculptor.limb_box(at, (-0.045, -0.04, -0.58), (0.045, 0.04, -0.44), SKIN, MATTE, arm)
    return sculptor.mesh()


def motorbike() -> Mesh:
    """A motorbike and its rider."""
    sculptor = Sculptor()
    wheels = ((0.68, FRONT_WHEEL), (-0.66, REAR_WHEEL))
    for x, part in wheels:
        _narrow_wheel(sculptor, x, 0.40, 0.09, part)
    sculptor.box((-0.62, -0.26, -0.52), (0.42, 0.26, -0.16), TRIM)
    sculptor.box((-0.05, -0.32, -0.18), (0.48, 0.32, 0.08), WHITE, PAINT, taper=0.8)
    sculptor.box((-0.86, -0.24, -0.16), (-0.05, 0.24, 0.0), TRIM)
    sculptor.box((0.48, -0.30, -0.35), (0.66, 0.30, 0.22), WHITE, PAINT, taper=0.7)
    sculptor.box((0.36, -0.92, 0.16), (0.44, 0.92, 0.22), TRIM)
    sculptor.inside = (0.0, 0.0, 0.0)
    sculptor.face([(0.68, -0.2, -0.1), (0.68, 0.2, -0.1), (0.66, 0.2, 0.1), (0.66, -0.2, 0.1)], LENS, HEADLAMP)
    sculptor.face(
        [(-0.88, -0.2, -0.14), (-0.88, 0.2, -0.14), (-0.88, 0.2, -0.02), (-0.88, -0.2, -0.02)], TAIL, TAILLAMP
    )
    _rider(sculptor, seat=0.0, x=-0.30, reach=0.36, helmet=WHITE)
    return sculptor.mesh()


def bicycle() -> Mesh:
    """A bicycle and its rider."""
    sculptor = Sculptor()
    for x, part in ((0.62, FRONT_WHEEL), (-0.62, REAR_WHEEL)):
        _narrow_wheel(sculptor, x, 0.40, 0.03, part)
    for low, high in FRAME:
        sculptor.box(low, high, WHITE, PAINT)
    sculptor.box((-0.18, -0.2, -0.02), (0.10, 0.2, 0.04), TRIM)
    sculptor.box((0.42, -0.95, 0.04), (0.50, 0.95, 0.09), TRIM)
    _rider(sculptor, seat=0.04, x=-0.08, reach=0.42, helmet=(0.85, 0.80, 0.20))
    return sculptor.mesh()


def _narrow_wheel(sculptor: Sculptor, x: float, radius: float, width: float, part: int) -> None:
    for side in (-1.0, 1.0):
        hub: Vec = (x, side * 0.01, radius - 1.0)
        wheel(sculptor, hub, radius, -side * width, part)


def _rider(sculptor: Sculptor, seat: float, x: float, reach: float, helmet: Rgb) -> None:
    """A person who sits at x and holds the bar at `reach`."""
    sculptor.tag = RIDER
    top = 0.66
    sculptor.inside = (x + 0.08, 0.0, (seat + top) / 2)
    low = [(x - 0.13, -0.42), (x - 0.13, 0.42), (x + 0.10, 0.42), (x + 0.10, -0.42)]
    high = [(x + 0.02, -0.55), (x + 0.02, 0.55), (x + 0.24, 0.55), (x + 0.24, -0.55)]
    for i in range(4):
        j = (i + 1) % 4
        sculptor.face([(*low[i], seat), (*low[j], seat), (*high[j], top), (*high[i], top)], WHITE, CLOTHES)
    sculptor.face([(*corner, top) for corner in high], WHITE, CLOTHES)
    sculptor.ball((x + 0.18, 0.0, 0.84), (0.12, 0.42, 0.16), helmet)
    sculptor.ball((x + 0.24, 0.0, 0.79), (0.08, 0.30, 0.11), SKIN)
    for side in (-1.0, 1.0):
        sculptor.box((x - 0.05, side * 0.50 - 0.16, seat - 0.46), (x + 0.10, side * 0.50 + 0.16, seat + 0.02), TROUSERS)
        sculptor.box((x + 0.05, side * 0.50 - 0.16, seat - 0.14), (x + 0.30, side * 0.50 + 0.16, seat + 0.02), TROUSERS)
        shoulder, hand = (x + 0.14, side * 0.62, top - 0.04), (reach, side * 0.80, 0.14)
        _arm(sculptor, shoulder, hand)
    sculptor.tag = 0


def _arm(sculptor: Sculptor, a: Vec, b: Vec) -> None:
    sculptor.inside = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)
    ring = ((0.0, 0.09, 0.05), (0.0, -0.09, 0.05), (0.0, -0.09, -0.05), (0.0, 0.09, -0.05))
    for p, q in zip(ring, (*ring[1:], ring[0]), strict=True):
        corners = [(u[0] + v[0], u[1] + v[1], u[2] + v[2]) for u, v in ((a, p), (a, q), (b, q), (b, p))]
        sculptor.face(corners, WHITE, CLOTHES)
