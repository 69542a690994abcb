"""Shadows on the ground: of boxes (vehicles, people, houses) and of the crowns of trees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import Ground
from suites.carla.maps.jit import compiled, inlined
from suites.carla.maps.terrain import level_at, terrain_height
from suites.carla.render.light import Light
from suites.carla.render.raster import Samples, draw_shadow
from suites.carla.render.scene import Look, Scene
from suites.carla.render.view import View

BOX, CROWN = 0.0, 1.0
REACH = 150.0  # metres from the camera
LONGEST = 5.0  # times the caster's height
CONTACT = 215  # of 255: right under a vehicle hardly any light arrives
TALL = 5.0  # metres: houses have no dark gap under them
FAINT = 12  # of 255: below this a shadow is not seen
# Columns of a caster: kind, x, y, yaw in radians, half length, half width, bottom and top above the terrain.
COLUMNS = 8


def casters_of(scene: Scene, ground: Ground) -> NDArray[np.float32]:
    """The actors as casters, float32 (N, 8)."""
    out = np.zeros((len(scene.look), COLUMNS), np.float32)
    out[:, 1:3] = scene.pose[:, :2]
    out[:, 3] = np.radians(scene.pose[:, 5])
    out[:, 4:6] = scene.half_extents[:, :2]
    out[:, 6] = scene.pose[:, 2] - scene.half_extents[:, 2]
    out[:, 7] = scene.pose[:, 2] + scene.half_extents[:, 2] * 0.92
    out[scene.look == Look.TRAFFIC_LIGHT, 4:6] = 0.1
    if ground.hilly:
        out[:, 6:] -= np.array([terrain_height(ground, x, y) for x, y in scene.pose[:, :2]], np.float32)[:, None]
    out[:, 6] = np.maximum(0.0, out[:, 6])
    return out


@compiled
def cast(view: View, ground: Ground, light: Light, casters: NDArray[np.float32], samples: Samples) -> None:
    """Draws the shadows of casters near the camera; on a slope their corners lie on it."""
    strength = int(235 * min(1.0, max(light.sun[0], light.sun[1]) / 0.45))
    throw = min(1.0 / max(light.sun_z, 0.02), LONGEST)  # metres of shadow per metre of height
    for k in range(len(casters)):
        dx, dy = casters[k, 1] - view.x, casters[k, 2] - view.y
        longest = LONGEST * casters[k, 7] + casters[k, 4]
        if dx * dx + dy * dy > REACH * REACH or dx * view.fx + dy * view.fy < -longest:
            continue
        if casters[k, 0] == CROWN:
            if strength >= FAINT:
                _cast_crown(view, ground, light, casters, k, throw, strength, samples)
        else:
            _cast_box(view, ground, light, casters, k, throw, strength, samples)


@inlined
def _cast_crown(
    view: View, ground: Ground, light: Light, casters: NDArray[np.float32], k: int, throw: float, strength: int,
    samples: Samples,
) -> None:  # fmt: skip
    """An ellipse, drawn out away from the sun."""
    radius, bottom, top = casters[k, 5], casters[k, 6], casters[k, 7]
    flat = np.sqrt(light.sun_x * light.sun_x + light.sun_y * light.sun_y) + 1e-6
    stretch = (top - bottom) / 2.0 * throw * flat
    long = np.sqrt(radius * radius + stretch * stretch)
    ux, uy = light.sun_x / flat, light.sun_y / flat
    height = throw * (bottom + top) / 2.0
    for i in range(10):
        a, b = long * np.cos(0.2 * np.pi * i), radius * np.sin(0.2 * np.pi * i)
        samples.crown[i, 0] = casters[k, 1] - light.sun_x * height + a * ux - b * uy
        samples.crown[i, 1] = casters[k, 2] - light.sun_y * height + a * uy + b * ux
        samples.crown[i, 2] = level_at(ground, samples.crown[i, 0], samples.crown[i, 1])
    draw_shadow(view, samples.crown, samples, strength)


@inlined
def _cast_box(
    view: View, ground: Ground, light: Light, casters: NDArray[np.float32], k: int, throw: float, strength: int,
    samples: Samples,
) -> None:  # fmt: skip
    """The shades of a box's top and of its four sides; and the dark under it when it stands on the ground."""
    cos, sin = np.cos(casters[k, 3]), np.sin(casters[k, 3])
    bottom, top = casters[k, 6], casters[k, 7]
    contact = bottom < 0.3 and top < TALL
    if strength < FAINT and not contact:
        return
    ox, oy = -light.sun_x * throw, -light.sun_y * throw
    for part in range(6):
        if (part == 0 and not contact) or (part > 0 and strength < FAINT):
            continue
        for i in range(4):
            # Corners of the side `part - 2` for the sides; all four of the base or the top otherwise.
            corner = i if part < 2 else (part - 2 + (1 if i == 1 or i == 2 else 0)) & 3
            a = casters[k, 4] * (1.0 if corner < 2 else -1.0)
            b = casters[k, 5] * (1.0 if corner == 1 or corner == 2 else -1.0)
            height = top if part == 1 or (part > 1 and i >= 2) else (bottom if part > 1 else 0.0)
            samples.box[i, 0] = casters[k, 1] + a * cos - b * sin + ox * height
            samples.box[i, 1] = casters[k, 2] + a * sin + b * cos + oy * height
            samples.box[i, 2] = level_at(ground, samples.box[i, 0], samples.box[i, 1])
        draw_shadow(view, samples.box, samples, CONTACT if part == 0 else strength)
