"""Cameras. The service takes all pictures of one tick together; here are their messages."""

from __future__ import annotations

import struct
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.roads import Pose
from suites.carla.render import scene
from suites.carla.render.renderer import Picture
from suites.carla.server.protocol import versions
from suites.carla.server.protocol.streams import Part
from suites.carla.server.sensors.base import Sensor
from suites.carla.server.things.bodies import Bodies
from suites.carla.server.world import World

MAX_SIDE = 4096  # pixels of an image's side
_IMAGE = struct.Struct("<IIf")


class Camera(Sensor):
    """A camera of one kind of picture."""

    picture: ClassVar[Picture]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.width, self.height = int(self.attributes["image_size_x"]), int(self.attributes["image_size_y"])
        self.fov = self.number_of("fov")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE and 1.0 <= self.fov <= 170.0):
            raise ValueError(
                f"an image of {self.width} x {self.height} pixels and {self.fov} degrees; each side must be 1 to "
                f"{MAX_SIDE} pixels and the field of view 1 to 170 degrees"
            )

    def view(self, bodies: Bodies) -> scene.Camera:
        """Where the renderer takes the picture from."""
        (x, y, z), (pitch, yaw, roll) = self.transform(bodies)
        return scene.Camera(Pose(x, y, z, roll, pitch, yaw), self.width, self.height, self.fov)

    def head(self) -> bytes:
        """What comes before the pixels."""
        return _IMAGE.pack(self.width, self.height, self.fov)

    def message(self, world: World, pixels: NDArray[np.uint8] | None) -> list[Part]:
        """The payload of a picture (height, width, 4) BGRA; None, when nothing is rendered, is black."""
        body = bytes(4 * self.width * self.height) if pixels is None else np.ascontiguousarray(pixels).data
        return [self.head(), body]


class RgbCamera(Camera):
    number, picture = versions.RGB, "rgb"


class DepthCamera(Camera):
    number, picture = versions.DEPTH, "depth"


class SemanticCamera(Camera):
    number, picture = versions.SEMANTIC, "semantic"
