"""The state observation: what a scripted driver is told instead of pictures.

Three tables of `ROWS` rows and 7 columns, float32, in the ego's frame: x metres ahead, y metres to the right, angles in
radians clockwise; rows that nothing fills are zero.

0, the road. First row, the ego: speed (m/s), speed limit (m/s), half length, half width (m), angle of the front wheels
   at full steer at this speed (rad), distance between the axles (m), 0. Then points of the lane ahead, 4 m apart: x, y,
   heading, whether in a junction, and three zeros.
1, the nearest other vehicles, 2, the nearest pedestrians: x, y, heading, velocity along x and y over the ground (m/s),
   half length, half width.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 25, 7
SPACING = 4.0  # metres
LOST = 6.0  # metres beside the planned way at which it is planned anew


class Privileged:
    """The state of a world as seen from one ego. rng: draws the way at forks."""

    def __init__(self, world_map: Any, ego: Any, others: list[Any], rng: np.random.Generator) -> None:
        self._map, self._ego, self._rng = world_map, ego, rng
        self._others = [(other, other.type_id.startswith("walker"), other.bounding_box.extent) for other in others]
        self._extent = ego.bounding_box.extent
        physics = ego.get_physics_control()
        self._steering = np.array([(point.x, point.y) for point in physics.steering_curve])  # km/h, share of the angle
        self._wheel_angle = math.radians(max(wheel.max_steer_angle for wheel in physics.wheels))
        self._axles = 1.2 * self._extent.x  # of a car's length
        self._way: deque[tuple[float, float, float, float]] = deque()  # x, y, yaw (rad), in a junction
        self._end: Any = None  # the way's last waypoint

    def look(self) -> NDArray[np.float32]:
        """The three tables, float32 (3, 25, 7)."""
        place, velocity = self._ego.get_transform(), self._ego.get_velocity()
        self._plan(place.location)
        yaw = math.radians(place.rotation.yaw)
        here = np.array([place.location.x, place.location.y])
        turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])  # world to ego, rows
        tables = np.zeros((3, ROWS, COLUMNS), np.float32)
        speed = math.hypot(velocity.x, velocity.y)
        reach = self._wheel_angle * float(np.interp(speed * 3.6, self._steering[:, 0], self._steering[:, 1]))
        limit = self._ego.get_speed_limit() / 3.6
        tables[0, 0] = speed, limit, self._extent.x, self._extent.y, reach, self._axles, 0.0
        way = np.array(list(self._way)[: ROWS - 1]).reshape(-1, 4)
        tables[0, 1 : len(way) + 1, :2] = (way[:, :2] - here) @ turn
        tables[0, 1 : len(way) + 1, 2] = _wrapped(way[:, 2] - yaw)
        tables[0, 1 : len(way) + 1, 3] = way[:, 3]
        rows: tuple[list[Any], list[Any]] = ([], [])
        for other, is_walker, extent in self._others:
            at, moves = other.get_transform(), other.get_velocity()
            row = (at.location.x, at.location.y, math.radians(at.rotation.yaw), moves.x, moves.y, extent.x, extent.y)
            rows[is_walker].append(row)
        for table, found in zip(tables[1:], rows, strict=True):
            seen = np.array(found, np.float64).reshape(-1, COLUMNS)
            seen[:, :2] = (seen[:, :2] - here) @ turn
            seen[:, 2] = _wrapped(seen[:, 2] - yaw)
            seen[:, 3:5] = seen[:, 3:5] @ turn
            nearest = np.argsort(np.hypot(seen[:, 0], seen[:, 1]), kind="stable")[:ROWS]
            table[: len(nearest)] = seen[nearest]
        return tables

    def _plan(self, here: Any) -> None:
        """Drops the points behind the ego and adds points ahead."""
        while len(self._way) > 1 and _squared(self._way[1], here) <= _squared(self._way[0], here):
            self._way.popleft()
        if not self._way or _squared(self._way[0], here) > LOST**2:
            self._way.clear()
            self._append(self._map.get_waypoint(here))
        while len(self._way) < ROWS:
            ahead = self._end.next(SPACING)
            if not ahead:
                break
            self._append(ahead[int(self._rng.integers(len(ahead)))])

    def _append(self, waypoint: Any) -> None:
        self._end, place = waypoint, waypoint.transform
        point = place.location.x, place.location.y, math.radians(place.rotation.yaw), float(waypoint.is_junction)
        self._way.append(point)


def _squared(point: tuple[float, float, float, float], here: Any) -> float:
    return float((point[0] - here.x) ** 2 + (point[1] - here.y) ** 2)


def _wrapped(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    wrapped: NDArray[np.float64] = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped
