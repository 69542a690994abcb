"""Where actors may begin on a map: spawn points, parking bays, zebra crossings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suites.carla.maps.opendrive import Network, RoadRecord
from suites.carla.maps.roads import Crossing, Lane, Pose

SPAWN_HEIGHT = 0.3  # metres above the ground, so that nothing begins inside it
SPAWN_SPACING, SPAWN_MARGIN = 25.0, 7.0  # metres between spawn points of a lane; from its ends and from crossings
BAY, BAY_MARGIN = 6.2, 4.0  # metres: length of a parking bay; from the lane's ends


def spawn_points(lanes: Sequence[Lane], crossings: Sequence[Crossing]) -> list[Pose]:
    """Poses on driving lanes outside junctions."""
    poses = []
    for lane in lanes:
        if lane.kind != "driving" or lane.in_junction:
            continue
        for s in np.arange(SPAWN_MARGIN, lane.length - SPAWN_MARGIN, SPAWN_SPACING):
            pose = _on(lane, float(s), SPAWN_HEIGHT)
            if all(_distance(pose, crossing) > SPAWN_MARGIN for crossing in crossings):
                poses.append(pose)
    return poses


def parking_bays(lanes: Sequence[Lane], crossings: Sequence[Crossing]) -> list[Pose]:
    """Poses of the middles of parking bays, facing the way of the traffic beside them."""
    poses = []
    for lane in lanes:
        if lane.kind == "parking" and not lane.in_junction:
            bays = (_on(lane, float(s), 0.0) for s in np.arange(BAY_MARGIN, lane.length - BAY_MARGIN, BAY))
            poses += [bay for bay in bays if all(_distance(bay, crossing) > BAY for crossing in crossings)]
    return poses


def crossings(network: Network) -> list[Crossing]:
    """The crosswalk objects of all roads; each walk reaches one metre onto the pavement at both ends."""
    found = []
    for road in network.roads.values():
        for s, t, length, width in road.crosswalks:
            left, right = (_point(road, s, t + side * (width / 2 + 1.0)) for side in (1.0, -1.0))
            found.append(Crossing(road.id, s, length, left, right))
    return found


def _on(lane: Lane, s: float, z: float) -> Pose:
    x, y, ground = (float(np.interp(s, lane.s, lane.centre[:, axis])) for axis in range(3))
    yaw, pitch = (float(np.interp(s, lane.s, angle)) for angle in (lane.yaw, lane.pitch))
    return Pose(x, y, ground + z, pitch=pitch, yaw=(yaw + 180.0) % 360.0 - 180.0)


def _distance(pose: Pose, crossing: Crossing) -> float:
    middle = [(a + b) / 2 for a, b in zip(crossing.start, crossing.end, strict=True)]
    return float(np.hypot(pose.x - middle[0], pose.y - middle[1]))


def _point(road: RoadRecord, s: float, t: float) -> tuple[float, float, float]:
    at = np.array([s])
    x, y, heading = road.reference(at)[0]
    return float(x - t * np.sin(heading)), float(-(y + t * np.cos(heading))), float(road.height(at)[0])
