"""Rotations in Unreal's convention: left-handed, degrees, yaw clockwise, pitch nose up, roll to the right."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suites.carla.server.protocol.wire import Rotation, Transform, Vector


def matrix(rotation: Rotation) -> NDArray[np.float64]:
    """(3, 3): its columns are the forward, right and up vectors."""
    pitch, yaw, roll = (math.radians(angle) for angle in rotation)
    cp, sp, cy, sy, cr, sr = (
        math.cos(pitch),
        math.sin(pitch),
        math.cos(yaw),
        math.sin(yaw),
        math.cos(roll),
        math.sin(roll),
    )
    return np.array([
        [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
        [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
        [sp, -cp * sr, cp * cr],
    ])  # fmt: skip


def rotation_of(axes: NDArray[np.float64]) -> Rotation:
    """The rotation of a matrix as `matrix` makes them."""
    pitch = math.asin(min(1.0, max(-1.0, float(axes[2, 0]))))
    yaw, roll = math.atan2(axes[1, 0], axes[0, 0]), math.atan2(-axes[2, 1], axes[2, 2])
    return Rotation(math.degrees(pitch), math.degrees(yaw), math.degrees(roll))


def compose(parent: Transform, child: Transform) -> Transform:
    """The world transform of `child`, given in the frame of `parent`."""
    axes = matrix(parent.rotation)
    x, y, z = axes @ np.array(child.location) + np.array(parent.location)
    if child.rotation == Rotation():
        return Transform(Vector(float(x), float(y), float(z)), parent.rotation)
    return Transform(Vector(float(x), float(y), float(z)), rotation_of(axes @ matrix(child.rotation)))


def into_frame(frame: Transform, point: Vector) -> Vector:
    """A world point in the coordinates of `frame`."""
    x, y, z = matrix(frame.rotation).T @ (np.array(point) - np.array(frame.location))
    return Vector(float(x), float(y), float(z))


def ahead(yaw: float, speed: float) -> Vector:
    """A horizontal velocity of that heading in degrees."""
    return Vector(speed * math.cos(math.radians(yaw)), speed * math.sin(math.radians(yaw)), 0.0)
