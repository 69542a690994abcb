"""What the ground is at a point: a grid of cells that know which roads pass, and each road's cross-sections.

A cell does not hold a colour: it holds the road coordinates (s, t) of its middle and the road's heading there. Within
a quarter of a metre those are linear, so that a border or a marking is found exactly however close one looks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import compiled, inlined

KERB_HEIGHT = 0.12  # metres
GRASS, DRIVING, PARKING, SHOULDER, SIDEWALK, VERGE = 0, 1, 2, 3, 4, 5
# A point that several roads claim (in a junction) belongs to the kind that ranks highest; a junction's uncovered
# middle gives way to kerbs but not to grass.
RANK = np.array((1, 7, 6, 5, 4, 3), np.int64)
RANK_MIDDLE = 2
CROSSING, STOP_RIGHT, STOP_LEFT = 1, 2, 4  # flags of a cross-section


class Ground(NamedTuple):
    """Cells and cross-sections; t is positive to the right of the reference line, as CARLA's y.

    first: int32 (cells + 1,): entries of a cell are `first[cell] : first[cell + 1]`; cell = line * columns + column.
    road: int32 (E,) index of the road, -1 for asphalt inside a junction that no lane covers.
    frame: float32 (E, 4): s, t, cos and sin of the road's heading at the middle of the cell.
    row0, rows: int32 (roads,), step: float32 (roads,): a road's cross-sections are row0 + (0 .. rows - 1), step apart.
    slots: int32 (R,) lanes of a cross-section; part: int32 (R,) its lane section.
    border: float32 (R, B) metres, ascending; kind: uint8 (R, B), code of the lane to the right of that border.
    mark: uint8 (R, B): index in MARKINGS, + 8 when yellow; mark_width: float32 (R, B). flag: uint8 (R,).
    kerb: metres by which everything but roads is raised.
    hilly: whether the ground has slopes; level: float32 (M, N), heights of the terrain without kerbs at nodes
    `level_cell` metres apart, the first at (level_x0, level_y0); top: the highest; steepest: metres per metre.
    """

    x0: float
    y0: float
    cell: float
    columns: int
    lines: int
    kerb: float
    first: NDArray[np.int32]
    road: NDArray[np.int32]
    frame: NDArray[np.float32]
    row0: NDArray[np.int32]
    rows: NDArray[np.int32]
    step: NDArray[np.float32]
    slots: NDArray[np.int32]
    part: NDArray[np.int32]
    border: NDArray[np.float32]
    kind: NDArray[np.uint8]
    mark: NDArray[np.uint8]
    mark_width: NDArray[np.float32]
    flag: NDArray[np.uint8]
    hilly: bool
    level: NDArray[np.float32]
    level_x0: float
    level_y0: float
    level_cell: float
    top: float
    steepest: float


@inlined
def locate(ground: Ground, x: float, y: float) -> tuple[int, int, int, float, float, float, float]:
    """The ground at (x, y) in metres: kind, cross-section row, slot, s, t, cos and sin of the road's heading.

    Where no road is near, the row is -1. In a junction's uncovered middle the kind is DRIVING and the row -1.
    """
    u, v = (x - ground.x0) / ground.cell, (y - ground.y0) / ground.cell
    best_rank, kind, row, slot = -1, GRASS, -1, -1
    s, t, cos, sin = np.float32(0.0), np.float32(0.0), np.float32(1.0), np.float32(0.0)
    if not (u >= 0.0 and v >= 0.0 and u < ground.columns and v < ground.lines):
        return kind, row, slot, s, t, cos, sin
    column, line = int(u), int(v)
    cell = line * ground.columns + column
    dx, dy = np.float32((u - column - 0.5) * ground.cell), np.float32((v - line - 0.5) * ground.cell)
    for entry in range(ground.first[cell], ground.first[cell + 1]):
        road = ground.road[entry]
        if road < 0:
            if best_rank < RANK_MIDDLE:
                best_rank, kind, row, slot = RANK_MIDDLE, DRIVING, -1, -1
            continue
        c, d = ground.frame[entry, 2], ground.frame[entry, 3]
        at_s = ground.frame[entry, 0] + dx * c + dy * d
        at_t = ground.frame[entry, 1] - dx * d + dy * c
        at_row = ground.row0[road] + min(max(int(at_s / ground.step[road] + 0.5), 0), ground.rows[road] - 1)
        at_slot = slot_of(ground, at_row, at_t)
        at_kind = GRASS if at_slot < 0 else int(ground.kind[at_row, at_slot])
        rank = 0 if at_slot < 0 else RANK[at_kind]
        if rank > best_rank:
            best_rank, kind, row, slot, s, t, cos, sin = rank, at_kind, at_row, at_slot, at_s, at_t, c, d
            if kind == DRIVING:
                break
    return kind, row, slot, s, t, cos, sin


@inlined
def slot_of(ground: Ground, row: int, t: float) -> int:
    """The lane of a cross-section that holds t, counted from the left; -1 outside the road."""
    if t < ground.border[row, 0]:
        return -1
    for slot in range(ground.slots[row]):
        if t < ground.border[row, slot + 1]:
            return slot
    return -1


@compiled
def kind_at(ground: Ground, x: float, y: float) -> int:
    """The code of the ground at (x, y) in metres."""
    return locate(ground, x, y)[0]
