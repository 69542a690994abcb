"""Puts the shapes of a scene's actors into the world: one list of triangles for all cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import compiled, inlined
from suites.carla.render.looks import Shapes, shapes
from suites.carla.render.mesh import BODY, CLOTHES, FRONT_WHEEL, LEFT_LEG, OWN_TAG, PAINT, RIGHT_LEG
from suites.carla.render.scene import Look, Scene
from suites.carla.render.view import View

STRIDE = 0.75  # metres walked per half swing of the legs
SWING = 0.5  # radians a leg swings at most


class Triangles(NamedTuple):
    """T triangles in the world, grouped into objects for culling.

    corner: float32 (T, 3, 3) metres; normal: float32 (T, 3), unit; colour: float32 (T, 3); material, tag: uint8 (T,);
    lights: uint32 (T,), the lights state of the actor it belongs to.
    ball: float32 (G, 4): x, y, z and radius of each object; near, far: int32 (G, 2) first and end of its triangles,
    in detail and as seen from beyond `reach` metres, float32 (G,); limit: float32 (G,) metres beyond which it is left
    out.
    """

    corner: NDArray[np.float32]
    normal: NDArray[np.float32]
    colour: NDArray[np.float32]
    material: NDArray[np.uint8]
    tag: NDArray[np.uint8]
    lights: NDArray[np.uint32]
    ball: NDArray[np.float32]
    near: NDArray[np.int32]
    far: NDArray[np.int32]
    reach: NDArray[np.float32]
    limit: NDArray[np.float32]


ACTOR_LIMIT = 400.0  # metres


def in_sight(scene: Scene, views: Sequence[View]) -> NDArray[np.int64]:
    """Indices of the actors that at least one view may show."""
    radius = np.linalg.norm(scene.half_extents, axis=1)
    seen = np.zeros(len(radius), np.bool_)
    for view in views:
        away = scene.pose[:, :3] - (view.x, view.y, view.z)
        depth = away @ (view.fx, view.fy, view.fz)
        half = view.width / (2.0 * view.focal)
        aside = np.abs(away @ (view.rx, view.ry, view.rz)) - depth * half
        seen |= (depth > -radius) & (depth < ACTOR_LIMIT) & (aside < radius * math.hypot(1.0, half))
    return np.flatnonzero(seen)


def place(scene: Scene, chosen: NDArray[np.int64]) -> Triangles:
    """The triangles of the actors with these indices; raises ValueError for a look that is not in `Look`."""
    table = shapes()
    look = np.asarray(scene.look[chosen], np.int32)
    pose = np.asarray(scene.pose[chosen], np.float64)
    unknown = set(look.tolist()) - set(Look)
    if unknown:
        raise ValueError(f"unknown look {min(unknown)}; known: {', '.join(f'{k.value} {k.name}' for k in Look)}")
    count = table.first[look + 1] - table.first[look]
    end = np.cumsum(count).astype(np.int32)
    total = int(end[-1]) if len(end) else 0
    near = np.stack([end - count, end], axis=1).astype(np.int32)
    half = np.asarray(scene.half_extents[chosen], np.float32)
    out = Triangles(
        corner=np.empty((total, 3, 3), np.float32),
        normal=np.empty((total, 3), np.float32),
        colour=np.empty((total, 3), np.float32),
        material=np.empty(total, np.uint8),
        tag=np.empty(total, np.uint8),
        lights=np.repeat(np.asarray(scene.lights[chosen], np.uint32), count),
        ball=np.concatenate([pose[:, :3], np.linalg.norm(half, axis=1, keepdims=True) * 1.02], axis=1).astype(
            np.float32
        ),
        near=near,
        far=near,
        reach=np.full(len(look), np.inf, np.float32),
        limit=np.full(len(look), ACTOR_LIMIT, np.float32),
    )
    _place(
        table, pose, half, look, np.asarray(scene.colour[chosen], np.uint8),
        np.asarray(scene.tag[chosen], np.uint8), np.radians(np.asarray(scene.steer[chosen], np.float32)),
        np.asarray(scene.walked[chosen], np.float32), out,
    )  # fmt: skip
    return out


@compiled
def _place(
    table: Shapes, pose: NDArray[np.float64], half: NDArray[np.float32], look: NDArray[np.int32],
    paint: NDArray[np.uint8], tag: NDArray[np.uint8], steer: NDArray[np.float32], walked: NDArray[np.float32],
    out: Triangles,
) -> None:  # fmt: skip
    for actor in range(len(look)):
        roll, pitch, yaw = np.radians(pose[actor, 3]), np.radians(pose[actor, 4]), np.radians(pose[actor, 5])
        cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
        fx, fy, fz = cp * cy, cp * sy, sp
        rx, ry, rz = cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, -cp * sr
        ux, uy, uz = -cy * sp * cr - sy * sr, -sy * sp * cr + cy * sr, cp * cr
        hx, hy, hz = half[actor, 0], half[actor, 1], half[actor, 2]
        swing = SWING * np.sin(np.pi * walked[actor] / STRIDE)
        first = table.first[look[actor]]
        for k in range(out.near[actor, 0], out.near[actor, 1]):
            source = first + k - out.near[actor, 0]
            part = table.part[source]
            turn, lean = 0.0, 0.0
            if part == RIGHT_LEG:
                lean = swing
            elif part == LEFT_LEG:
                lean = -swing
            elif part != BODY:
                radius = max(0.1, (1.0 + table.anchor[source, 0, 2]) * hz)
                lean = -walked[actor] / radius
                turn = steer[actor] if part == FRONT_WHEEL else 0.0
            ct, st, cl, sl = np.cos(turn), np.sin(turn), np.cos(lean), np.sin(lean)
            for v in range(3):
                ox, oy, oz = table.offset[source, v, 0], table.offset[source, v, 1], table.offset[source, v, 2]
                ox, oz = ox * cl - oz * sl, ox * sl + oz * cl
                ox, oy = ox * ct - oy * st, ox * st + oy * ct
                x = table.anchor[source, v, 0] * hx + ox * hz
                y = table.anchor[source, v, 1] * hy + oy * hz
                z = table.anchor[source, v, 2] * hz + oz * hz
                out.corner[k, v, 0] = pose[actor, 0] + x * fx + y * rx + z * ux
                out.corner[k, v, 1] = pose[actor, 1] + x * fy + y * ry + z * uy
                out.corner[k, v, 2] = pose[actor, 2] + x * fz + y * rz + z * uz
            _set_normal(out, k)
            material = table.material[source]
            tinted = material in (PAINT, CLOTHES)
            for c in range(3):
                out.colour[k, c] = table.colour[source, c] * (paint[actor, c] / 255.0 if tinted else 1.0)
            out.material[k] = material
            out.tag[k] = tag[actor] if table.tag[source] == OWN_TAG else table.tag[source]


@inlined
def _set_normal(out: Triangles, k: int) -> None:
    """The unit normal (b - a) x (c - a) of triangle k; zero for one without area."""
    c = out.corner[k]
    ax, ay, az = c[1, 0] - c[0, 0], c[1, 1] - c[0, 1], c[1, 2] - c[0, 2]
    bx, by, bz = c[2, 0] - c[0, 0], c[2, 1] - c[0, 1], c[2, 2] - c[0, 2]
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    length = np.sqrt(x * x + y * y + z * z)
    scale = 1.0 / length if length > 0.0 else 0.0
    out.normal[k, 0], out.normal[k, 1], out.normal[k, 2] = x * scale, y * scale, z * scale
