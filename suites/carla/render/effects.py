"""What comes over the picture at the end: the glare of lamps and falling rain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import compiled, inlined
from suites.carla.render.lamps import DAYLIGHT
from suites.carla.render.light import Light
from suites.carla.render.mesh import CLOTHES, GLASS, LAMP, LEAF, MATTE, PAINT, WALL
from suites.carla.render.place import Triangles
from suites.carla.render.raster import Samples
from suites.carla.render.triangle_shade import lamp_colour, lamp_state
from suites.carla.render.view import NEAR, View

HALO = 0.55  # metres: how far a lamp's glare reaches
HALO_LIMIT = 160.0  # metres from the camera
DROPS, SHARP = 420, 360  # streaks at full rain in an image of SHARP rows; fewer in smaller ones, down to a third
FALL = 9.0  # image heights a second


@compiled
def shine(
    view: View, light: Light, scenery: Triangles, actors: Triangles, samples: Samples, time: float,
    image: NDArray[np.float32],
) -> None:  # fmt: skip
    """Adds glare around the lamps that are lit and in sight."""
    _shine_of(view, light, actors, samples, time, image)
    if light.glow > DAYLIGHT:
        _shine_of(view, light, scenery, samples, time, image)


@inlined
def _shine_of(
    view: View, light: Light, triangles: Triangles, samples: Samples, time: float,
    image: NDArray[np.float32],
) -> None:  # fmt: skip
    n = view.supersampling
    for k in range(len(triangles.ball)):
        if np.hypot(triangles.ball[k, 0] - view.x, triangles.ball[k, 1] - view.y) > HALO_LIMIT:
            continue
        for t in range(triangles.near[k, 0], triangles.near[k, 1]):
            material = triangles.material[t]
            if material in (MATTE, PAINT, GLASS, WALL, LEAF, CLOTHES):
                continue
            strength = (
                light.glow if material == LAMP else light.glow * lamp_state(material, int(triangles.lights[t]), time)
            )
            if strength < 0.05:
                continue
            x = (triangles.corner[t, 0, 0] + triangles.corner[t, 1, 0] + triangles.corner[t, 2, 0]) / 3.0 - view.x
            y = (triangles.corner[t, 0, 1] + triangles.corner[t, 1, 1] + triangles.corner[t, 2, 1]) / 3.0 - view.y
            z = (triangles.corner[t, 0, 2] + triangles.corner[t, 1, 2] + triangles.corner[t, 2, 2]) / 3.0 - view.z
            depth = x * view.fx + y * view.fy + z * view.fz
            if depth < NEAR:
                continue
            column = view.width / 2.0 + view.focal * (x * view.rx + y * view.ry + z * view.rz) / depth
            row = view.height / 2.0 - view.focal * (x * view.ux + y * view.uy + z * view.uz) / depth
            if column < 0.0 or row < 0.0 or column >= view.width or row >= view.height:
                continue
            j, i = int(row * n), int(column * n)
            if samples.nearness[j, i] * (depth - 0.4) > 1.0:
                continue  # something stands before it
            r, g, b = lamp_colour(material)
            _halo(image, column, row, max(0.8, HALO * view.focal / depth), 0.28 * strength, r, g, b)


@inlined
def _halo(
    image: NDArray[np.float32], column: float, row: float, radius: float, strength: float, r: float, g: float, b: float
) -> None:
    height, width = image.shape[0], image.shape[1]
    for j in range(max(0, int(row - radius)), min(height, int(row + radius) + 2)):
        for i in range(max(0, int(column - radius)), min(width, int(column + radius) + 2)):
            dx, dy = (i + 0.5 - column) / radius, (j + 0.5 - row) / radius
            fade = max(0.0, 1.0 - dx * dx - dy * dy)
            fade *= fade * strength
            image[j, i, 0] += fade * r
            image[j, i, 1] += fade * g
            image[j, i, 2] += fade * b


@compiled
def rain(view: View, light: Light, time: float, image: NDArray[np.float32]) -> None:
    """Streaks of rain; where they are depends on the time alone."""
    if light.rain < 0.02:
        return
    height, width = image.shape[0], image.shape[1]
    bright = 0.25 + 0.55 * light.day
    detail = min(1.0, 0.33 + 0.67 * height / SHARP)
    for k in range(int(DROPS * light.rain * detail)):
        a = (k * 0.754877666 + 0.31) % 1.0
        b = (k * 0.569840296 + time * FALL * (0.8 + 0.4 * a)) % 1.0
        near = 0.35 + 0.65 * ((k * 0.3819660) % 1.0)
        length = max(2.0, 0.075 * height * near)
        slant = (0.06 + 0.5 * light.wind) * (0.8 + 0.4 * a)
        alpha = 0.26 * near * detail
        x, y = a * width * 1.2 - 0.1 * width, b * (height + length) - length
        for step in range(int(length)):
            j, at = int(y + step), x - slant * step
            i = int(np.floor(at))
            if j < 0 or j >= height:
                continue
            for side in range(2):
                share = (1.0 - (at - i)) if side == 0 else (at - i)
                if 0 <= i + side < width:
                    for c in range(3):
                        image[j, i + side, c] += alpha * share * (bright - image[j, i + side, c])
