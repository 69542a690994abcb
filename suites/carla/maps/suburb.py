"""`suburb`: winding residential roads: a ring and a cross, five junctions.

The middle one has traffic lights; at the others one gives way. A zebra crossing in the middle of each road joins the
pavements. The middle lies on a hill. Lanes and bends leave room for a bus and a car side by side.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from suites.carla.maps.author import Connection, LaneSpec, Pose2, Profile, Road, write
from suites.carla.maps.geometry import Geometry, biarc
from suites.carla.maps.junctions import FIRST_JUNCTION, Arm, join, signalise

SPEED = 30.0 / 3.6  # m/s
VERGE, PAVEMENT = 1.4, 1.8  # metres; the verge is the grass between kerb and pavement
MIDDLE_HEIGHT, CREST = 8.0, 9.0  # metres: of the middle junction, and of the road from north to east half-way
RING_HEIGHTS = (3.0, 0.0, 4.0, 0.0)  # metres
CROSSING_WIDTH = 3.0  # metres along the road
EAST, NORTH = 0.0, math.pi / 2  # headings

# The middles of the junctions of the ring, and where the roads between pass (x, y, heading), east about from north.
RING: tuple[tuple[float, float], ...] = ((0.0, 165.0), (185.0, 0.0), (0.0, -155.0), (-175.0, 0.0))
RING_VIAS: tuple[tuple[Pose2, ...], ...] = (
    ((70.0, 178.0, -0.25), (120.0, 120.0, -1.2), (176.0, 78.0, -0.7)),
    ((150.0, -95.0, -2.0), (88.0, -118.0, -2.9)),
    ((-80.0, -150.0, 2.9), (-110.0, -110.0, 1.9), (-168.0, -72.0, 2.3)),
    ((-165.0, 70.0, 1.1), (-105.0, 100.0, 0.3), (-70.0, 155.0, 0.9)),
)
SPOKE_VIAS: tuple[tuple[Pose2, ...], ...] = (
    ((16.0, 60.0, NORTH - 0.1), (-10.0, 115.0, NORTH + 0.15)),
    ((70.0, -14.0, EAST - 0.1), (125.0, 10.0, EAST + 0.2)),
    ((-18.0, -64.0, -NORTH), (4.0, -116.0, -NORTH)),
    ((-60.0, 15.0, math.pi + 0.1), (-120.0, -10.0, math.pi - 0.2)),
)


class Layout(NamedTuple):
    """lane: metres; arm: metres from the middle of a junction to where its roads begin; turning: m/s in turns."""

    lane: float
    arm: float
    turning: float
    spokes: tuple[tuple[Pose2, ...], ...]


# A bus is 3.9 m wide. At 30 km/h a client's Traffic Manager cuts the turns.
NOW = Layout(4.0, 16.0, 25.0 / 3.6, SPOKE_VIAS)
_TIGHT = (*SPOKE_VIAS[:2], ((-18.0, -70.0, -NORTH - 0.1), (6.0, -120.0, -NORTH + 0.2)), SPOKE_VIAS[3])
FIRST = Layout(2.9, 13.0, math.inf, _TIGHT)


def opendrive(first: bool = False) -> str:
    """The map as OpenDRIVE. first: as version 1 of the driving tasks has it, narrow, without lights and crossings."""
    layout = FIRST if first else NOW
    out = (NORTH, EAST, -NORTH, math.pi)  # from the middle towards each junction of the ring
    spokes = [_road(i + 1, layout, ((0.0, 0.0), out[i]), layout.spokes[i], (RING[i], out[i])) for i in range(len(RING))]
    ring = []
    for i, vias in enumerate(RING_VIAS):
        tangent, next_tangent = out[i] - math.pi / 2, out[(i + 1) % 4] - math.pi / 2
        ring.append(_road(5 + i, layout, (RING[i], tangent), vias, (RING[(i + 1) % 4], next_tangent)))
    roads = [*spokes, *ring]
    if not first:
        for road in roads:
            road.crossings.append((road.length / 2.0, CROSSING_WIDTH))
        _raise(spokes, ring)
    junctions: dict[int, list[Connection]] = {}
    arms = [tuple(Arm(spoke, "start") for spoke in spokes)]
    arms += [(Arm(spokes[i], "end"), Arm(ring[i], "start"), Arm(ring[i - 1], "end")) for i in range(len(RING))]
    for index, members in enumerate(arms):
        junction = FIRST_JUNCTION + index
        connecting, junctions[junction] = join(junction, len(roads) + 1, members, layout.turning)
        roads += connecting
    controllers = {} if first else {FIRST_JUNCTION: signalise(arms[0])}
    return write("suburb", roads, junctions, "suburb", controllers)


def _raise(spokes: list[Road], ring: list[Road]) -> None:
    """Puts the middle on a hill and another one on the way; junctions are level."""
    for spoke, height in zip(spokes, RING_HEIGHTS, strict=True):
        spoke.heights = [(0.0, MIDDLE_HEIGHT), (spoke.length, height)]
    for i, road in enumerate(ring):
        road.heights = [(0.0, RING_HEIGHTS[i]), (road.length, RING_HEIGHTS[(i + 1) % len(ring)])]
    ring[0].heights.insert(1, (ring[0].length / 2.0, CREST))


Towards = tuple[tuple[float, float], float]  # the middle of a junction, and a heading there


def _road(road_id: int, layout: Layout, start: Towards, vias: tuple[Pose2, ...], end: Towards) -> Road:
    """A road from the edge of one junction, by way of `vias`, to the edge of another."""
    side = (LaneSpec("driving", layout.lane), LaneSpec("none", VERGE), LaneSpec("sidewalk", PAVEMENT))
    begin = _along(start, layout.arm)
    stops = (begin, *vias, _along(end, -layout.arm))
    path: list[Geometry] = [piece for a, b in itertools.pairwise(stops) for piece in biarc(a, b)]
    return Road(road_id, begin, path, Profile(side, side, "broken", SPEED))


def _along(towards: Towards, metres: float) -> Pose2:
    (x, y), heading = towards
    return x + metres * math.cos(heading), y + metres * math.sin(heading), heading
