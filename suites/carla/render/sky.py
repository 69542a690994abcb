"""The sky as a panorama, painted once per weather; the hills on the horizon; and the look-up of both."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import compiled, inlined
from suites.carla.render.light import Light
from suites.carla.render.noise import smooth

COLUMNS, ROWS = 512, 96  # azimuth; the square root of the elevation's sine, so that the horizon gets most rows
SUN_COSINE = math.cos(math.radians(1.1))
CLOUD_BASE = 0.12  # bends the cloud plane down, so that clouds do not shrink to nothing at the horizon


def hills(seed: int) -> NDArray[np.float32]:
    """Slope (height / distance) of the skyline by azimuth, float32 (2048,): two ranges of low wooded hills."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0.0, 2.0 * np.pi, 2048, endpoint=False)
    line = np.full(2048, 0.022)
    for wave in range(2, 90):
        line += 0.011 / wave**0.85 * rng.uniform(0.2, 1.0) * np.sin(wave * angle + rng.uniform(0, 2 * np.pi))
    line += rng.uniform(0.0, 0.0022, 2048)  # tree tops
    out: NDArray[np.float32] = np.maximum(line, 0.006).astype(np.float32)
    return out


@compiled
def paint(light: Light, noise: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Fills the panorama, float32 (ROWS, COLUMNS, 3), without the sun's disc and the hills."""
    thickness = light.cloud
    for j in range(ROWS):
        z = (j / (ROWS - 1)) ** 2
        flat = np.sqrt(max(0.0, 1.0 - z * z))
        for i in range(COLUMNS):
            angle = 2.0 * np.pi * i / COLUMNS
            x, y = flat * np.cos(angle), flat * np.sin(angle)
            up = np.sqrt(z)
            towards = x * light.sun_x + y * light.sun_y + z * light.sun_z
            warm = max(0.0, towards) ** 3 * (1.0 - up) * max(0.0, 1.0 - abs(light.day - 0.5) * 2.0)
            halo = (max(0.0, towards) ** 64 * 0.5 + max(0.0, towards) ** 8 * 0.15) * (1.0 - 0.9 * thickness)
            scale = 30.0 / (z + CLOUD_BASE)
            n = smooth(noise, x * scale + 40.0, y * scale) + 0.6 * smooth(
                noise, y * scale * 0.37, x * scale * 0.37 + 90.0
            )
            cover = (n * 0.75 + thickness * 4.0 - 2.2) / 1.6
            cover = min(1.0, max(0.0, cover)) * min(1.0, thickness * 3.0)
            lit = 0.5 + 0.5 * min(1.0, max(0.0, 0.5 + 0.35 * n))
            hidden = light.fog_sky * np.exp(-z * (9.0 - 8.0 * light.fog_sky))
            for c in range(3):
                clear = light.horizon[c] + (light.zenith[c] - light.horizon[c]) * up
                clear += warm * (0.35, 0.12, 0.0)[c] + halo * light.sun[c] * 1.2
                white = light.overcast[c] * (0.75 + 0.45 * lit) + light.sun[c] * 0.28 * lit * (1.0 - thickness)
                value = clear + cover * (white - clear)
                out[j, i, c] = value + hidden * (light.fog_colour[c] - value)


@inlined
def panorama_at(panorama: NDArray[np.float32], x: float, y: float, z: float) -> tuple[float, float, float]:
    """The panorama in a unit direction with z >= 0, interpolated."""
    u = np.arctan2(y, x) * (COLUMNS / (2.0 * np.pi))
    v = np.sqrt(max(0.0, z)) * (ROWS - 1)
    fu = np.floor(u)
    i, j = int(fu) & (COLUMNS - 1), min(int(v), ROWS - 2)
    k = (i + 1) & (COLUMNS - 1)
    a, b = np.float32(u - fu), np.float32(v - j)
    w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    return (
        panorama[j, i, 0] * w00 + panorama[j, k, 0] * w01 + panorama[j + 1, i, 0] * w10 + panorama[j + 1, k, 0] * w11,
        panorama[j, i, 1] * w00 + panorama[j, k, 1] * w01 + panorama[j + 1, i, 1] * w10 + panorama[j + 1, k, 1] * w11,
        panorama[j, i, 2] * w00 + panorama[j, k, 2] * w01 + panorama[j + 1, i, 2] * w10 + panorama[j + 1, k, 2] * w11,
    )


@inlined
def sky(
    light: Light,
    panorama: NDArray[np.float32],
    skyline: NDArray[np.float32],
    x: float,
    y: float,
    z: float,
    pixel: float,
) -> tuple[float, float, float]:
    """The colour in a unit direction above the horizon; `pixel` is the angle of a pixel, for soft edges."""
    r, g, b = panorama_at(panorama, x, y, z)
    towards = x * light.sun_x + y * light.sun_y + z * light.sun_z
    if towards > SUN_COSINE - 0.0002 and light.cloud < 0.85:
        disc = min(1.0, (towards - SUN_COSINE + 0.0002) / 0.0002) * (1.0 - light.cloud) * (1.0 - light.fog_sky)
        r, g, b = r + disc * (1.0 - r), g + disc * (0.97 - g), b + disc * (0.9 - b)
    if z < 0.08:
        r, g, b = _hill(light, skyline, x, y, z, pixel, r, g, b, 0.0, 1.0, 0.72)
        r, g, b = _hill(light, skyline, x, y, z, pixel, r, g, b, 700.3, 0.55, 0.5)
    return r, g, b


@inlined
def _hill(
    light: Light, skyline: NDArray[np.float32], x: float, y: float, z: float, pixel: float,
    r: float, g: float, b: float, turn: float, height: float, haze: float,
) -> tuple[float, float, float]:  # fmt: skip
    """One range of hills over the colour behind it."""
    n = len(skyline)
    u = np.arctan2(y, x) * (n / (2.0 * np.pi)) + turn
    fu = np.floor(u)
    i = int(fu) % n
    top = (skyline[i] + (u - fu) * (skyline[(i + 1) % n] - skyline[i])) * height
    cover = min(1.0, max(0.0, (top - z) / pixel + 0.5)) * (1.0 - light.fog_sky * 0.9)
    shade = 0.55 + 0.45 * light.sun_z if light.sun_z > 0 else 0.55
    for_haze = min(1.0, haze + light.fog_sky)
    r2 = 0.26 * (light.ambient[0] + shade * light.sun[0])
    g2 = 0.33 * (light.ambient[1] + shade * light.sun[1])
    b2 = 0.22 * (light.ambient[2] + shade * light.sun[2])
    r2, g2, b2 = (
        r2 + for_haze * (light.horizon[0] * 0.88 - r2),
        g2 + for_haze * (light.horizon[1] * 0.90 - g2),
        b2 + for_haze * (light.horizon[2] * 0.96 - b2),
    )
    return r + cover * (r2 - r), g + cover * (g2 - g), b + cover * (b2 - b)
