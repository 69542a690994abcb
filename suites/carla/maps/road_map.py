"""The road network as the server, the traffic and the renderer see it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from suites.carla.maps.ground import Ground, kind_at
from suites.carla.maps.nearest import LaneGrid, nearest
from suites.carla.maps.roads import Crossing, Lane, Pose
from suites.carla.maps.terrain import terrain_height, terrain_slope

Surface = Literal["driving", "parking", "sidewalk", "shoulder", "grass"]
SURFACES: tuple[Surface, ...] = ("grass", "driving", "parking", "shoulder", "sidewalk", "grass")  # by ground code


@dataclass(frozen=True, eq=False)
class RoadMap:
    """What `load_map(name)` and `parse(xodr)` of `suites.carla.maps` return.

    name: the map's; opendrive: the text it was read from. lanes: every lane; a lane's id is its index here.
    spawn_points: on driving lanes outside junctions, a little above the ground. parking: middles of parking bays.
    lights: ids of the traffic lights, by road and whether they are for the traffic against its s.
    scenery: what stands beside the roads ("highway", "town" or "suburb"). ground: the same as arrays, for the renderer.
    """

    name: str
    opendrive: str
    spawn_points: list[Pose]
    parking: list[Pose]
    crossings: list[Crossing]
    lanes: list[Lane]
    lights: dict[tuple[int, bool], str]
    scenery: str
    ground: Ground
    lane_grid: LaneGrid

    def nearest_lane(self, x: float, y: float, yaw: float | None = None) -> tuple[int, float, float]:
        """`(lane id, s, lateral)` of the nearest driving lane: metres along its centre, metres to the right of it.

        With `yaw` (degrees) only lanes that lead within 90 degrees of it count; the id is -1 when there is none.
        """
        return nearest(self.lane_grid, float(x), float(y), math.nan if yaw is None else float(yaw))

    def surface(self, x: float, y: float) -> Surface:
        """What the ground at (x, y) is; verges and everything beside the roads are grass."""
        return SURFACES[kind_at(self.ground, float(x), float(y))]

    def on_road(self, x: float, y: float) -> bool:
        """Whether (x, y) lies on a driving lane, a parking lane or a hard shoulder."""
        return self.surface(x, y) in ("driving", "parking", "shoulder")

    def height(self, x: float, y: float) -> float:
        """z of the ground in metres: the terrain's; on maps with pavements all but roads lies a kerb higher."""
        kerb = 0.0 if self.on_road(x, y) else self.ground.kerb
        return kerb + self.terrain(x, y) if self.ground.hilly else kerb

    def terrain(self, x: float, y: float) -> float:
        """z of the ground at (x, y) in metres, without kerbs."""
        return terrain_height(self.ground, float(x), float(y)) if self.ground.hilly else 0.0

    def slope(self, x: float, y: float) -> tuple[float, float]:
        """How much the terrain rises at (x, y) along x and along y, metres per metre."""
        return terrain_slope(self.ground, float(x), float(y)) if self.ground.hilly else (0.0, 0.0)
