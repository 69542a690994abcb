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
        textured = self.attributes.get("textures", "true").lower() in ("true", "1")
        return scene.Camera(Pose(x, y, z, roll, pitch, yaw), self.width, self.height, self.fov, textured)

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


class InstanceCamera(Camera):
    """Semantic tags in red, and in green and blue the number of the object: an actor's id, as far as 16 bits hold."""

    number, picture = versions.INSTANCE, "instance"


class NormalsCamera(Camera):
    number, picture = versions.NORMALS, "normals"


class CosmosCamera(Camera):
    """Flat colours by semantic tag (CityScapes' palette), CARLA's input for a model that dresses pictures up."""

    number, picture = versions.COSMOS, "semantic"

    def message(self, world: World, pixels: NDArray[np.uint8] | None) -> list[Part]:
        return super().message(world, None if pixels is None else _PALETTE[pixels[..., 2]])


# RGB by tag, from 0 to 28, as the client's `ColorConverter.CityScapesPalette` has them.
_CITYSCAPES = (
    (0, 0, 0), (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
    (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32), (110, 190, 160), (170, 120, 50),
    (55, 90, 80), (45, 60, 150), (227, 227, 227), (81, 0, 81), (150, 100, 100), (230, 150, 140), (180, 165, 180),
)  # fmt: skip
_PALETTE = np.zeros((256, 4), np.uint8)
_PALETTE[: len(_CITYSCAPES), :3] = np.array(_CITYSCAPES)[:, ::-1]
_PALETTE[:, 3] = 255
