"""Straight lines through the world: what they hit first, for lidar, radar and questions of clients."""

from __future__ import annotations

import math

import numpy as np

from suites.carla.maps.ground import Ground, locate
from suites.carla.maps.jit import compiled
from suites.carla.maps.terrain import reaches, slope_at
from suites.carla.server.things.bodies import Rows

NOTHING, GROUND = -1, -2  # hit codes; bodies are 0..., obstacles FIRST_OBSTACLE - index
FIRST_OBSTACLE = -3


@compiled
def box_entry(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, hx: float, hy: float, hz: float
) -> tuple[float, float]:
    """(distance, cosine of incidence) where a ray, in a box's own frame, enters it; inf where it does not."""
    near, far, cos = -math.inf, math.inf, 0.0
    for o, d, h in ((ox, dx, hx), (oy, dy, hy), (oz, dz, hz)):
        if abs(d) < 1e-12:
            if abs(o) > h:
                return math.inf, 0.0
            continue
        a, b = (-h - o) / d, (h - o) / d
        if a > b:
            a, b = b, a
        if a > near:
            near, cos = a, abs(d)
        far = min(far, b)
    if near > far or near < 0.0:
        return math.inf, 0.0
    return near, cos


@compiled
def cast(
    origin: Rows, ray: Rows, reach: float, bodies: Rows, obstacles: Rows, near: Rows, count: int, skip: int,
    ground: Ground,
) -> tuple[float, int, float]:  # fmt: skip
    """(distance, hit code, cosine) of the first thing along a unit ray; row `skip` is unseen."""
    best, hit, cos = reach, NOTHING, 0.0
    if ground.hilly:
        met = reaches(ground, origin[0], origin[1], origin[2], ray[0], ray[1], ray[2], 0.0, reach)
        if met < best:
            gx, gy = slope_at(ground, origin[0] + met * ray[0], origin[1] + met * ray[1])
            facing = (gx * ray[0] + gy * ray[1] - ray[2]) / math.sqrt(1.0 + gx * gx + gy * gy)
            best, hit, cos = met, GROUND, max(0.0, facing)
    elif ray[2] < -1e-9 and -origin[2] / ray[2] < best and origin[2] > 0.0:
        best, hit, cos = -origin[2] / ray[2], GROUND, -ray[2]
    for j in range(len(bodies)):
        b = bodies[j]
        if j == skip:
            continue
        yaw = math.radians(b.yaw)
        c, s = math.cos(yaw), math.sin(yaw)
        x, y = origin[0] - b.x - b.box_x * c, origin[1] - b.y - b.box_x * s
        radius = b.half_x + b.half_y + b.half_z
        if x * x + y * y > (best + radius) ** 2:
            continue
        distance, cosine = box_entry(
            x * c + y * s, -x * s + y * c, origin[2] - b.z - b.box_z,
            ray[0] * c + ray[1] * s, -ray[0] * s + ray[1] * c, ray[2], b.half_x, b.half_y, b.half_z,
        )  # fmt: skip
        if distance < best:
            best, hit, cos = distance, j, cosine
    for n in range(count):
        k = near[n]
        o = obstacles[k]
        x, y = origin[0] - o.x, origin[1] - o.y
        radius = o.half_x + o.half_y
        if x * x + y * y > (best + radius) ** 2:
            continue
        yaw = math.radians(o.yaw)
        c, s = math.cos(yaw), math.sin(yaw)
        distance, cosine = box_entry(
            x * c + y * s, -x * s + y * c, origin[2] - o.z - o.box_z,
            ray[0] * c + ray[1] * s, -ray[0] * s + ray[1] * c, ray[2], o.half_x, o.half_y, o.half_z,
        )  # fmt: skip
        if distance < best:
            best, hit, cos = distance, FIRST_OBSTACLE - k, cosine
    return best, hit, cos


@compiled
def cast_all(
    origin: Rows,
    rays: Rows,
    reach: float,
    bodies: Rows,
    obstacles: Rows,
    near: Rows,
    skip: int,
    ground: Ground,
    out: Rows,
) -> None:
    """Casts (N, 3) unit rays; `out` (N, 4) receives distance, hit code, cosine, and the ground's kind where hit.

    `near` is scratch space, as long as `obstacles`.
    """
    count = np.int64(0)  # a bare 0 has a type of its own, for which `cast` would be compiled once more
    for k in range(len(obstacles)):
        o = obstacles[k]
        far = reach + o.half_x + o.half_y
        if abs(origin[0] - o.x) < far and abs(origin[1] - o.y) < far:
            near[count] = k
            count += 1
    for i in range(len(rays)):
        distance, hit, cos = cast(origin, rays[i], reach, bodies, obstacles, near, count, skip, ground)
        kind = -1
        if hit == GROUND:
            kind = locate(ground, origin[0] + rays[i, 0] * distance, origin[1] + rays[i, 1] * distance)[0]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = distance, hit, cos, kind


def empty_hits(count: int) -> Rows:
    """Room for the results of `count` rays."""
    return np.empty((count, 4))
