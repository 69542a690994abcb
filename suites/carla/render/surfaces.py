"""What each pixel sees, for cameras that label instead of paint: which object, and how its surface is turned.

Both are painted over a picture of semantic tags, uint8 (H, W, 4) in the order BGRA.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import Ground
from suites.carla.maps.jit import compiled
from suites.carla.maps.terrain import slope_at
from suites.carla.render.image import TAG_SKY
from suites.carla.render.place import Triangles
from suites.carla.render.raster import Samples
from suites.carla.render.view import View

FIRST_OBJECT = 0x8000  # numbers of the map's objects begin here, far from the ids of actors


def owners(triangles: Triangles, numbers: NDArray[Any]) -> NDArray[np.uint16]:
    """(T,): the number of the object that each triangle belongs to; numbers: (G,)."""
    owner = np.zeros(len(triangles.material), np.uint16)
    for (first, end), (far_first, far_end), number in zip(triangles.near, triangles.far, numbers, strict=True):
        owner[first:end] = owner[far_first:far_end] = np.uint16(number & 0xFFFF)
    return owner


@compiled
def paint_owners(
    samples: Samples, scenery: NDArray[np.uint16], actors: NDArray[np.uint16], out: NDArray[np.uint8]
) -> None:
    """CARLA's instance code: the low byte of the object's number in green, the high one in blue; red keeps the tag."""
    count = len(scenery)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            seen = samples.seen[row, column]
            if seen >= 0:
                t = samples.drawn[seen]
                number = scenery[t] if t < count else actors[t - count]
                out[row, column, 1] = number & 255
                out[row, column, 0] = number >> 8


@compiled
def paint_normals(
    view: View, ground: Ground, samples: Samples, scenery: Triangles, actors: Triangles, out: NDArray[np.uint8]
) -> None:
    """The surface's normal in the world, -1 to 1 as 0 to 255: x in red, y in green, z in blue; the sky is black."""
    count = len(scenery.material)
    for row in range(out.shape[0]):
        up = (view.height / 2.0 - row - 0.5) / view.focal
        for column in range(out.shape[1]):
            right = (column + 0.5 - view.width / 2.0) / view.focal
            x = view.x + samples.bare[row, column] * (view.fx + right * view.rx + up * view.ux)
            y = view.y + samples.bare[row, column] * (view.fy + right * view.ry + up * view.uy)
            slope_x, slope_y = slope_at(ground, x, y)
            upright = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
            seen = samples.seen[row, column]
            sky = seen < 0 and out[row, column, 2] == TAG_SKY
            for axis in range(3):
                part = upright * (-slope_x if axis == 0 else (-slope_y if axis == 1 else 1.0))
                if seen >= 0:
                    t = samples.drawn[seen]
                    part = scenery.normal[t, axis] if t < count else actors.normal[t - count, axis]
                out[row, column, 2 - axis] = np.uint8(0 if sky else round(127.5 + 127.5 * part))
