"""The nearest driving lane to a point: a grid over the pieces of all centre lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import compiled
from suites.carla.maps.roads import Lane

CELL = 8.0  # metres


class LaneGrid(NamedTuple):
    """Pieces of the driving lanes' centre lines, by the grid cell of their middles.

    point: float64 (P, 4) x, y, s, lane id; piece i goes from point i to i + 1. first: int64 (cells + 1,), piece:
    int64: the pieces of a cell are `piece[first[cell] : first[cell + 1]]`; cell = row * columns + column.
    """

    point: NDArray[np.float64]
    first: NDArray[np.int64]
    piece: NDArray[np.int64]
    x0: float
    y0: float
    columns: int
    rows: int


def lane_grid(lanes: Sequence[Lane]) -> LaneGrid:
    """The grid over all lanes of kind driving. Raises ValueError when there is none."""
    driving = [lane for lane in lanes if lane.kind == "driving"]
    if not driving:
        raise ValueError("the map has no lane of type 'driving'; at least one is needed")
    point = np.concatenate(
        [np.column_stack([lane.centre[:, :2], lane.s, np.full(len(lane.s), float(lane.id))]) for lane in driving]
    )
    start = np.flatnonzero(point[1:, 3] == point[:-1, 3])
    middle = (point[start, :2] + point[start + 1, :2]) / 2.0
    x0, y0 = middle.min(axis=0) - CELL
    column, row = ((middle - (x0, y0)) // CELL).astype(np.int64).T
    columns, rows = int(column.max()) + 2, int(row.max()) + 2
    cell = row * columns + column
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], np.arange(columns * rows + 1)).astype(np.int64)
    return LaneGrid(point, first, start[order], float(x0), float(y0), columns, rows)


@compiled
def nearest(grid: LaneGrid, x: float, y: float, yaw: float) -> tuple[int, float, float]:
    """(lane id, s, lateral) of the driving lane nearest to (x, y) in metres.

    `yaw` in degrees leaves out lanes that lead away from it by more than 90 degrees; NaN leaves out none.
    """
    column, row = int((x - grid.x0) // CELL), int((y - grid.y0) // CELL)
    cos, sin = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    best, found, at_s, lateral = np.inf, -1, 0.0, 0.0
    ring = max(0, -column, -row, column - grid.columns + 1, row - grid.rows + 1)
    last = max(abs(column), abs(row), abs(grid.columns - column), abs(grid.rows - row))
    while ring <= last:
        # A piece in this ring is no nearer than this, as pieces reach half a metre out of their middle's cell.
        if found >= 0 and best < (max(0.0, (ring - 1) * CELL)) ** 2:
            break
        for j in range(max(0, row - ring), min(grid.rows - 1, row + ring) + 1):
            edge = j == row - ring or j == row + ring
            step = 1 if edge or ring == 0 else 2 * ring
            for i in range(column - ring, column + ring + 1, step):
                if i < 0 or i >= grid.columns:
                    continue
                cell = j * grid.columns + i
                for k in range(grid.first[cell], grid.first[cell + 1]):
                    p = grid.piece[k]
                    ax, ay = grid.point[p, 0], grid.point[p, 1]
                    dx, dy = grid.point[p + 1, 0] - ax, grid.point[p + 1, 1] - ay
                    if dx * cos + dy * sin < 0.0:  # false for NaN
                        continue
                    squared = dx * dx + dy * dy
                    along = ((x - ax) * dx + (y - ay) * dy) / squared
                    along = min(1.0, max(0.0, along))
                    ex, ey = x - ax - along * dx, y - ay - along * dy
                    distance = ex * ex + ey * ey
                    if distance < best:
                        best, found = distance, int(grid.point[p, 3])
                        at_s = grid.point[p, 2] + along * (grid.point[p + 1, 2] - grid.point[p, 2])
                        lateral = (dx * (y - ay) - dy * (x - ax)) / np.sqrt(squared)
        ring += 1
    return found, at_s, lateral
