"""Which triangle each sample of the image sees: culling, projection and the depth buffer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import compiled, inlined
from suites.carla.render.place import Triangles
from suites.carla.render.view import NEAR, View


class Samples(NamedTuple):
    """The image at `supersampling` samples across each pixel, and room to work in.

    nearness: float32 (H, W), 1 / metres along the camera's axis, 0 where no triangle is. seen: int32 (H, W), which of
    the `drawn` triangles the sample sees, -1 for none. shadow: uint8 (H, W), how much of the sunlight is missing on
    the ground, of 255.
    bare: float32 (pixels high, pixels wide), where on a hilly map a pixel's line of sight meets the ground, in
    multiples of its direction; inf for nowhere.
    drawn: int32 (T,), the triangles that were drawn, in order: numbers of the scenery, then, counted on, of the actors.
    cut: float64 (16, 3), corners of a projected polygon. box, crown: float32 (4, 3) and (10, 3), corners of shadows.
    """

    nearness: NDArray[np.float32]
    seen: NDArray[np.int32]
    shadow: NDArray[np.uint8]
    bare: NDArray[np.float32]
    drawn: NDArray[np.int32]
    cut: NDArray[np.float64]
    box: NDArray[np.float32]
    crown: NDArray[np.float32]


def samples_of(view: View, triangles: int) -> Samples:
    """Buffers for a view and at most that many triangles, not yet cleared."""
    shape = (view.height * view.supersampling, view.width * view.supersampling)
    return Samples(
        nearness=np.empty(shape, np.float32),
        seen=np.empty(shape, np.int32),
        shadow=np.empty(shape, np.uint8),
        bare=np.zeros((view.height, view.width), np.float32),
        drawn=np.empty(triangles, np.int32),
        cut=np.empty((16, 3)),
        box=np.zeros((4, 3), np.float32),
        crown=np.zeros((10, 3), np.float32),
    )


@compiled
def draw(view: View, triangles: Triangles, offset: int, count: int, samples: Samples) -> int:
    """Draws every object in sight that turns its front to the camera; returns the new length of `drawn`.

    offset: what is added to a triangle's number in `drawn`; count: how many have been drawn before.
    """
    half_w, half_h = view.width / (2.0 * view.focal), view.height / (2.0 * view.focal)
    # Lengths of the normals of the view's sides, (half_w, -1, 0) and so on.
    norm_w, norm_h = 1.0 / np.sqrt(1.0 + half_w * half_w), 1.0 / np.sqrt(1.0 + half_h * half_h)
    cut = samples.cut
    for k in range(len(triangles.ball)):
        dx, dy, dz = triangles.ball[k, 0] - view.x, triangles.ball[k, 1] - view.y, triangles.ball[k, 2] - view.z
        radius = triangles.ball[k, 3]
        depth = dx * view.fx + dy * view.fy + dz * view.fz
        if depth < NEAR - radius or depth > triangles.limit[k]:
            continue
        right = abs(dx * view.rx + dy * view.ry + dz * view.rz)
        above = abs(dx * view.ux + dy * view.uy + dz * view.uz)
        if (depth * half_w - right) * norm_w < -radius or (depth * half_h - above) * norm_h < -radius:
            continue
        first, end = triangles.near[k, 0], triangles.near[k, 1]
        if depth >= triangles.reach[k]:
            first, end = triangles.far[k, 0], triangles.far[k, 1]
        for t in range(first, end):
            facing = (
                triangles.normal[t, 0] * (triangles.corner[t, 0, 0] - view.x)
                + triangles.normal[t, 1] * (triangles.corner[t, 0, 1] - view.y)
                + triangles.normal[t, 2] * (triangles.corner[t, 0, 2] - view.z)
            )
            if facing < 0.0:
                samples.drawn[count] = offset + t
                for i in range(1, _project(view, triangles.corner[t], cut) - 1):
                    _fill(
                        cut[0, 0], cut[0, 1], cut[0, 2], cut[i, 0], cut[i, 1], cut[i, 2], cut[i + 1, 0], cut[i + 1, 1],
                        cut[i + 1, 2], samples, count, 0,
                    )  # fmt: skip
                count += 1
    return count


@inlined
def draw_shadow(view: View, polygon: NDArray[np.float32], samples: Samples, strength: int) -> None:
    """Darkens what a convex polygon (N, 3) of at most 15 corners covers; the ground alone heeds it."""
    cut = samples.cut
    for i in range(1, _project(view, polygon, cut) - 1):
        _fill(
            cut[0, 0], cut[0, 1], cut[0, 2], cut[i, 0], cut[i, 1], cut[i, 2], cut[i + 1, 0], cut[i + 1, 1],
            cut[i + 1, 2], samples, -1, strength,
        )  # fmt: skip


@inlined
def _project(view: View, corner: NDArray[np.float32], cut: NDArray[np.float64]) -> int:
    """Cuts a convex polygon at the near plane and projects it: its new corners go to `cut`, their number is returned.

    A row of `cut` is column, row (in samples) and nearness.
    """
    kept = 0
    scale = view.focal * view.supersampling
    middle_x, middle_y = view.width * view.supersampling / 2.0, view.height * view.supersampling / 2.0
    px, py, pz = _to_camera(view, corner[len(corner) - 1])
    for i in range(len(corner)):
        x, y, z = _to_camera(view, corner[i])
        if (x >= NEAR) != (px >= NEAR):
            share = (NEAR - px) / (x - px)
            cut[kept, 0] = middle_x + scale * (py + share * (y - py)) / NEAR
            cut[kept, 1] = middle_y - scale * (pz + share * (z - pz)) / NEAR
            cut[kept, 2] = 1.0 / NEAR
            kept += 1
        if x >= NEAR:
            inverse = 1.0 / x
            cut[kept, 0], cut[kept, 1] = middle_x + scale * y * inverse, middle_y - scale * z * inverse
            cut[kept, 2] = inverse
            kept += 1
        px, py, pz = x, y, z
    return kept


@inlined
def _to_camera(view: View, point: NDArray[np.float32]) -> tuple[float, float, float]:
    dx, dy, dz = point[0] - view.x, point[1] - view.y, point[2] - view.z
    return (
        dx * view.fx + dy * view.fy + dz * view.fz,
        dx * view.rx + dy * view.ry + dz * view.rz,
        dx * view.ux + dy * view.uy + dz * view.uz,
    )


@inlined
def _fill(
    ax: float, ay: float, az: float, bx: float, by: float, bz: float, cx: float, cy: float, cz: float,
    samples: Samples, number: int, shadow: int,
) -> None:  # fmt: skip
    """Fills one projected triangle row by row; a sample belongs to it when its middle lies inside."""
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if area == 0.0:
        return
    if area < 0.0:
        bx, by, bz, cx, cy, cz = cx, cy, cz, bx, by, bz
        area = -area
    height, width = samples.nearness.shape
    top, bottom = max(0, int(np.ceil(min(ay, by, cy) - 0.5))), min(height, int(np.ceil(max(ay, by, cy) - 0.5)))
    left, right = max(0, int(np.ceil(min(ax, bx, cx) - 0.5))), min(width, int(np.ceil(max(ax, bx, cx) - 0.5)))
    if top >= bottom or left >= right:
        return
    slope_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) / area
    slope_y = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) / area
    for row in range(top, bottom):
        y = row + 0.5
        low, high = float(left), float(right)
        for edge in range(3):
            if edge == 0:
                x0, y0, x1, y1 = ax, ay, bx, by
            elif edge == 1:
                x0, y0, x1, y1 = bx, by, cx, cy
            else:
                x0, y0, x1, y1 = cx, cy, ax, ay
            rise = y1 - y0
            if rise == 0.0:
                continue
            at = x0 + (y - y0) * (x1 - x0) / rise
            if rise > 0.0:
                high = min(high, at)
            else:
                low = max(low, at)
        start, end = max(left, int(np.ceil(low - 0.5))), min(right, int(np.ceil(high - 0.5)))
        if shadow:
            for column in range(start, end):
                samples.shadow[row, column] = max(samples.shadow[row, column], shadow)
            continue
        nearness = az + (start + 0.5 - ax) * slope_x + (y - ay) * slope_y
        for column in range(start, end):
            if nearness > samples.nearness[row, column]:
                samples.nearness[row, column] = nearness
                samples.seen[row, column] = number
            nearness += slope_x
