"""A camera as the kernels see it."""

from __future__ import annotations

import math
from typing import NamedTuple

from suites.carla.maps.roads import Pose
from suites.carla.render.scene import Camera

NEAR = 0.12  # metres: nothing nearer is drawn
LOWEST = 0.05  # metres: a camera in the ground looks from its surface
SMALL, LARGE = 4, 2  # samples across a pixel: up to SMALL_PIXELS pixels, and above
SMALL_PIXELS = 128 * 128


class View(NamedTuple):
    """Position, the unit vectors forward (f), right (r) and up (u), and the image.

    focal: pixels. supersampling: samples across a pixel for everything that stands on the ground. textured: whether
    surfaces have textures.
    """

    x: float
    y: float
    z: float
    fx: float
    fy: float
    fz: float
    rx: float
    ry: float
    rz: float
    ux: float
    uy: float
    uz: float
    width: int
    height: int
    focal: float
    supersampling: int
    textured: bool


def view_of(camera: Camera, ground: float = 0.0) -> View:
    """The view of a camera; the matrix is Unreal's: roll, then pitch, then yaw, in a left-handed frame.

    ground: height of the terrain below it. Raises ValueError for a pose that is not finite.
    """
    pose = camera.pose
    if not all(map(math.isfinite, (pose.x, pose.y, pose.z, pose.roll, pose.pitch, pose.yaw))):
        raise ValueError(f"the camera's pose {pose} holds a number that is not finite")
    forward, right, up = axes(pose)
    focal = camera.width / (2.0 * math.tan(math.radians(camera.fov) / 2.0))
    samples = SMALL if camera.width * camera.height <= SMALL_PIXELS else LARGE
    position = (float(pose.x), float(pose.y), max(float(pose.z), ground + LOWEST))
    return View(*position, *forward, *right, *up, camera.width, camera.height, focal, samples, camera.textured)


def axes(pose: Pose) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]:
    """Forward, right and up of a pose."""
    cy, sy = math.cos(math.radians(pose.yaw)), math.sin(math.radians(pose.yaw))
    cp, sp = math.cos(math.radians(pose.pitch)), math.sin(math.radians(pose.pitch))
    cr, sr = math.cos(math.radians(pose.roll)), math.sin(math.radians(pose.roll))
    forward = (cp * cy, cp * sy, sp)
    right = (cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, -cp * sr)
    up = (-cy * sp * cr - sy * sr, -sy * sp * cr + cy * sr, cp * cr)
    return forward, right, up
