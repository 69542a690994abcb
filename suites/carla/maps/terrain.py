"""The height of the ground: level across each road, as its elevation says, and smooth between and beside the roads.

A grid of heights, interpolated: the terrain without kerbs. On a map whose roads have no slopes it is flat and costs
nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import Ground
from suites.carla.maps.jit import compiled, inlined

Heights = NDArray[np.float64]
CELL = 2.0  # metres; doubled until the grid has at most MAX_NODES
MAX_NODES = 1_000_000
BEYOND = 150.0  # metres around the roads after which the ground is level again
SHOULDER = 1.0  # metres beside a road that keep its height
BRIDGE = 1.0  # metres by which two roads may differ where they overlap
SMOOTHING = 30  # rounds of averaging at each size of the grid
NEAREST, GROWTH = 0.1, 0.03  # a line of sight is followed in steps of at least this: metres, and share of the distance


def raise_ground(ground: Ground, row_z: Heights) -> Ground:
    """The ground with the terrain of its roads. row_z: height of each cross-section.

    Raises ValueError where one road passes over another.
    """
    if not row_z.any():
        return ground
    base = float(row_z.min())
    x0, y0 = ground.x0 - BEYOND, ground.y0 - BEYOND
    width, height = ground.columns * ground.cell + 2 * BEYOND, ground.lines * ground.cell + 2 * BEYOND
    cell = CELL
    while (width / cell + 2) * (height / cell + 2) > MAX_NODES:
        cell *= 2.0
    shape = (math.ceil(height / cell) + 1, math.ceil(width / cell) + 1)
    level, clash = np.full(shape, np.nan), np.zeros(3)
    _pin(ground, row_z, x0, y0, cell, level, clash)
    if clash[0] > BRIDGE:
        raise ValueError(
            f"roads pass over each other at x={clash[1]:.0f}, y={clash[2]:.0f}, {clash[0]:.1f} m apart, but the ground "
            "of the embedded server has one height at each place; leave out one of them"
        )
    level[0], level[-1], level[:, 0], level[:, -1] = base, base, base, base
    level = _filled(level)
    rise, run = np.abs(np.diff(level, axis=0)).max(), np.abs(np.diff(level, axis=1)).max()
    return ground._replace(
        hilly=True, level=level.astype(np.float32), level_x0=x0, level_y0=y0, level_cell=cell,
        top=float(level.max()), steepest=float(np.hypot(rise, run)) / cell,
    )  # fmt: skip


@compiled
def _pin(ground: Ground, row_z: Heights, x0: float, y0: float, size: float, level: Heights, clash: Heights) -> None:
    """Sets the nodes on roads and just beside them. clash: the most that two roads differ by at a node, and where."""
    for j in range(level.shape[0]):
        for i in range(level.shape[1]):
            x, y = x0 + i * size, y0 + j * size
            column, line = int((x - ground.x0) // ground.cell), int((y - ground.y0) // ground.cell)
            if column < 0 or line < 0 or column >= ground.columns or line >= ground.lines:
                continue
            cell = line * ground.columns + column
            dx = x - ground.x0 - (column + 0.5) * ground.cell
            dy = y - ground.y0 - (line + 0.5) * ground.cell
            total, count, low, high = 0.0, 0, np.inf, -np.inf
            for entry in range(ground.first[cell], ground.first[cell + 1]):
                road = ground.road[entry]
                if road < 0:
                    continue
                c, d = ground.frame[entry, 2], ground.frame[entry, 3]
                s = ground.frame[entry, 0] + dx * c + dy * d
                t = ground.frame[entry, 1] - dx * d + dy * c
                at = min(max(s / ground.step[road], 0.0), ground.rows[road] - 1.0)
                k = min(int(at), ground.rows[road] - 2)
                row = ground.row0[road] + k
                if t < ground.border[row, 0] - SHOULDER or t > ground.border[row, ground.slots[row]] + SHOULDER:
                    continue
                z = row_z[row] + (at - k) * (row_z[row + 1] - row_z[row])
                total, count, low, high = total + z, count + 1, min(low, z), max(high, z)
            if count:
                level[j, i] = total / count
                if high - low > clash[0]:
                    clash[0], clash[1], clash[2] = high - low, x, y


def _filled(level: Heights) -> Heights:
    """The heights with those that are NaN put in between the others: coarse ones first, then finer, each smoothed."""
    open_ = np.isnan(level)
    if min(level.shape) < 3 or not open_.any():
        return np.where(open_, np.nanmean(level), level)
    rows, columns = level.shape
    padded = np.pad(level, ((0, rows % 2), (0, columns % 2)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    known = ~np.isnan(blocks)
    count = known.sum(axis=(1, 3))
    coarse = np.where(count > 0, np.where(known, blocks, 0.0).sum(axis=(1, 3)) / np.maximum(count, 1), np.nan)
    guess = _filled(coarse).repeat(2, axis=0).repeat(2, axis=1)[:rows, :columns]
    out = np.where(open_, guess, level)
    for _ in range(SMOOTHING):
        around = np.pad(out, 1, mode="edge")
        mean = (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4.0
        out = np.where(open_, mean, level)
    return np.asarray(out, np.float64)


@inlined
def level_at(ground: Ground, x: float, y: float) -> float:
    """Height of the terrain at (x, y) in metres, without kerbs."""
    if not ground.hilly:
        return 0.0
    rows, columns = ground.level.shape
    u = min(max((x - ground.level_x0) / ground.level_cell, 0.0), columns - 1.0 - 1e-9)
    v = min(max((y - ground.level_y0) / ground.level_cell, 0.0), rows - 1.0 - 1e-9)
    i, j = int(u), int(v)
    a, b = u - i, v - j
    near = ground.level[j, i] * (1.0 - a) + ground.level[j, i + 1] * a
    far = ground.level[j + 1, i] * (1.0 - a) + ground.level[j + 1, i + 1] * a
    return float(near * (1.0 - b) + far * b)


@inlined
def slope_at(ground: Ground, x: float, y: float) -> tuple[float, float]:
    """How much the terrain rises along x and along y, metres per metre."""
    if not ground.hilly:
        return 0.0, 0.0
    half = 0.5 * ground.level_cell
    along = level_at(ground, x + half, y) - level_at(ground, x - half, y)
    across = level_at(ground, x, y + half) - level_at(ground, x, y - half)
    return along / ground.level_cell, across / ground.level_cell


@inlined
def reaches(
    ground: Ground, x0: float, y0: float, z0: float, dx: float, dy: float, dz: float, lift: float, most: float
) -> float:
    """Where a line from above the terrain meets it, in multiples of (dx, dy, dz); inf when not before `most` of them.

    lift: metres by which all of the terrain is taken to be higher.
    """
    flat = np.sqrt(dx * dx + dy * dy)
    closing = ground.steepest * flat - dz  # the fastest that the terrain can come nearer
    above = z0 - level_at(ground, x0, y0) - lift
    if above <= 0.0 or closing <= 0.0:
        return np.inf
    scale = 1.0 / np.sqrt(flat * flat + dz * dz)
    at = 0.0
    while at < most:
        after = at + max(above / closing, NEAREST * scale + GROWTH * at)
        if dz > 0.0 and z0 + after * dz > ground.top + lift:
            return np.inf
        height = z0 + after * dz - level_at(ground, x0 + after * dx, y0 + after * dy) - lift
        if height > 0.0:
            at, above = after, height
            continue
        low, high = at, after
        for _ in range(12):
            middle = low + (high - low) * above / (above - height) if above - height > 1e-9 else high
            middle = min(max(middle, low + 0.05 * (high - low)), high - 0.05 * (high - low))
            h = z0 + middle * dz - level_at(ground, x0 + middle * dx, y0 + middle * dy) - lift
            if h > 0.0:
                low, above = middle, h
            else:
                high, height = middle, h
            if high - low < 1e-4 * (1.0 + high):
                break
        return high if high < most else np.inf
    return np.inf


@compiled
def terrain_height(ground: Ground, x: float, y: float) -> float:
    """`level_at` for Python."""
    return level_at(ground, x, y)


@compiled
def terrain_slope(ground: Ground, x: float, y: float) -> tuple[float, float]:
    """`slope_at` for Python."""
    return slope_at(ground, x, y)
