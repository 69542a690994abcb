"""All shapes of actors in one table, in the order of `Look`."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.render import people, vehicles
from suites.carla.render.mesh import GREEN, PAINT, RED, YELLOW, Mesh, Rgb, Sculptor
from suites.carla.render.scene import Look

METAL: Rgb = (0.22, 0.24, 0.25)
WHITE: Rgb = (1.0, 1.0, 1.0)


class Shapes(NamedTuple):
    """The meshes of all looks; those of look k are `first[k] : first[k + 1]`. Arrays as in `Mesh`."""

    first: NDArray[np.int32]
    anchor: NDArray[np.float32]
    offset: NDArray[np.float32]
    colour: NDArray[np.float32]
    material: NDArray[np.uint8]
    part: NDArray[np.uint8]
    tag: NDArray[np.uint8]


@lru_cache(maxsize=1)
def shapes() -> Shapes:
    """The table; built once per process."""
    by_look = {
        Look.SEDAN: vehicles.car(vehicles.SEDAN),
        Look.HATCHBACK: vehicles.car(vehicles.HATCHBACK),
        Look.SUV: vehicles.car(vehicles.SUV),
        Look.SPORTS: vehicles.car(vehicles.SPORTS),
        Look.PICKUP: vehicles.car(vehicles.PICKUP),
        Look.VAN: vehicles.car(vehicles.VAN),
        Look.TRUCK: vehicles.truck(),
        Look.BUS: vehicles.bus(),
        Look.MOTORBIKE: people.motorbike(),
        Look.BICYCLE: people.bicycle(),
        Look.ADULT: people.adult(),
        Look.CHILD: people.child(),
        Look.TRAFFIC_LIGHT: _traffic_light(),
        Look.BOX: _box(),
        Look.CONE: _cone(),
    }
    meshes = [by_look[look] for look in Look]
    counts = [len(mesh.part) for mesh in meshes]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Shapes(first, *(np.concatenate(arrays) for arrays in zip(*meshes, strict=True)))


def _traffic_light() -> Mesh:
    """A pole that carries three lamps, which face backwards: towards those who drive along its x axis."""
    sculptor = Sculptor()
    sculptor.box((0.30, -0.16, -1.0), (0.70, 0.16, 0.833), METAL)
    sculptor.box((-0.7, -0.95, 0.807), (0.3, 0.95, 1.0), (0.10, 0.11, 0.11))
    sculptor.inside = (0.0, 0.0, 0.9)
    for z, colour, material in (
        (0.967, (0.30, 0.06, 0.06), RED),
        (0.903, (0.30, 0.22, 0.05), YELLOW),
        (0.840, (0.05, 0.26, 0.10), GREEN),
    ):
        corners = [(-0.72, 0.55 * y, z + 0.023 * dz) for y, dz in _ring()]
        sculptor.face([(x, y, w) for x, y, w in corners], colour, material)
    return sculptor.mesh()


def _ring() -> list[tuple[float, float]]:
    angles = np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False)
    return [(float(np.cos(a)), float(np.sin(a))) for a in angles]


def _box() -> Mesh:
    sculptor = Sculptor()
    sculptor.box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), WHITE, PAINT)
    return sculptor.mesh()


def _cone() -> Mesh:
    sculptor = Sculptor()
    sculptor.box((-1.0, -1.0, -1.0), (1.0, 1.0, -0.9), (0.15, 0.15, 0.15))
    sculptor.box((-0.7, -0.7, -0.9), (0.7, 0.7, 0.0), (0.95, 0.40, 0.10), taper=0.62)
    sculptor.box((-0.43, -0.43, 0.0), (0.43, 0.43, 0.4), (0.92, 0.92, 0.92), taper=0.72)
    sculptor.box((-0.31, -0.31, 0.4), (0.31, 0.31, 1.0), (0.95, 0.40, 0.10), taper=0.45)
    return sculptor.mesh()
