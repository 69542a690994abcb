"""The road network as the server, the traffic and the renderer see it.

Coordinates are CARLA's: left-handed, metres, x forward, y right, z up; angles in degrees, yaw clockwise seen from
above. OpenDRIVE itself is right-handed (y left); `suites.carla.maps.opendrive` mirrors it once, when it reads a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import Ground, kind_at
from suites.carla.maps.nearest import LaneGrid, nearest

LaneKind = Literal["driving", "parking", "sidewalk", "shoulder"]
Surface = Literal["driving", "parking", "sidewalk", "shoulder", "grass"]
Marking = Literal["none", "solid", "broken", "solid solid", "solid broken", "broken solid", "broken broken"]
SURFACES: tuple[Surface, ...] = ("grass", "driving", "parking", "shoulder", "sidewalk", "grass")  # by ground code


@dataclass(frozen=True)
class Pose:
    """Position in metres and rotation in degrees, in the order of CARLA's `Rotation` words (roll, pitch, yaw)."""

    x: float
    y: float
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True)
class Crossing:
    """A zebra crossing: the walk goes from `start` to `end` (pavement to pavement); `width` metres along the road."""

    road_id: int
    s: float
    width: float
    start: tuple[float, float, float]
    end: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Lane:
    """One lane of one OpenDRIVE lane section, sampled at most 1 m apart along its direction of travel.

    id: its index in `RoadMap.lanes`; road_id, section and lane_id: OpenDRIVE's.
    centre: float64 (N, 3) metres; width: float64 (N,) metres; yaw: float64 (N,) degrees, unwrapped (no jumps of 360);
    s: float64 (N,) metres travelled along `centre` from its first point. N >= 2.
    successors, predecessors: ids of the lanes that follow and precede in the direction of travel.
    left, right: ids of the adjacent driving lanes of the same direction, as the driver sees them.
    speed_limit: m/s. marking_left, marking_right: the lines at its borders, as the driver sees them.
    in_junction: whether its road is a connecting road of a junction.
    """

    id: int
    road_id: int
    section: int
    lane_id: int
    kind: LaneKind
    centre: NDArray[np.float64]
    width: NDArray[np.float64]
    yaw: NDArray[np.float64]
    s: NDArray[np.float64]
    successors: list[int]
    predecessors: list[int]
    left: int | None
    right: int | None
    speed_limit: float
    marking_left: Marking
    marking_right: Marking
    in_junction: bool

    @property
    def length(self) -> float:
        """Metres from the first to the last point of `centre`."""
        return float(self.s[-1])


@dataclass(frozen=True, eq=False)
class RoadMap:
    """What `load_map(name)` and `parse(xodr)` of `suites.carla.maps` return.

    name: the map's; opendrive: the text it was read from. lanes: every lane; a lane's id is its index here.
    spawn_points: on driving lanes outside junctions, a little above the ground. parking: middles of parking bays.
    scenery: what stands beside the roads ("highway", "town" or "suburb"). ground: the same as arrays, for the renderer.
    """

    name: str
    opendrive: str
    spawn_points: list[Pose]
    parking: list[Pose]
    crossings: list[Crossing]
    lanes: list[Lane]
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
        """Metres of the ground above z = 0: roads lie at 0; on maps with pavements all else lies a kerb higher."""
        return 0.0 if self.on_road(x, y) else self.ground.kerb
