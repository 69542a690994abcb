"""The optical flow camera: how far each point in the picture moved since the camera's last picture.

Worked out from a depth picture: every pixel is put into the world, moved back with the body that it lies on, and seen
again from where the camera was. What is beside the roads stands still.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.carla.server.protocol import versions
from suites.carla.server.protocol.streams import Part
from suites.carla.server.protocol.wire import Transform
from suites.carla.server.sensors.cameras import Camera
from suites.carla.server.things.geometry import matrix
from suites.carla.server.world import World

Floats = NDArray[np.float64]
FAR = 1000.0  # metres of the deepest depth
MARGIN = 0.05  # metres around a body's box that count as it


class OpticalFlowCamera(Camera):
    """Two float32 a pixel: motion to the right and downwards, as shares of the picture's width and height."""

    number, picture = versions.OPTICAL_FLOW, "depth"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._before: Transform | None = None
        self._placed: dict[int, Transform] = {}  # every body at the last picture, by actor id
        focal = self.width / 2.0 / np.tan(np.radians(self.fov) / 2.0)
        right = (np.arange(self.width) + 0.5 - self.width / 2.0) / focal
        down = (np.arange(self.height) + 0.5 - self.height / 2.0) / focal
        self._focal = focal
        across, below = np.meshgrid(right, down)
        self._rays = np.stack([np.ones_like(across), across, -below], axis=-1).reshape(-1, 3)

    def message(self, world: World, pixels: NDArray[np.uint8] | None) -> list[Part]:
        now = self.transform(world.bodies)
        flow = np.zeros((self.height * self.width, 2), np.float32)
        if pixels is not None and self._before is not None:
            points = self._rays * _metres(pixels)[:, None] @ matrix(now.rotation).T + np.array(now.location)
            self._undo_motion(world, points)
            flow[:] = self._motion(points, self._before)
        self._before = now
        self._placed = {actor.id: actor.transform(world.bodies) for actor in world.bodied()}
        return [self.head(), flow.tobytes()]

    def _undo_motion(self, world: World, points: Floats) -> None:
        """Moves the points (N, 3) on bodies back to where they were."""
        for actor in world.bodied():
            before = self._placed.get(actor.id)
            if before is None:
                continue
            now = actor.transform(world.bodies)
            local = (points - np.array(now.location)) @ matrix(now.rotation)
            on = (np.abs(local - np.array(actor.box.location)) <= np.array(actor.box.extent) + MARGIN).all(axis=1)
            points[on] = local[on] @ matrix(before.rotation).T + np.array(before.location)

    def _motion(self, points: Floats, before: Transform) -> Floats:
        """(N, 2) of the points' earlier places, seen from the earlier camera, to this picture's pixels."""
        local = (points - np.array(before.location)) @ matrix(before.rotation)
        depth = np.maximum(local[:, 0], 1e-3)
        right = (self._rays[:, 1] - local[:, 1] / depth) * self._focal / self.width
        down = (local[:, 2] / depth - self._rays[:, 2]) * self._focal / self.height
        return np.asarray(np.clip(np.stack([right, down], axis=-1), -2.0, 2.0), np.float64)


def _metres(pixels: NDArray[np.uint8]) -> Floats:
    blue, green, red = (pixels[..., channel].reshape(-1).astype(np.float64) for channel in range(3))
    return (red + 256.0 * green + 65536.0 * blue) / (2**24 - 1) * FAR
