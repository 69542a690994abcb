"""Triangles, and the materials they are made of; the shapes of actors and scenery are put together from these."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vec = tuple[float, float, float]
Rgb = tuple[float, float, float]

# Materials: how a triangle's colour comes about.
MATTE, PAINT, GLASS, HEADLAMP, TAILLAMP, LEFT_BLINKER, RIGHT_BLINKER, REVERSE_LAMP = 0, 1, 2, 3, 4, 5, 6, 7
WALL, LEAF, LAMP, RED, YELLOW, GREEN, CLOTHES = 8, 9, 10, 11, 12, 13, 14
# Parts that move: they turn about their anchor.
BODY, FRONT_WHEEL, REAR_WHEEL, RIGHT_LEG, LEFT_LEG = 0, 1, 2, 3, 4
OWN_TAG = 0  # the triangle carries its actor's semantic tag


class Mesh(NamedTuple):
    """T triangles. A vertex is `anchor` (in half extents of the box) plus `offset` (in half heights of the box).

    anchor, offset: float32 (T, 3, 3); colour: float32 (T, 3); material, part, tag: uint8 (T,).
    """

    anchor: NDArray[np.float32]
    offset: NDArray[np.float32]
    colour: NDArray[np.float32]
    material: NDArray[np.uint8]
    part: NDArray[np.uint8]
    tag: NDArray[np.uint8]


@dataclass
class Sculptor:
    """Collects faces. Each face is turned so that it faces away from `inside`, a point in the same units."""

    inside: Vec = (0.0, 0.0, 0.0)
    tag: int = OWN_TAG
    _anchor: list[tuple[Vec, Vec, Vec]] = field(default_factory=list)
    _offset: list[tuple[Vec, Vec, Vec]] = field(default_factory=list)
    _look: list[tuple[Rgb, int, int, int]] = field(default_factory=list)

    def face(self, corners: Sequence[Vec], colour: Rgb, material: int = MATTE) -> None:
        """A flat convex face of the body."""
        corners = self._outward(corners)
        for b, c in itertools.pairwise(corners[1:]):
            self._add((corners[0], b, c), ((0.0, 0.0, 0.0),) * 3, colour, material, BODY)

    def limb(self, anchor: Vec, corners: Sequence[Vec], inside: Vec, colour: Rgb, material: int, part: int) -> None:
        """A flat convex face of a part that turns about `anchor`; corners and `inside` are relative to it."""
        here, self.inside = self.inside, inside
        corners = self._outward(corners)
        self.inside = here
        for b, c in itertools.pairwise(corners[1:]):
            self._add((anchor,) * 3, (corners[0], b, c), colour, material, part)

    def box(self, low: Vec, high: Vec, colour: Rgb, material: int = MATTE, taper: float = 1.0) -> None:
        """An upright box; its top is `taper` times as wide and as long as its bottom."""
        for corners in _box_faces(low, high, taper):
            centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
            here, self.inside = self.inside, (centre[0], centre[1], centre[2])
            self.face(corners, colour, material)
            self.inside = here

    def limb_box(self, anchor: Vec, low: Vec, high: Vec, colour: Rgb, material: int, part: int) -> None:
        """A box that turns about `anchor`."""
        middle = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2)
        for corners in _box_faces(low, high, 1.0):
            self.limb(anchor, corners, middle, colour, material, part)

    def ball(self, centre: Vec, radius: Vec, colour: Rgb, material: int = MATTE) -> None:
        """An octahedron with its edges cut once: 32 faces."""
        here, self.inside = self.inside, centre
        (cx, cy, cz), (rx, ry, rz) = centre, radius
        for triangle in _ball_faces():
            self.face([(cx + rx * x, cy + ry * y, cz + rz * z) for x, y, z in triangle], colour, material)
        self.inside = here

    def mesh(self) -> Mesh:
        colour, material, part, tag = zip(*self._look, strict=True)
        return Mesh(
            np.array(self._anchor, np.float32),
            np.array(self._offset, np.float32),
            np.array(colour, np.float32),
            np.array(material, np.uint8),
            np.array(part, np.uint8),
            np.array(tag, np.uint8),
        )

    def _add(
        self, anchor: tuple[Vec, Vec, Vec], offset: tuple[Vec, Vec, Vec], colour: Rgb, material: int, part: int
    ) -> None:
        self._anchor.append(anchor)
        self._offset.append(offset)
        self._look.append((colour, material, part, self.tag))

    def _outward(self, corners: Sequence[Vec]) -> Sequence[Vec]:
        """The corners in the order whose normal, (b - a) x (c - a), points away from `inside`."""
        nx = ny = nz = mx = my = mz = 0.0  # Newell's normal, and the sum of the corners
        for (ax, ay, az), (bx, by, bz) in zip(corners, (*corners[1:], corners[0]), strict=True):
            nx += (ay - by) * (az + bz)
            ny += (az - bz) * (ax + bx)
            nz += (ax - bx) * (ay + by)
            mx, my, mz = mx + ax, my + ay, mz + az
        x, y, z = self.inside
        count = len(corners)
        outward = nx * (mx / count - x) + ny * (my / count - y) + nz * (mz / count - z)
        return corners if outward >= 0.0 else corners[::-1]


def _box_faces(low: Vec, high: Vec, taper: float) -> list[list[Vec]]:
    (x0, y0, z0), (x1, y1, z1) = low, high
    mx, my = (x0 + x1) / 2, (y0 + y1) / 2
    bottom: list[Vec] = [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]
    top: list[Vec] = [(mx + (x - mx) * taper, my + (y - my) * taper, z1) for x, y, _ in bottom]
    sides = [[bottom[i], bottom[(i + 1) % 4], top[(i + 1) % 4], top[i]] for i in range(4)]
    return [*sides, top, bottom]


def _ball_faces() -> list[tuple[Vec, Vec, Vec]]:
    faces: list[tuple[Vec, Vec, Vec]] = []
    for x in (-1.0, 1.0):
        for y in (-1.0, 1.0):
            for z in (-1.0, 1.0):
                a, b, c = (x, 0.0, 0.0), (0.0, y, 0.0), (0.0, 0.0, z)
                ab, bc, ca = _unit(a, b), _unit(b, c), _unit(c, a)
                faces += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return faces


def _unit(a: Vec, b: Vec) -> Vec:
    x, y, z = ((p + q) * 0.70710678 for p, q in zip(a, b, strict=True))
    return x, y, z
