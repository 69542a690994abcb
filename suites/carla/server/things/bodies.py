"""The moving things of the world, one row each of one table that compiled code steps and everybody reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VEHICLE, WALKER, PROP = range(3)
CURVE_POINTS = 8  # of the torque and steering curves
GEARS = 10

_POSE = ["x", "y", "z", "roll", "pitch", "yaw"]  # metres, degrees
_MOTION = ["vx", "vy", "vz", "yaw_rate", "ax", "ay", "az"]  # m/s, deg/s, m/s2, all in the world frame
# The oriented box: half sizes, and where its centre lies from the actor's origin (forward and up).
_SHAPE = ["half_x", "half_y", "half_z", "box_x", "box_z", "mass", "inertia"]
# Height of the ground below, how it rises along x and y, and height of the origin above it when standing.
_GROUND = ["ground", "slope_x", "slope_y", "stand"]
_CONTROL = ["throttle", "steer", "brake", "walk_x", "walk_y", "walk_speed"]
_HELD = ["held_x", "held_y", "held_z"]  # constant velocity in the actor's frame, m/s
# wheel: front wheels' angle in radians; shift: seconds of a gear change left; down: seconds a walker stays down.
_STATE = ["wheel", "rpm", "shift", "down", "travelled", "vx_before", "vy_before", "vz_before"]
_VEHICLE = [
    "front", "rear",  # metres from the centre of mass to the axles
    "grip_front", "grip_rear",  # friction coefficients
    "max_steer", "radius",  # radians, metres
    "brake_torque", "hand_brake_torque",  # Nm, all wheels together
    "drag",  # N per (m/s)2
    "max_rpm", "final_ratio", "gear_time", "engine_drag",
]  # fmt: skip

BODY = np.dtype(
    [(name, "f8") for name in (*_POSE, *_MOTION, *_SHAPE, *_GROUND, *_CONTROL, *_HELD, *_STATE, *_VEHICLE)]
    + [(name, "i8") for name in ("kind", "gear", "wanted_gear", "gears", "torque_points", "steering_points")]
    + [(name, "?") for name in ("simulated", "collides", "gravity", "held", "jump", "hand_brake", "reverse", "manual")]
    + [(name, "?") for name in ("autobox",)]
    + [("ratios", "f8", (GEARS,)), ("up", "f8", (GEARS,)), ("down_shift", "f8", (GEARS,))]
    + [(name, "f8", (CURVE_POINTS,)) for name in ("torque_rpm", "torque", "steering_speed", "steering")]
)  # fmt: skip
# One pair of bodies that touched in a tick: rows (b = -1 - i for obstacle i), and the impulse on `a` in N s.
CONTACT = np.dtype([("a", "i8"), ("b", "i8"), ("x", "f8"), ("y", "f8"), ("z", "f8")])
# What stands still and is not an actor: an upright box, z at its foot; box_x and box_z as of a body.
OBSTACLE = np.dtype(
    [(name, "f8") for name in ("x", "y", "z", "yaw", "box_x", "box_z", "half_x", "half_y", "half_z")] + [("tag", "i8")]
)

Rows = NDArray[Any]  # a table
Row = Any  # one row; compiled code reads its fields as attributes


class Bodies:
    """A growing table of `BODY` rows, dense and in the order of creation."""

    def __init__(self) -> None:
        self._table = np.zeros(64, BODY)
        self.count = 0

    @property
    def rows(self) -> Rows:
        """The rows in use; a view, valid until the next `add` or `remove`."""
        return self._table[: self.count]

    def add(self) -> int:
        """Appends a zeroed row and returns its index."""
        if self.count == len(self._table):
            self._table = np.concatenate([self._table, np.zeros(len(self._table), BODY)])
        self._table[self.count] = np.zeros((), BODY)
        self.count += 1
        return self.count - 1

    def remove(self, row: int) -> None:
        """Removes a row; those behind it move down by one."""
        self._table[row : self.count - 1] = self._table[row + 1 : self.count].copy()
        self.count -= 1
