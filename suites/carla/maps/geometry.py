"""Reference lines: the curves that OpenDRIVE's `planView` is made of, in OpenDRIVE's right-handed frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Gauss-Legendre nodes on [-1, 1]: with 8 of them on each piece of a clothoid the error is below a nanometre.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
SPIRAL_PIECE = 10.0  # metres integrated at once


@dataclass(frozen=True)
class Line:
    length: float

    def local(self, ds: Floats) -> tuple[Floats, Floats, Floats]:
        return ds, np.zeros_like(ds), np.zeros_like(ds)


@dataclass(frozen=True)
class Arc:
    length: float
    curvature: float

    def local(self, ds: Floats) -> tuple[Floats, Floats, Floats]:
        if abs(self.curvature) < 1e-12:
            return Line(self.length).local(ds)
        turned = ds * self.curvature
        return np.sin(turned) / self.curvature, (1.0 - np.cos(turned)) / self.curvature, turned


@dataclass(frozen=True)
class Spiral:
    """A clothoid: curvature changes linearly from `start` to `end` (1/m)."""

    length: float
    start: float
    end: float

    def local(self, ds: Floats) -> tuple[Floats, Floats, Floats]:
        knots = np.linspace(0.0, self.length, max(1, math.ceil(self.length / SPIRAL_PIECE)) + 1)
        at_knots = np.concatenate([[0.0], np.cumsum(self._integral(knots[:-1], knots[1:]))])
        piece = np.clip(np.searchsorted(knots, ds, side="right") - 1, 0, len(knots) - 2)
        position = at_knots[piece] + self._integral(knots[piece], ds)
        return position.real, position.imag, ds * (self.start + self._rate * ds / 2.0)

    @property
    def _rate(self) -> float:
        return (self.end - self.start) / self.length

    def _integral(self, a: Floats, b: Floats) -> NDArray[np.complex128]:
        """The displacement (x + iy) from each `a` to each `b`."""
        half = (b - a) / 2.0
        s = ((a + b) / 2.0)[:, None] + half[:, None] * _NODES
        unit: NDArray[np.complex128] = np.exp(1j * s * (self.start + self._rate * s / 2.0))
        return (unit @ _WEIGHTS) * half


@dataclass(frozen=True)
class Poly3:
    """`v = a + b u + c u^2 + d u^3` in the local frame; the length is counted along the curve."""

    length: float
    a: float
    b: float
    c: float
    d: float

    def local(self, ds: Floats) -> tuple[Floats, Floats, Floats]:
        grid = np.linspace(0.0, self.length, max(2, math.ceil(self.length * 20)) + 1)  # u never exceeds the length
        slope = self.b + grid * (2 * self.c + grid * 3 * self.d)
        speed = np.sqrt(1.0 + slope * slope)
        travelled = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2.0 * np.diff(grid))])
        u = np.interp(ds, travelled, grid)
        v = self.a + u * (self.b + u * (self.c + u * self.d))
        return u, v, np.arctan(self.b + u * (2 * self.c + u * 3 * self.d))


@dataclass(frozen=True)
class ParamPoly3:
    """Cubics u(p) and v(p); p runs to 1 (`normalized`) or to the length (`arcLength`)."""

    length: float
    u: tuple[float, float, float, float]
    v: tuple[float, float, float, float]
    normalized: bool

    def local(self, ds: Floats) -> tuple[Floats, Floats, Floats]:
        p = ds / self.length if self.normalized else ds
        (au, bu, cu, du), (av, bv, cv, dv) = self.u, self.v
        x, y = au + p * (bu + p * (cu + p * du)), av + p * (bv + p * (cv + p * dv))
        return x, y, np.arctan2(bv + p * (2 * cv + p * 3 * dv), bu + p * (2 * cu + p * 3 * du))


Geometry = Line | Arc | Spiral | Poly3 | ParamPoly3


@dataclass(frozen=True)
class Placed:
    """A curve at its place: it begins at road coordinate `s`, at (x, y) with that heading in radians."""

    s: float
    x: float
    y: float
    heading: float
    curve: Geometry

    def at(self, s: Floats) -> Floats:
        """(N, 3): x, y, heading at the road coordinates `s`."""
        u, v, turned = self.curve.local(np.asarray(s, np.float64) - self.s)
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return np.stack([self.x + u * cos - v * sin, self.y + u * sin + v * cos, self.heading + turned], axis=-1)


def advance(pose: tuple[float, float, float], curve: Geometry) -> tuple[float, float, float]:
    """The pose at the end of a curve that begins at `pose`."""
    x, y, heading = Placed(0.0, *pose, curve).at(np.array([curve.length]))[0]
    return float(x), float(y), float(heading)


def biarc(start: tuple[float, float, float], end: tuple[float, float, float]) -> list[Geometry]:
    """Two arcs (or one line) that join two poses smoothly."""
    delta = complex(end[0] - start[0], end[1] - start[1])
    first, last = complex(math.cos(start[2]), math.sin(start[2])), complex(math.cos(end[2]), math.sin(end[2]))
    tangents = first + last
    along = (delta * tangents.conjugate()).real
    denominator = 2.0 * (1.0 - (first * last.conjugate()).real)
    squared = abs(delta) ** 2
    if denominator < 1e-12:  # equal headings: both arcs turn by the same amount
        arm = squared / (4.0 * (delta * last.conjugate()).real)
    else:
        arm = (-along + math.sqrt(along * along + denominator * squared)) / denominator
    middle = (complex(*start[:2]) + complex(*end[:2]) + arm * (first - last)) / 2.0
    return [_arc_to(complex(*start[:2]), first, middle), _arc_to(complex(*end[:2]), -last, middle, backwards=True)]


def _arc_to(origin: complex, heading: complex, target: complex, backwards: bool = False) -> Geometry:
    chord = (target - origin) * heading.conjugate()
    if abs(chord.imag) < 1e-9 * abs(chord):
        return Line(abs(chord))
    curvature = 2.0 * chord.imag / abs(chord) ** 2
    length = 2.0 * math.atan2(chord.imag, chord.real) / curvature
    return Arc(length, -curvature if backwards else curvature)
