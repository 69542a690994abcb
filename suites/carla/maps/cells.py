"""Builds `Ground`: stamps every road's cross-sections into the grid of cells."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.cross_sections import cut
from suites.carla.maps.ground import DRIVING, KERB_HEIGHT, SIDEWALK, Ground, slot_of
from suites.carla.maps.jit import compiled
from suites.carla.maps.junction_hulls import junction_hulls
from suites.carla.maps.opendrive import Network
from suites.carla.maps.terrain import raise_ground

CELL = 0.5  # metres; doubled until the grid has at most MAX_CELLS
MAX_CELLS = 6_000_000
MARGIN = 1.0  # metres beyond a road's outer borders that its cells reach


def build(network: Network) -> Ground:
    """The ground of a road network."""
    roads = list(network.roads.values())
    columns = max(len(section.lanes) for road in roads for section in road.sections)
    tables = [cut(road, columns) for road in roads]
    rows = np.array([len(table.slots) for table in tables], np.int32)
    kind = np.concatenate([table.kind for table in tables])
    line = np.concatenate([table.line for table in tables])
    border = np.concatenate([table.border for table in tables])
    x0, y0, cell, cells_x, cells_y = _extent(line, border)
    empty = Ground(
        x0=x0,
        y0=y0,
        cell=cell,
        columns=cells_x,
        lines=cells_y,
        kerb=KERB_HEIGHT if bool((kind == SIDEWALK).any()) else 0.0,
        first=np.zeros(cells_x * cells_y + 1, np.int32),
        road=np.zeros(0, np.int32),
        frame=np.zeros((0, 4), np.float32),
        row0=(np.cumsum(rows) - rows).astype(np.int32),
        rows=rows,
        step=np.array([table.step for table in tables], np.float32),
        slots=np.concatenate([table.slots for table in tables]),
        part=np.concatenate([table.part for table in tables]),
        border=border,
        kind=kind,
        mark=np.concatenate([table.mark for table in tables]),
        mark_width=np.concatenate([table.mark_width for table in tables]),
        flag=np.concatenate([table.flag for table in tables]),
        hilly=False,
        level=np.zeros((1, 1), np.float32),
        level_x0=0.0,
        level_y0=0.0,
        level_cell=1.0,
        top=0.0,
        steepest=0.0,
    )
    flat = _with_entries(empty, line, junction_hulls(network))
    return raise_ground(flat, np.concatenate([table.z for table in tables]))


def _extent(line: NDArray[np.float64], border: NDArray[np.float32]) -> tuple[float, float, float, int, int]:
    reach = float(np.abs(border).max()) + MARGIN + 2.0
    x0, y0 = line[:, :2].min(axis=0) - reach
    width, height = line[:, :2].max(axis=0) + reach - (x0, y0)
    cell = CELL
    while math.ceil(width / cell) * math.ceil(height / cell) > MAX_CELLS:
        cell *= 2.0
    return float(x0), float(y0), cell, math.ceil(width / cell), math.ceil(height / cell)


def _with_entries(ground: Ground, line: NDArray[np.float64], hulls: list[NDArray[np.float64]]) -> Ground:
    """Counts the entries of each cell, then writes them: driving lanes first, as most look-ups end there."""
    cells = ground.columns * ground.lines
    count = np.zeros(cells + 1, np.int32)
    no_road, no_frame = ground.road, ground.frame
    for driving in (True, False):
        _stamp(ground, line, driving, count, no_road, no_frame, False)
    for hull in hulls:
        _stamp_hull(ground, hull, *_cell_range(ground, hull), count, no_road, False)
    first = np.concatenate([[0], np.cumsum(count[:-1])]).astype(np.int32)
    road, frame = np.empty(first[-1], np.int32), np.zeros((first[-1], 4), np.float32)
    cursor = first.copy()
    for driving in (True, False):
        _stamp(ground, line, driving, cursor, road, frame, True)
    for hull in hulls:
        _stamp_hull(ground, hull, *_cell_range(ground, hull), cursor, road, True)
    return ground._replace(first=first, road=road, frame=frame)


@compiled
def _stamp(
    ground: Ground,
    line: NDArray[np.float64],
    driving: bool,
    cursor: NDArray[np.int32],
    road: NDArray[np.int32],
    frame: NDArray[np.float32],
    write: bool,
) -> None:
    """Counts (or writes) an entry for each cell whose middle a road covers, with a driving lane or with anything else.

    A cell belongs to the piece between two cross-sections whose normals it lies between.
    """
    for index in range(len(ground.row0)):
        for k in range(ground.rows[index] - 1):
            row = ground.row0[index] + k
            last_border = ground.border[row, ground.slots[row]]
            low, high = ground.border[row, 0] - MARGIN, last_border + MARGIN
            ax, ay, ac, ad = line[row, 0], line[row, 1], line[row, 2], line[row, 3]
            bx, by, bc, bd = line[row + 1, 0], line[row + 1, 1], line[row + 1, 2], line[row + 1, 3]
            xs = (ax - low * ad, ax - high * ad, bx - low * bd, bx - high * bd)
            ys = (ay + low * ac, ay + high * ac, by + low * bc, by + high * bc)
            for j in range(
                max(0, int((min(ys) - ground.y0) / ground.cell - 0.5)),
                min(ground.lines - 1, int((max(ys) - ground.y0) / ground.cell + 0.5)) + 1,
            ):
                y = ground.y0 + (j + 0.5) * ground.cell
                for i in range(
                    max(0, int((min(xs) - ground.x0) / ground.cell - 0.5)),
                    min(ground.columns - 1, int((max(xs) - ground.x0) / ground.cell + 0.5)) + 1,
                ):
                    x = ground.x0 + (i + 0.5) * ground.cell
                    before = (x - ax) * ac + (y - ay) * ad
                    after = (x - bx) * bc + (y - by) * bd
                    reach = ground.cell if k == 0 else 0.0
                    beyond = ground.cell if k == ground.rows[index] - 2 else 0.0
                    if before < -reach or after >= beyond:
                        continue
                    share = before / (before - after)
                    c, d = ac + share * (bc - ac), ad + share * (bd - ad)
                    norm = 1.0 / np.sqrt(c * c + d * d)
                    c, d = c * norm, d * norm
                    px, py = ax + share * (bx - ax), ay + share * (by - ay)
                    t = -(x - px) * d + (y - py) * c
                    if t < low or t > high:
                        continue
                    slot = slot_of(ground, row, t)
                    if (slot >= 0 and ground.kind[row, slot] == DRIVING) != driving:
                        continue
                    cell = j * ground.columns + i
                    if write:
                        at = cursor[cell]
                        road[at] = index
                        frame[at, 0] = (k + share) * ground.step[index]
                        frame[at, 1], frame[at, 2], frame[at, 3] = t, c, d
                    cursor[cell] += 1


def _cell_range(ground: Ground, hull: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """First and last column and line of the cells around a hull."""
    (x0, y0), (x1, y1) = hull.min(axis=0), hull.max(axis=0)
    left, right = (int((x - ground.x0) / ground.cell) for x in (x0, x1))
    top, bottom = (int((y - ground.y0) / ground.cell) for y in (y0, y1))
    return left, right, top, bottom


@compiled
def _stamp_hull(
    ground: Ground, hull: NDArray[np.float64], left: int, right: int, top: int, bottom: int,
    cursor: NDArray[np.int32], road: NDArray[np.int32], write: bool,
) -> None:  # fmt: skip
    """Counts (or writes) an entry for each cell whose middle lies in the convex hull of a junction."""
    for j in range(top, bottom + 1):
        y = ground.y0 + (j + 0.5) * ground.cell
        for i in range(left, right + 1):
            x = ground.x0 + (i + 0.5) * ground.cell
            inside = True
            for e in range(len(hull)):
                f = e + 1 if e + 1 < len(hull) else 0
                turn = (hull[f, 0] - hull[e, 0]) * (y - hull[e, 1]) - (hull[f, 1] - hull[e, 1]) * (x - hull[e, 0])
                inside = inside and turn >= 0.0
            if inside:
                cell = j * ground.columns + i
                if write:
                    road[cursor[cell]] = -1
                cursor[cell] += 1
