"""`street`: a town's two-way street with parked cars, pavements and zebra crossings: two blocks, two T junctions.

One junction has traffic lights; at the other one gives way.
"""

from __future__ import annotations

import itertools
import math

from suites.carla.maps.author import LaneSpec, Pose2, Profile, Road, link, write
from suites.carla.maps.geometry import Arc, Geometry, Line
from suites.carla.maps.junctions import FIRST_JUNCTION, Arm, join, signalise

SPEED = 50.0 / 3.6  # m/s
TURNING = 30.0 / 3.6  # m/s in junctions: a client's Traffic Manager keeps the limit in turns, however tight they are
LANE, PARKING, PAVEMENT = 3.25, 2.2, 3.6  # metres
HALF_WIDTH, HALF_HEIGHT = 230.0, 95.0  # metres: of the outer loop
ARM = 14.0  # metres from the middle of a junction to where its roads begin
APPROACH = 16.0  # metres before a junction without parking
CORNER = 25.0  # metres: radius of the loop's corners
LIT = FIRST_JUNCTION + 1  # the junction with traffic lights
CROSSING_GAP, CROSSING_WIDTH = 12.0, 4.0  # metres: length of the gap between parked cars, and of the zebra in it

_BAY = (LaneSpec("driving", LANE, "solid"), LaneSpec("parking", PARKING), LaneSpec("sidewalk", PAVEMENT))
_FREE = (LaneSpec("driving", LANE), LaneSpec("sidewalk", PARKING + PAVEMENT))
PARKED = Profile(_BAY, _BAY, "broken", SPEED)
FREE = Profile(_FREE, _FREE, "solid", SPEED)


def opendrive(first: bool = False) -> str:
    """The map as OpenDRIVE. first: as version 1 of the driving tasks has it, with lights at both junctions."""
    builder = _Chains()
    side, end, mid = HALF_WIDTH - ARM, 2 * HALF_HEIGHT, 2 * (HALF_HEIGHT - ARM)
    loop = ((side, 2), (end, 1), (side, 2))
    west = builder.chain((-ARM, HALF_HEIGHT, math.pi), loop)
    east = builder.chain((ARM, -HALF_HEIGHT, 0.0), loop)
    middle = builder.chain((0.0, HALF_HEIGHT - ARM, -math.pi / 2), ((mid, 1),))
    roads = builder.roads
    junctions = (
        (Arm(west[0], "start"), Arm(middle[0], "start"), Arm(east[-1], "end")),
        (Arm(west[-1], "end"), Arm(middle[-1], "end"), Arm(east[0], "start")),
    )
    connections, controllers = {}, {}
    for junction, arms in enumerate(junctions, FIRST_JUNCTION):
        inside, connections[junction] = join(junction, len(roads) + 1, arms, TURNING)
        if first or junction == LIT:
            controllers[junction] = signalise(arms)
        roads = roads + inside
    return write("street", roads, connections, "town", controllers)


class _Chains:
    """Streets laid one after the other; each is a chain of roads with and without parking."""

    def __init__(self) -> None:
        self.roads: list[Road] = []

    def chain(self, start: Pose2, sides: tuple[tuple[float, int], ...]) -> list[Road]:
        """A street of straight sides joined by left corners; each side is (length to the corner points, crossings)."""
        first = len(self.roads)
        pose = start
        for index, (length, crossings) in enumerate(sides):
            is_first, is_last = index == 0, index == len(sides) - 1
            straight = length - (0.0 if is_first else CORNER) - (0.0 if is_last else CORNER)
            pose = self._side(pose, straight, crossings)
            if not is_last:
                pose = self._road(pose, [Arc(CORNER * math.pi / 2, 1.0 / CORNER)], FREE)
        chain = self.roads[first:]
        for before, after in itertools.pairwise(chain):
            link(before, after)
        return chain

    def _side(self, pose: Pose2, length: float, crossings: int) -> Pose2:
        bays = (length - 2 * APPROACH - crossings * CROSSING_GAP) / (crossings + 1)
        pose = self._road(pose, [Line(APPROACH)], FREE)
        for index in range(crossings + 1):
            pose = self._road(pose, [Line(bays)], PARKED)
            if index < crossings:
                pose = self._road(pose, [Line(CROSSING_GAP)], FREE)
                self.roads[-1].crossings.append((CROSSING_GAP / 2, CROSSING_WIDTH))
        return self._road(pose, [Line(APPROACH)], FREE)

    def _road(self, pose: Pose2, path: list[Geometry], profile: Profile) -> Pose2:
        self.roads.append(Road(len(self.roads) + 1, pose, path, profile))
        return self.roads[-1].end
