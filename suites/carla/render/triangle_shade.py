"""The colour of a triangle: paint, glass, lamps; and, point by point, walls with windows and foliage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import Ground
from suites.carla.maps.jit import inlined
from suites.carla.render.lamps import DAYLIGHT, lamp_light
from suites.carla.render.light import Light
from suites.carla.render.mesh import (
    GLASS,
    GREEN,
    HEADLAMP,
    LAMP,
    LEFT_BLINKER,
    PAINT,
    RED,
    REVERSE_LAMP,
    RIGHT_BLINKER,
    TAILLAMP,
    YELLOW,
)
from suites.carla.render.noise import smooth
from suites.carla.render.place import Triangles
from suites.carla.render.road_paint import pulses
from suites.carla.render.sky import panorama_at
from suites.carla.render.textures import facade_tone
from suites.carla.render.view import View

POSITION_LIGHT, LOW_BEAM, HIGH_BEAM, BRAKE, RIGHT, LEFT, REVERSE = 1, 2, 4, 8, 16, 32, 64  # VehicleLightState
SIGNAL_RED, SIGNAL_YELLOW, SIGNAL_GREEN = 0, 1, 2  # TrafficLightState
BAY, STOREY = 3.1, 3.3  # metres between windows, along the wall and upwards
WINDOW_WIDTH, WINDOW_HEIGHT, SILL = 1.5, 1.7, 1.0  # metres
BLINK = 1.5  # per second


@inlined
def lamp_state(material: int, lights: int, time: float) -> float:
    """How bright a lamp is: 0 off, 1 on; brake lamps outshine tail lamps."""
    blinking = (time * BLINK) % 1.0 < 0.5
    if material == HEADLAMP:
        return 1.0 if lights & (LOW_BEAM | HIGH_BEAM) else (0.45 if lights & POSITION_LIGHT else 0.0)
    if material == TAILLAMP:
        return 1.0 if lights & BRAKE else (0.55 if lights & (POSITION_LIGHT | LOW_BEAM | HIGH_BEAM) else 0.0)
    if material == LEFT_BLINKER:
        return 1.0 if lights & LEFT and blinking else 0.0
    if material == RIGHT_BLINKER:
        return 1.0 if lights & RIGHT and blinking else 0.0
    if material == REVERSE_LAMP:
        return 1.0 if lights & REVERSE else 0.0
    if material in (RED, YELLOW, GREEN):
        state = SIGNAL_RED if material == RED else (SIGNAL_YELLOW if material == YELLOW else SIGNAL_GREEN)
        return 1.0 if lights == state else 0.0
    return 0.0


@inlined
def lamp_colour(material: int) -> tuple[float, float, float]:
    """The colour a lamp shines in."""
    if material in (TAILLAMP, RED):
        return 1.0, 0.10, 0.06
    if material in (LEFT_BLINKER, RIGHT_BLINKER, YELLOW):
        return 1.0, 0.66, 0.10
    if material == GREEN:
        return 0.15, 1.0, 0.45
    return 1.0, 0.97, 0.88


@inlined
def triangle_colour(
    view: View, light: Light, panorama: NDArray[np.float32], lamps: NDArray[np.float32], triangles: Triangles, t: int,
    time: float,
) -> tuple[float, float, float]:  # fmt: skip
    """RGB of a triangle as a whole, before fog."""
    corner, normal, material = triangles.corner[t], triangles.normal[t], triangles.material[t]
    nx, ny, nz = float(normal[0]), float(normal[1]), float(normal[2])
    r, g, b = triangles.colour[t, 0], triangles.colour[t, 1], triangles.colour[t, 2]
    sun = max(0.0, nx * light.sun_x + ny * light.sun_y + nz * light.sun_z)
    ambient = 0.78 + 0.22 * nz
    x, y, z = float(corner[0, 0]), float(corner[0, 1]), float(corner[0, 2])
    lr, lg, lb = lamp_light(lamps, x, y, z)
    r = r * (light.ambient[0] * ambient + light.sun[0] * sun + 0.8 * lr)
    g = g * (light.ambient[1] * ambient + light.sun[1] * sun + 0.8 * lg)
    b = b * (light.ambient[2] * ambient + light.sun[2] * sun + 0.8 * lb)
    if material in (PAINT, GLASS):
        dx, dy, dz = x - view.x, y - view.y, z - view.z
        scale = 1.0 / np.sqrt(dx * dx + dy * dy + dz * dz + 1e-9)
        dx, dy, dz = dx * scale, dy * scale, dz * scale
        facing = -(dx * nx + dy * ny + dz * nz)
        mx, my, mz = dx + 2.0 * facing * nx, dy + 2.0 * facing * ny, dz + 2.0 * facing * nz
        sr, sg, sb = panorama_at(panorama, mx, my, max(0.02, mz))
        if mz < 0.0:  # it mirrors the road
            sr, sg, sb = light.ambient[0] * 0.5, light.ambient[1] * 0.5, light.ambient[2] * 0.5
        grazing = (1.0 - min(1.0, max(0.0, facing))) ** 3
        share = (0.30 + 0.45 * grazing) if material == GLASS else (0.05 + 0.22 * grazing)
        shine = max(0.0, mx * light.sun_x + my * light.sun_y + mz * light.sun_z) ** 24 * 0.6
        r = r + share * (sr - r) + shine * light.sun[0]
        g = g + share * (sg - g) + shine * light.sun[1]
        b = b + share * (sb - b) + shine * light.sun[2]
    elif material == LAMP:
        on = light.glow if light.glow > DAYLIGHT else 0.0
        r, g, b = r + on * (1.0 - r), g + on * (0.85 - g), b + on * (0.60 - b)
    else:
        on = lamp_state(material, int(triangles.lights[t]), time)
        if on > 0.0:
            cr, cg, cb = lamp_colour(material)
            r, g, b = r + on * (cr - r), g + on * (cg - g), b + on * (cb - b)
    return r, g, b


@inlined
def wall_colour(
    view: View, light: Light, ground: Ground, noise: NDArray[np.float32], panorama: NDArray[np.float32],
    triangles: Triangles, t: int, r: float, g: float, b: float, x: float, y: float, z: float, pixel: float,
) -> tuple[float, float, float]:  # fmt: skip
    """The wall of a house at a point, windows and all; `pixel` is half a pixel's size there in metres."""
    nx, ny = float(triangles.normal[t, 0]), float(triangles.normal[t, 1])
    along = -ny * x + nx * y
    if ground.hilly:  # storeys are counted from the wall's foot
        corner = triangles.corner[t]
        z -= min(corner[0, 2], corner[1, 2], corner[2, 2]) - ground.kerb
    half = max(0.01, pixel)
    window = pulses(along, half, BAY, WINDOW_WIDTH) * pulses(z - SILL, half, STOREY, WINDOW_HEIGHT)
    frame = pulses(along + 0.12, half, BAY, WINDOW_WIDTH + 0.24) * pulses(
        z - SILL + 0.12, half, STOREY, WINDOW_HEIGHT + 0.24
    )
    frame -= window
    hashed = (
        int(np.floor(along / BAY)) * 73856093 ^ int(np.floor(z / STOREY)) * 19349663 ^ int(nx * 7 + ny * 13) * 83492791
    ) & 1023
    tone = 0.55 + 0.45 * (hashed / 1023.0)
    sr, sg, sb = panorama_at(panorama, nx, ny, 0.25)
    wr, wg, wb = 0.08 + 0.42 * tone * sr, 0.09 + 0.42 * tone * sg, 0.10 + 0.44 * tone * sb
    if light.glow > DAYLIGHT and hashed % 5 < 2:
        wr, wg, wb = wr + light.glow * (0.95 - wr), wg + light.glow * (0.78 - wg), wb + light.glow * (0.45 - wb)
    if view.textured:
        colour = triangles.colour[t]
        tone = facade_tone(noise, along, z, half, colour[0] > 1.12 * colour[1])
        r, g, b = r * tone, g * tone, b * tone
    r, g, b = r * (1.0 + 0.18 * frame), g * (1.0 + 0.18 * frame), b * (1.0 + 0.18 * frame)
    return r + window * (wr - r), g + window * (wg - g), b + window * (wb - b)


@inlined
def leaf_tone(noise: NDArray[np.float32], x: float, y: float, z: float, pixel: float) -> float:
    """The unevenness of foliage at a point: a factor of its colour."""
    share = min(1.0, 0.12 / (pixel + 1e-6))
    return 1.0 + 0.20 * share * smooth(noise, (x + z * 0.7) * 9.0, (y - z * 0.9) * 9.0)
