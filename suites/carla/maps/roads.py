"""The parts of a road network: poses, lanes and zebra crossings.

Coordinates are CARLA's: left-handed, metres, x forward, y right, z up; angles in degrees, yaw clockwise seen from
above. OpenDRIVE itself is right-handed (y left); `suites.carla.maps.opendrive` mirrors it once, when it reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LaneKind = Literal["driving", "parking", "sidewalk", "shoulder"]
Marking = Literal["none", "solid", "broken", "solid solid", "solid broken", "broken solid", "broken broken"]


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
    pitch: float64 (N,) degrees, positive where it rises; speed_limit: float64 (N,) m/s; s: float64 (N,) metres
    travelled along `centre` from its first point, seen from above. N >= 2.
    successors, predecessors: ids of the lanes that follow and precede in the direction of travel.
    left, right: ids of the adjacent driving lanes of the same direction, as the driver sees them.
    marking_left, marking_right: the lines at its borders, as the driver sees them.
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
    pitch: NDArray[np.float64]
    s: NDArray[np.float64]
    successors: list[int]
    predecessors: list[int]
    left: int | None
    right: int | None
    speed_limit: NDArray[np.float64]
    marking_left: Marking
    marking_right: Marking
    in_junction: bool

    @property
    def length(self) -> float:
        """Metres from the first to the last point of `centre`."""
        return float(self.s[-1])

    def limit_at(self, s: float) -> float:
        """The speed limit in m/s after some metres of the lane."""
        return float(self.speed_limit[max(0, int(np.searchsorted(self.s, s, side="right")) - 1)])
