"""The shapes of cars, vans, lorries and buses, in half extents of their boxes: x forward, y right, z up."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from suites.carla.render.mesh import (
    FRONT_WHEEL,
    GLASS,
    HEADLAMP,
    LEFT_BLINKER,
    MATTE,
    PAINT,
    REAR_WHEEL,
    REVERSE_LAMP,
    RIGHT_BLINKER,
    TAILLAMP,
    Mesh,
    Rgb,
    Sculptor,
    Vec,
)  # fmt: skip

WHITE: Rgb = (1.0, 1.0, 1.0)
TRIM: Rgb = (0.09, 0.09, 0.10)
TYRE: Rgb = (0.07, 0.07, 0.075)
RIM: Rgb = (0.55, 0.56, 0.58)
WINDOW: Rgb = (0.10, 0.13, 0.16)
PLATE: Rgb = (0.92, 0.92, 0.88)
LENS: Rgb = (0.86, 0.88, 0.90)
TAIL: Rgb = (0.50, 0.05, 0.05)
AMBER: Rgb = (0.70, 0.38, 0.08)
WHEEL_CORNERS = 10
BOTTOM = -0.72  # of the body: below it there is air and wheels
EPS = 0.012  # lifts lamps and windows off the sheet they sit on


@dataclass(frozen=True)
class Shape:
    """A car's outline from the side. `line` runs along bonnet and boot from front to rear: (x, z), cabin left out.

    cabin: x of the windscreen's foot, the roof's front and rear edge and the rear window's foot; belt: z of the
    windows' lower edge; roof_y: the roof's half width; front_wheel, rear_wheel: x; wheel: radius in half heights.
    """

    line: tuple[tuple[float, float], ...]
    cabin: tuple[float, float, float, float]
    belt: float
    roof_y: float
    front_wheel: float
    rear_wheel: float
    wheel: float
    side_windows: bool = True
    pillars: tuple[float, ...] = (0.0,)


SEDAN = Shape(
    ((1.0, -0.62), (1.0, -0.22), (0.93, -0.06), (0.42, 0.12),
     (-0.72, 0.14), (-0.97, 0.06), (-1.0, -0.12), (-1.0, -0.62)),
    (0.44, 0.08, -0.42, -0.76), 0.14, 0.76, 0.60, -0.58, 0.44,
)  # fmt: skip
HATCHBACK = Shape(
    ((1.0, -0.62), (1.0, -0.20), (0.92, -0.04), (0.50, 0.12), (-0.90, 0.16), (-1.0, 0.05), (-1.0, -0.62)),
    (0.52, 0.16, -0.72, -0.96), 0.14, 0.76, 0.62, -0.62, 0.44,
)  # fmt: skip
SUV = Shape(
    ((1.0, -0.60), (1.0, -0.10), (0.94, 0.04), (0.46, 0.14), (-0.94, 0.18), (-1.0, 0.05), (-1.0, -0.60)),
    (0.48, 0.22, -0.86, -0.98), 0.16, 0.82, 0.60, -0.58, 0.43,
)  # fmt: skip
SPORTS = Shape(
    ((1.0, -0.66), (1.0, -0.34), (0.90, -0.14), (0.30, 0.10),
     (-0.80, 0.26), (-0.98, 0.24), (-1.0, -0.05), (-1.0, -0.66)),
    (0.34, -0.10, -0.40, -0.82), 0.16, 0.70, 0.62, -0.58, 0.52,
)  # fmt: skip
PICKUP = Shape(
    ((1.0, -0.58), (1.0, -0.06), (0.95, 0.06), (0.52, 0.12), (-0.16, 0.12), (-0.16, 0.02), (-1.0, 0.02), (-1.0, -0.58)),
    (0.52, 0.30, -0.10, -0.16), 0.12, 0.80, 0.64, -0.58, 0.42,
)  # fmt: skip
VAN = Shape(
    ((1.0, -0.66), (1.0, -0.24), (0.96, -0.08), (0.72, 0.06), (-1.0, 0.06), (-1.0, -0.66)),
    (0.74, 0.52, -0.97, -1.0), 0.06, 0.88, 0.68, -0.60, 0.34, False,
)  # fmt: skip


def car(shape: Shape) -> Mesh:
    """A car, van or pickup."""
    sculptor = Sculptor(inside=(0.0, 0.0, -0.2))
    _hull(sculptor, shape)
    _cabin(sculptor, shape)
    front_z, rear_z = shape.line[1][1], shape.line[-2][1]
    _lamps(sculptor, front_z, rear_z)
    _face_on(sculptor, 1.0, (0.46, front_z - 0.24), (0.46, front_z - 0.06), TRIM)
    _face_on(sculptor, 1.0, (0.24, -0.60), (0.24, -0.50), PLATE, EPS * 2)
    _face_on(sculptor, -1.0, (0.24, -0.36), (0.24, -0.24), PLATE, EPS * 2)
    for x, part in ((shape.front_wheel, FRONT_WHEEL), (shape.rear_wheel, REAR_WHEEL)):
        wheel_pair(sculptor, x, shape.wheel, part)
    return sculptor.mesh()


def truck() -> Mesh:
    """A lorry: a cab and a box body."""
    sculptor = Sculptor(inside=(0.8, 0.0, -0.2))
    sculptor.box((0.58, -0.96, -0.66), (1.0, 0.96, 0.52), WHITE, PAINT)
    sculptor.face(
        [(1.0 + EPS, -0.88, 0.0), (1.0 + EPS, 0.88, 0.0), (1.0 + EPS, 0.84, 0.44), (1.0 + EPS, -0.84, 0.44)],
        WINDOW,
        GLASS,
    )
    for y in (-0.96 - EPS, 0.96 + EPS):
        sculptor.face([(0.68, y, 0.0), (0.97, y, 0.0), (0.95, y, 0.40), (0.68, y, 0.40)], WINDOW, GLASS)
    _face_on(sculptor, 1.0, (0.80, -0.62), (0.80, -0.50), TRIM)
    sculptor.box((-1.0, -1.0, -0.46), (0.53, 1.0, 1.0), (0.86, 0.87, 0.88))
    sculptor.box((-0.98, -0.60, -0.66), (0.60, 0.60, -0.44), TRIM)
    sculptor.inside = (0.0, 0.0, 0.0)
    for y in (-1.0 - EPS, 1.0 + EPS):  # a stripe in the paint's colour
        sculptor.face([(-0.98, y, 0.05), (0.51, y, 0.05), (0.51, y, 0.32), (-0.98, y, 0.32)], WHITE, PAINT)
    _face_on(sculptor, -1.0, (0.012, -0.40), (0.012, 0.92), TRIM)
    _lamps(sculptor, -0.28, -0.42)
    for x, part in ((0.74, FRONT_WHEEL), (-0.50, REAR_WHEEL), (-0.74, REAR_WHEEL)):
        wheel_pair(sculptor, x, 0.28, part)
    return sculptor.mesh()


def bus() -> Mesh:
    """A city bus."""
    sculptor = Sculptor()
    sculptor.box((-1.0, -1.0, -0.78), (1.0, 1.0, 1.0), WHITE, PAINT)
    sculptor.face(
        [(1.0 + EPS, -0.9, -0.15), (1.0 + EPS, 0.9, -0.15), (1.0 + EPS, 0.9, 0.66), (1.0 + EPS, -0.9, 0.66)],
        WINDOW,
        GLASS,
    )
    _face_on(sculptor, 1.0, (0.6, 0.72), (0.6, 0.92), (0.95, 0.72, 0.20))
    sculptor.face(
        [(-1.0 - EPS, -0.8, 0.15), (-1.0 - EPS, 0.8, 0.15), (-1.0 - EPS, 0.8, 0.75), (-1.0 - EPS, -0.8, 0.75)],
        WINDOW,
        GLASS,
    )
    for y in (-1.0 - EPS, 1.0 + EPS):
        for k in range(6):
            x = 0.94 - k * 0.32
            sculptor.face([(x, y, 0.02), (x - 0.29, y, 0.02), (x - 0.29, y, 0.66), (x, y, 0.66)], WINDOW, GLASS)
    _lamps(sculptor, -0.45, -0.35)
    for x, part in ((0.62, FRONT_WHEEL), (-0.56, REAR_WHEEL)):
        wheel_pair(sculptor, x, 0.30, part)
    return sculptor.mesh()


def _hull(sculptor: Sculptor, shape: Shape) -> None:
    """Everything below the windows: the outline drawn out to both sides, cut off at BOTTOM."""
    for (x0, z0), (x1, z1) in zip(shape.line, shape.line[1:], strict=False):
        if abs(x0 - x1) + abs(z0 - z1) > 1e-6:
            centre_z = min(z0, z1) - 0.5
            sculptor.inside = ((x0 + x1) / 2 * 0.9, 0.0, centre_z if abs(x0 - x1) > 0.02 else (z0 + z1) / 2)
            sculptor.face([(x0, -0.97, z0), (x0, 0.97, z0), (x1, 0.97, z1), (x1, -0.97, z1)], WHITE, PAINT)
    sculptor.inside = (0.0, 0.0, -0.2)
    for y in (-0.97, 0.97):
        for (x0, z0), (x1, z1) in zip(shape.line, shape.line[1:], strict=False):
            if x0 - x1 > 0.005:
                low = min(shape.line[0][1], z0, z1)
                sculptor.face([(x0, y, low), (x1, y, low), (x1, y, z1), (x0, y, z0)], WHITE, PAINT)
        for x in (shape.front_wheel, shape.rear_wheel):
            _disc(sculptor, (x, y * 1.008, shape.wheel - 1.0), shape.wheel * 1.16, TRIM)
        sill: list[Vec] = [
            (0.98, y, BOTTOM),
            (-0.98, y, BOTTOM),
            (-1.0, y, shape.line[-1][1]),
            (1.0, y, shape.line[0][1]),
        ]
        sculptor.face(sill, TRIM)
    for x, z in (shape.line[0], shape.line[-1]):
        sculptor.face([(x, -0.97, z), (x, 0.97, z), (x * 0.98, 0.97, BOTTOM), (x * 0.98, -0.97, BOTTOM)], TRIM)


def _cabin(sculptor: Sculptor, shape: Shape) -> None:
    """Roof, pillars and glass."""
    foot, front, rear, tail = shape.cabin
    belt, roof_y, base_y = shape.belt, shape.roof_y, 0.95
    sculptor.inside = ((front + rear) / 2, 0.0, belt)
    sculptor.face(
        [(front, -roof_y, 1.0), (front, roof_y, 1.0), (rear, roof_y, 1.0), (rear, -roof_y, 1.0)], WHITE, PAINT
    )
    for x_low, x_high in ((foot, front), (tail, rear)):
        for inset, colour, material in ((1.0, WHITE, PAINT), (0.88, WINDOW, GLASS)):
            if inset < 1.0 and x_low == tail and not shape.side_windows:
                low_z, high_z, width = belt + 0.25, 0.80, 0.55  # the small rear window of a van
            else:
                rise = (1.0 - belt) * (1.0 - inset) * 0.6
                low_z, high_z, width = belt + rise, 1.0 - rise, inset
            corners: list[Vec] = []
            for z, sign in ((low_z, -1.0), (low_z, 1.0), (high_z, 1.0), (high_z, -1.0)):
                share = (z - belt) / (1.0 - belt)
                lift = math.copysign(EPS, x_low - (front + rear) / 2) if inset < 1.0 else 0.0
                corners.append(
                    (x_low + share * (x_high - x_low) + lift, sign * width * (base_y + share * (roof_y - base_y)), z)
                )
            sculptor.face(corners, colour, material)
    for side in (-1.0, 1.0):
        sculptor.face(_side(shape, side, 0.0, foot, tail, 0.0), WHITE, PAINT)
        if shape.side_windows:
            borders = [foot, *shape.pillars, tail]
            for a, b in itertools.pairwise(borders):
                sculptor.face(_side(shape, side, EPS, a, b, 0.03), WINDOW, GLASS)
        else:
            sculptor.face(_side(shape, side, EPS, foot, 0.30, 0.03), WINDOW, GLASS)


def _side(shape: Shape, side: float, lift: float, start: float, end: float, gap: float) -> list[Vec]:
    """The part of a cabin's side between two x at the belt, shrunk by `gap`."""
    foot, front, rear, tail = shape.cabin
    inset = 0.10 if gap else 0.0
    low_z, high_z = shape.belt + inset * 0.4 * (1 - shape.belt), 1.0 - inset * (1 - shape.belt)
    corners: list[Vec] = []
    for z, x, inward in ((low_z, start, -gap), (low_z, end, gap), (high_z, end, gap), (high_z, start, -gap)):
        share = (z - shape.belt) / (1.0 - shape.belt)
        leaning = x
        if x == foot:
            leaning = foot + share * (front - foot)
        elif x == tail:
            leaning = tail + share * (rear - tail)
        corners.append((leaning + inward, side * (0.95 + share * (shape.roof_y - 0.95) + lift), z))
    return corners


def _lamps(sculptor: Sculptor, front_z: float, rear_z: float) -> None:
    sculptor.inside = (0.0, 0.0, 0.0)
    for side in (-1.0, 1.0):
        blinker = LEFT_BLINKER if side < 0 else RIGHT_BLINKER
        _patch(sculptor, 1.0, side * 0.54, side * 0.84, front_z - 0.20, front_z - 0.03, LENS, HEADLAMP)
        _patch(sculptor, 1.0, side * 0.85, side * 0.95, front_z - 0.20, front_z - 0.03, AMBER, blinker)
        _patch(sculptor, -1.0, side * 0.64, side * 0.94, rear_z - 0.24, rear_z - 0.03, TAIL, TAILLAMP)
        _patch(sculptor, -1.0, side * 0.52, side * 0.63, rear_z - 0.24, rear_z - 0.14, LENS, REVERSE_LAMP)
        _patch(sculptor, -1.0, side * 0.52, side * 0.63, rear_z - 0.13, rear_z - 0.03, AMBER, blinker)


def _patch(
    sculptor: Sculptor, end: float, y0: float, y1: float, z0: float, z1: float, colour: Rgb, material: int
) -> None:
    x = end + math.copysign(EPS, end)
    sculptor.face([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], colour, material)


def _face_on(
    sculptor: Sculptor, end: float, low: tuple[float, float], high: tuple[float, float], colour: Rgb, lift: float = EPS
) -> None:
    """A dull patch in the middle of the front or rear: (half width, z) of its lower and upper edge."""
    sculptor.inside = (0.0, 0.0, 0.0)
    x = end + math.copysign(lift, end)
    sculptor.face([(x, -low[0], low[1]), (x, low[0], low[1]), (x, high[0], high[1]), (x, -high[0], high[1])], colour)


def _disc(sculptor: Sculptor, hub: Vec, radius: float, colour: Rgb) -> None:
    """A flat disc on the side of the body, round in metres."""
    corners = [(radius * math.cos(a), 0.0, max(radius * math.sin(a), -0.5 * radius)) for a in _angles()]
    side = math.copysign(1.0, hub[1])
    sculptor.limb(hub, corners, (0.0, -side, 0.0), colour, MATTE, 0)


def wheel_pair(sculptor: Sculptor, x: float, radius: float, part: int) -> None:
    """The wheels of an axle, standing on the ground."""
    for side in (-1.0, 1.0):
        wheel(sculptor, (x, side * 0.99, radius - 1.0), radius, -side * 0.30, part)


def wheel(sculptor: Sculptor, hub: Vec, radius: float, depth: float, part: int) -> None:
    """One wheel: tyre, tread `depth` half heights towards the middle, and a five-sided rim that shows it turn."""
    angles = _angles()
    outer = [(radius * math.cos(a), 0.0, radius * math.sin(a)) for a in angles]
    inside = (0.0, depth, 0.0)
    sculptor.limb(hub, outer, inside, TYRE, MATTE, part)
    rim = [
        (radius * 0.60 * math.cos(a), -math.copysign(0.012, depth), radius * 0.60 * math.sin(a))
        for a in (2 * math.pi * k / 5 for k in range(5))
    ]
    sculptor.limb(hub, rim, inside, RIM, MATTE, part)
    for a, b in zip(outer, [*outer[1:], outer[0]], strict=True):
        tread: list[Vec] = [a, b, (b[0], depth, b[2]), (a[0], depth, a[2])]
        sculptor.limb(hub, tread, (0.0, depth / 2, 0.0), TYRE, MATTE, part)


def _angles() -> list[float]:
    return [2 * math.pi * k / WHEEL_CORNERS for k in range(WHEEL_CORNERS)]
