"""Samples into pictures: colour, depth and semantic tags, uint8 (H, W, 4) in the order BGRA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import DRIVING, PARKING, SHOULDER, SIDEWALK, Ground
from suites.carla.maps.jit import compiled, inlined
from suites.carla.render.ground_hit import hit, in_view
from suites.carla.render.ground_shade import footprint, ground_colour
from suites.carla.render.light import Light
from suites.carla.render.mesh import LEAF, MATTE, WALL
from suites.carla.render.place import Triangles
from suites.carla.render.raster import Samples
from suites.carla.render.road_paint import paint_cover
from suites.carla.render.sky import sky
from suites.carla.render.triangle_shade import leaf_tone, triangle_colour, wall_colour
from suites.carla.render.view import View

FAR_DEPTH = 1000.0  # metres: CARLA's depth code ends here
TAG_ROAD, TAG_SIDEWALK, TAG_TERRAIN, TAG_SKY, TAG_ROAD_LINE = 1, 2, 10, 11, 24


@compiled
def paint_rgb(
    view: View, ground: Ground, light: Light, noise: NDArray[np.float32], panorama: NDArray[np.float32],
    skyline: NDArray[np.float32], lamps: NDArray[np.float32], scenery: Triangles, actors: Triangles, samples: Samples,
    time: float, lit: NDArray[np.float32], image: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fills the colour image, float32 (H, W, 3) RGB. lit: float32 (drawn triangles, 3), filled with -1."""
    count = len(scenery.material)
    n = view.supersampling
    weight = 1.0 / (n * n)
    for row in range(view.height):
        up = (view.height / 2.0 - row - 0.5) / view.focal
        for column in range(view.width):
            right = (column + 0.5 - view.width / 2.0) / view.focal
            dx = view.fx + right * view.rx + up * view.ux
            dy = view.fy + right * view.ry + up * view.uy
            dz = view.fz + right * view.rz + up * view.uz
            length = np.sqrt(dx * dx + dy * dy + dz * dz)
            red, green, blue = 0.0, 0.0, 0.0
            open_samples, shade, last = 0, 0, -1
            r, g, b = 0.0, 0.0, 0.0
            for j in range(row * n, row * n + n):
                for i in range(column * n, column * n + n):
                    seen = samples.seen[j, i]
                    if seen < 0:
                        open_samples += 1
                        shade += samples.shadow[j, i]
                        continue
                    if seen != last:
                        last = seen
                        t = int(samples.drawn[seen])
                        if lit[seen, 0] < 0.0:
                            if t < count:
                                r, g, b = triangle_colour(view, light, panorama, lamps, scenery, t, time)
                            else:
                                r, g, b = triangle_colour(view, light, panorama, lamps, actors, t - count, time)
                            lit[seen, 0], lit[seen, 1], lit[seen, 2] = r, g, b
                        r, g, b = lit[seen, 0], lit[seen, 1], lit[seen, 2]
                        distance = 1.0 / samples.nearness[j, i]
                        material = scenery.material[t] if t < count else MATTE
                        if material in (WALL, LEAF):
                            x, y, z = view.x + distance * dx, view.y + distance * dy, view.z + distance * dz
                            half = 0.5 * distance / view.focal
                            if material == WALL:
                                r, g, b = wall_colour(
                                    view, light, ground, noise, panorama, scenery, t, r, g, b, x, y, z, half
                                )
                            else:
                                tone = leaf_tone(noise, x, y, z, half)
                                r, g, b = r * tone, g * tone, b * tone
                        r, g, b = _fogged(light, r, g, b, distance * length)
                    red, green, blue = red + r, green + g, blue + b
            if open_samples:
                if in_view(ground, samples, row, column, dz, length):
                    point = hit(ground, view.x, view.y, view.z, dx, dy, dz, samples.bare[row, column])
                    shadow = shade / (255.0 * open_samples)
                    r, g, b = ground_colour(view, ground, light, noise, panorama, lamps, point, dx, dy, dz, shadow)
                    r, g, b = _fogged(light, r, g, b, point.distance * length)
                else:
                    s = 1.0 / length
                    r, g, b = sky(light, panorama, skyline, dx * s, dy * s, dz * s, 1.0 / view.focal)
                red, green, blue = red + open_samples * r, green + open_samples * g, blue + open_samples * b
            image[row, column, 0] = red * weight
            image[row, column, 1] = green * weight
            image[row, column, 2] = blue * weight


@inlined
def _fogged(light: Light, r: float, g: float, b: float, distance: float) -> tuple[float, float, float]:
    through = np.exp(-light.fog * max(0.0, distance - light.fog_start))
    f = light.fog_colour
    return f[0] + through * (r - f[0]), f[1] + through * (g - f[1]), f[2] + through * (b - f[2])


@compiled
def to_bytes(image: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """RGB of 0 to 1 into BGRA; what is brighter than white is cut off gently."""
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(3):
                value = image[row, column, 2 - channel]
                if value > 0.85:  # the last part bends, so that bright skies and lamps keep some drawing
                    value = 0.85 + 0.15 * (1.0 - np.exp(-(value - 0.85) / 0.15))
                out[row, column, channel] = np.uint8(max(0.0, value) * 255.0 + 0.5)
            out[row, column, 3] = 255


@compiled
def paint_depth(view: View, ground: Ground, samples: Samples, out: NDArray[np.uint8]) -> None:
    """CARLA's 24-bit depth along the camera's axis: red holds the low byte, blue the high one."""
    for row in range(view.height):
        up = (view.height / 2.0 - row - 0.5) / view.focal
        for column in range(view.width):
            right = (column + 0.5 - view.width / 2.0) / view.focal
            depth = FAR_DEPTH
            if samples.seen[row, column] >= 0:
                depth = 1.0 / samples.nearness[row, column]
            else:
                dx, dy = view.fx + right * view.rx + up * view.ux, view.fy + right * view.ry + up * view.uy
                dz = view.fz + right * view.rz + up * view.uz
                if in_view(ground, samples, row, column, dz, np.sqrt(dx * dx + dy * dy + dz * dz)):
                    depth = hit(ground, view.x, view.y, view.z, dx, dy, dz, samples.bare[row, column]).distance
            code = int(min(1.0, max(0.0, depth / FAR_DEPTH)) * 16777215.0)
            out[row, column, 2] = code & 255
            out[row, column, 1] = (code >> 8) & 255
            out[row, column, 0] = code >> 16
            out[row, column, 3] = 255


@compiled
def paint_tags(
    view: View, ground: Ground, scenery: Triangles, actors: Triangles, samples: Samples, out: NDArray[np.uint8]
) -> None:
    """CARLA's semantic tags in the red channel."""
    count = len(scenery.material)
    for row in range(view.height):
        up = (view.height / 2.0 - row - 0.5) / view.focal
        for column in range(view.width):
            right = (column + 0.5 - view.width / 2.0) / view.focal
            seen = samples.seen[row, column]
            if seen >= 0:
                t = samples.drawn[seen]
                tag = scenery.tag[t] if t < count else actors.tag[t - count]
            else:
                dx, dy = view.fx + right * view.rx + up * view.ux, view.fy + right * view.ry + up * view.uy
                dz = view.fz + right * view.rz + up * view.uz
                below = in_view(ground, samples, row, column, dz, np.sqrt(dx * dx + dy * dy + dz * dz))
                bare = samples.bare[row, column]
                tag = np.uint8(_ground_tag(view, ground, dx, dy, dz, bare) if below else TAG_SKY)
            out[row, column, 0] = 0
            out[row, column, 1] = 0
            out[row, column, 2] = tag
            out[row, column, 3] = 255


@inlined
def _ground_tag(view: View, ground: Ground, dx: float, dy: float, dz: float, bare: float) -> int:
    point = hit(ground, view.x, view.y, view.z, dx, dy, dz, bare)
    if point.kerb or point.kind == SIDEWALK:
        return TAG_SIDEWALK
    if point.kind == DRIVING or point.kind == PARKING or point.kind == SHOULDER:
        if point.row >= 0:
            half_s, half_t = footprint(view, ground.hilly, point, dx, dy)
            white, yellow = paint_cover(ground, point.kind, point.row, point.slot, point.s, point.t, half_s, half_t)
            if white + yellow >= 0.5:
                return TAG_ROAD_LINE
        return TAG_ROAD
    return TAG_TERRAIN
