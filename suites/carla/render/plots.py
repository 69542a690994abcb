"""Which ground is still free to put scenery on: a grid of square metres."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import GRASS, Ground, locate
from suites.carla.maps.jit import compiled
from suites.carla.maps.road_map import RoadMap

BESIDE = 130.0  # metres around the lanes that scenery may reach
MOST_CELLS = 4_000_000


class Plots:
    """Free and taken ground. Everything that is not grass is taken from the start, with a metre around it."""

    def __init__(self, road_map: RoadMap) -> None:
        points = np.concatenate([lane.centre[:, :2] for lane in road_map.lanes])
        self.low = points.min(axis=0) - BESIDE
        self.high = points.max(axis=0) + BESIDE
        self.cell = max(1.0, math.sqrt(float(np.prod(self.high - self.low)) / MOST_CELLS))
        columns, rows = (math.ceil(side / self.cell) for side in self.high - self.low)
        kinds = np.empty((rows, columns), np.uint8)
        _kinds(road_map.ground, float(self.low[0]), float(self.low[1]), self.cell, kinds)
        self.taken = _grown(kinds != GRASS)
        self._road_map = road_map

    def is_free(self, x: float, y: float) -> bool:
        column, row = int((x - self.low[0]) // self.cell), int((y - self.low[1]) // self.cell)
        rows, columns = self.taken.shape
        return 0 <= column < columns and 0 <= row < rows and not self.taken[row, column]

    def from_road(self, x: float, y: float) -> float:
        """Metres from the middle of the nearest driving lane."""
        lane, s, _ = self._road_map.nearest_lane(x, y)
        near = self._road_map.lanes[lane]
        at = (np.interp(s, near.s, near.centre[:, 0]), np.interp(s, near.s, near.centre[:, 1]))
        return math.hypot(x - at[0], y - at[1])

    def take(self, x: float, y: float, yaw: float, half_length: float, half_width: float) -> bool:
        """Takes an oriented rectangle (yaw in radians) when all of it is free; says whether it did."""
        a = np.arange(-half_length, half_length + self.cell / 2, self.cell / 2)
        b = np.arange(-half_width, half_width + self.cell / 2, self.cell / 2)
        along, across = (grid.ravel() for grid in np.meshgrid(a, b))
        cos, sin = math.cos(yaw), math.sin(yaw)
        column = ((x + along * cos - across * sin - self.low[0]) // self.cell).astype(int)
        row = ((y + along * sin + across * cos - self.low[1]) // self.cell).astype(int)
        rows, columns = self.taken.shape
        if column.min() < 0 or row.min() < 0 or column.max() >= columns or row.max() >= rows:
            return False
        if self.taken[row, column].any():
            return False
        self.taken[row, column] = True
        return True


@compiled
def _kinds(ground: Ground, x0: float, y0: float, cell: float, out: NDArray[np.uint8]) -> None:
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            out[row, column] = locate(ground, x0 + (column + 0.5) * cell, y0 + (row + 0.5) * cell)[0]


def _grown(taken: NDArray[np.bool_]) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = taken.copy()
    out[1:] |= taken[:-1]
    out[:-1] |= taken[1:]
    grown: NDArray[np.bool_] = out.copy()
    grown[:, 1:] |= out[:, :-1]
    grown[:, :-1] |= out[:, 1:]
    return grown
