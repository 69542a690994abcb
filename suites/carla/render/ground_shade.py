"""The colour of the ground: asphalt, paint, kerbs, pavements and grass under sun, shade, rain and lamps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import DRIVING, GRASS, PARKING, SHOULDER, SIDEWALK, VERGE, Ground
from suites.carla.maps.jit import inlined
from suites.carla.render.ground_hit import Hit, is_road
from suites.carla.render.lamps import lamp_light
from suites.carla.render.light import Light
from suites.carla.render.noise import smooth
from suites.carla.render.road_paint import overlap, paint_cover, pulses
from suites.carla.render.sky import panorama_at
from suites.carla.render.textures import asphalt_tone, grass_tone
from suites.carla.render.view import View

FINE, COARSE = 60.0, 0.7  # noise texels per metre
KERB_STONE = 0.18  # metres of stone along the edge of a pavement
SLAB, JOINT = 0.8, 0.03  # metres: paving slabs and the gaps between them
RUT = 0.75  # metres from a lane's middle to where its wheels run


@inlined
def footprint(view: View, hilly: bool, hit: Hit, dx: float, dy: float) -> tuple[float, float]:
    """Half the size of a pixel on the ground in metres, along and across the road (along x and y off the roads)."""
    k = hit.distance / view.focal
    # How the point moves per pixel to the right and per pixel upwards.
    right, above = -view.rz / hit.fall, -view.uz / hit.fall
    if hilly:
        right += (hit.slope_x * view.rx + hit.slope_y * view.ry) / hit.fall
        above += (hit.slope_x * view.ux + hit.slope_y * view.uy) / hit.fall
    ax, ay = k * (view.rx + dx * right), k * (view.ry + dy * right)
    bx, by = k * (view.ux + dx * above), k * (view.uy + dy * above)
    along_a, across_a = ax * hit.cos + ay * hit.sin, ay * hit.cos - ax * hit.sin
    along_b, across_b = bx * hit.cos + by * hit.sin, by * hit.cos - bx * hit.sin
    return (
        max(0.002, 0.5 * np.sqrt(along_a * along_a + along_b * along_b)),
        max(0.002, 0.5 * np.sqrt(across_a * across_a + across_b * across_b)),
    )


@inlined
def ground_colour(
    view: View, ground: Ground, light: Light, noise: NDArray[np.float32], panorama: NDArray[np.float32],
    lamps: NDArray[np.float32], hit: Hit, dx: float, dy: float, dz: float, shadow: float,
) -> tuple[float, float, float]:  # fmt: skip
    """RGB of the ground at a hit, before fog; `shadow` is the share of sunlight that does not arrive."""
    half_s, half_t = footprint(view, ground.hilly, hit, dx, dy)
    size = np.sqrt(half_s * half_t) * 2.0
    coarse = smooth(noise, hit.x * COARSE, hit.y * COARSE) * min(1.0, 1.5 / (COARSE * size + 1e-6))
    fine_share = min(1.0, 0.7 / (FINE * size))
    fine = smooth(noise, hit.x * FINE, hit.y * FINE) * fine_share if fine_share > 0.08 else 0.0
    road = is_road(hit.kind) and not hit.kerb
    if road:
        grit = asphalt_tone(noise, hit.x, hit.y, hit.s, hit.slot, size) if view.textured else 1.0
        r, g, b = _asphalt(ground, hit, half_s, half_t, coarse, fine, grit)
    elif hit.kerb:
        r, g, b = 0.50, 0.49, 0.47
    elif hit.kind == SIDEWALK:
        r, g, b = _pavement(ground, hit, half_s, half_t, coarse, fine)
    else:
        dry = min(1.0, max(0.0, 0.35 + 0.30 * coarse + 0.12 * smooth(noise, hit.x * 0.11, hit.y * 0.11)))
        bright = 1.0 + 0.16 * fine + 0.05 * coarse
        r, g, b = (0.22 + 0.17 * dry) * bright, (0.36 + 0.04 * dry) * bright, (0.13 + 0.05 * dry) * bright
        if view.textured:
            bright, flowers = grass_tone(noise, hit.x, hit.y, size)
            r, g, b = r * bright + 0.16 * flowers, g * bright + 0.10 * flowers, b * bright
        if hit.kind == VERGE:
            stone = _kerb_stone(ground, hit, half_t)
            r, g, b = r + stone * (0.66 - r), g + stone * (0.65 - g), b + stone * (0.62 - b)
    wet = light.wet if road else light.wet * 0.6
    dark = 1.0 - 0.36 * wet
    facing = light.sun_z
    if ground.hilly:
        steep = np.sqrt(1.0 + hit.slope_x * hit.slope_x + hit.slope_y * hit.slope_y)
        facing = (facing - hit.slope_x * light.sun_x - hit.slope_y * light.sun_y) / steep
    sun = max(0.0, facing) * (1.0 - shadow)
    ambient = 1.0 - 0.30 * shadow
    if hit.kerb:
        ambient, sun = ambient * 0.75, sun * 0.55
    lr, lg, lb = lamp_light(lamps, float(hit.x), float(hit.y), 0.0)
    r *= dark * (light.ambient[0] * ambient + light.sun[0] * sun) + lr
    g *= dark * (light.ambient[1] * ambient + light.sun[1] * sun) + lg
    b *= dark * (light.ambient[2] * ambient + light.sun[2] * sun) + lb
    if (light.wet > 0.02 or light.puddles > 0.02) and not hit.kerb and hit.kind != GRASS and hit.kind != VERGE:
        r, g, b = _mirror(light, panorama, r, g, b, dx, dy, dz, coarse, fine)
    return r, g, b


@inlined
def _asphalt(
    ground: Ground, hit: Hit, half_s: float, half_t: float, coarse: float, fine: float, grit: float
) -> tuple[float, float, float]:
    """grit: the factor of its texture."""
    tone = (0.355 + 0.010 * coarse + 0.026 * fine) * grit
    if hit.kind == PARKING:
        tone += 0.035
    elif hit.kind == SHOULDER:
        tone -= 0.03
    r, g, b = tone, tone, tone * 1.03
    if hit.row < 0:
        return r, g, b
    left, right = ground.border[hit.row, hit.slot], ground.border[hit.row, hit.slot + 1]
    if hit.kind == DRIVING:
        off = abs(abs(hit.t - (left + right) / 2.0) - RUT)
        worn = max(0.0, 1.0 - off / 0.5) * 0.10
        r, g, b = r * (1.0 - worn), g * (1.0 - worn), b * (1.0 - worn)
    white, yellow = paint_cover(ground, hit.kind, hit.row, hit.slot, hit.s, hit.t, half_s, half_t)
    fresh = 0.93 + 0.05 * coarse + 0.03 * fine
    white, yellow = min(1.0, white) * fresh, min(1.0, yellow) * fresh
    r, g, b = r + white * (0.93 - r), g + white * (0.93 - g), b + white * (0.91 - b)
    return r + yellow * (0.90 - r), g + yellow * (0.68 - g), b + yellow * (0.14 - b)


@inlined
def _pavement(
    ground: Ground, hit: Hit, half_s: float, half_t: float, coarse: float, fine: float
) -> tuple[float, float, float]:
    tone = 0.60 + 0.030 * coarse + 0.022 * fine
    joints = max(pulses(hit.s, half_s, SLAB, JOINT), pulses(hit.t, half_t, SLAB, JOINT))
    tone *= 1.0 - 0.35 * joints
    r, g, b = tone * 1.02, tone, tone * 0.95
    stone = _kerb_stone(ground, hit, half_t)
    return r + stone * (0.70 - r), g + stone * (0.69 - g), b + stone * (0.67 - b)


@inlined
def _kerb_stone(ground: Ground, hit: Hit, half_t: float) -> float:
    """How much of a patch of pavement or verge is the stone along its road."""
    if hit.row < 0 or hit.slot < 0:
        return 0.0
    covered = 0.0
    if hit.slot > 0 and is_road(ground.kind[hit.row, hit.slot - 1]):
        edge = ground.border[hit.row, hit.slot]
        covered += overlap(hit.t, half_t, edge, edge + KERB_STONE)
    if hit.slot + 1 < ground.slots[hit.row] and is_road(ground.kind[hit.row, hit.slot + 1]):
        edge = ground.border[hit.row, hit.slot + 1]
        covered += overlap(hit.t, half_t, edge - KERB_STONE, edge)
    return min(1.0, covered)


@inlined
def _mirror(
    light: Light, panorama: NDArray[np.float32], r: float, g: float, b: float,
    dx: float, dy: float, dz: float, coarse: float, fine: float,
) -> tuple[float, float, float]:  # fmt: skip
    """The sky in wet asphalt, and more of it in puddles."""
    scale = 1.0 / np.sqrt(dx * dx + dy * dy + dz * dz)
    grazing = 1.0 + dz * scale
    fresnel = 0.04 + 0.55 * grazing**5
    puddle = min(1.0, max(0.0, (coarse * 0.6 + light.puddles * 1.7 - 1.5) * 3.0))
    share = light.wet * fresnel * 0.8
    share += puddle * (0.16 + 0.6 * fresnel - share)
    up = min(1.0, max(0.0, -dz * scale + 0.02 * fine))
    sr, sg, sb = panorama_at(panorama, dx, dy, up)
    return r + share * (sr - r), g + share * (sg - g), b + share * (sb - b)
