"""What stands on a map and is no actor, as clients ask for it: houses, trees, crash barriers, lamp posts, gantries."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from suites.carla.server.protocol.wire import BoundingBox, Rotation, Vector
from suites.carla.server.things.bodies import Rows

NAMES = {3: "Building", 6: "StreetLight", 8: "Sign", 9: "Vegetation", 28: "GuardRail"}  # by CARLA's semantic label


class Thing(NamedTuple):
    """One of them. tag: CARLA's semantic label; box: in the world."""

    id: int
    name: str
    tag: int
    box: BoundingBox

    @property
    def foot(self) -> Vector:
        """The middle of its foot."""
        x, y, z = self.box.location
        return Vector(x, y, z - self.box.extent.z)


def surroundings(obstacles: Rows, fixtures: NDArray[Any]) -> list[Thing]:
    """All of a map's, obstacles first. fixtures: as in `render.scenery`."""
    boxes = [(int(o["tag"]), _box(o["x"], o["y"], o["z"] + o["box_z"], o["yaw"], *_half(o))) for o in obstacles]
    boxes += [
        (int(tag), _box(x, y, z + half_z, math.degrees(yaw), half_x, half_y, half_z))
        for tag, x, y, z, yaw, half_x, half_y, half_z in fixtures
    ]
    return [Thing(number, f"{NAMES[tag]}_{number}", tag, box) for number, (tag, box) in enumerate(boxes, 1)]


def _half(obstacle: Any) -> tuple[float, float, float]:
    return obstacle["half_x"], obstacle["half_y"], obstacle["half_z"]


def _box(x: float, y: float, z: float, yaw: float, *half: float) -> BoundingBox:
    location, extent = Vector(float(x), float(y), float(z)), Vector(*map(float, half))
    return BoundingBox(location, extent, Rotation(0.0, float(yaw), 0.0))
