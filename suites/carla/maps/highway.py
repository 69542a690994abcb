"""`highway`: four lanes one way on a closed loop of 2.6 km, straights and curves joined by clothoids."""

from __future__ import annotations

import math

from suites.carla.maps.author import LaneSpec, Pose2, Profile, Road, link, write
from suites.carla.maps.geometry import Arc, Geometry, Line, Spiral, advance

SPEED = 25.0  # m/s
RADIUS, EASE = 150.0, 60.0  # metres: of the corners, and of the clothoids before and after each
LONG_SIDE, SHORT_SIDE = 620.0, 140.0  # metres
BEND_RADIUS, BEND = 260.0, math.radians(17.0)  # the far side swerves out and back by four such bends

PROFILE = Profile(
    left=(LaneSpec("shoulder", 1.2),),
    right=(
        LaneSpec("driving", 3.5, "broken"),
        LaneSpec("driving", 3.5, "broken"),
        LaneSpec("driving", 3.5, "broken"),
        LaneSpec("driving", 3.5, "solid"),
        LaneSpec("shoulder", 2.8),
    ),
    centre_marking="solid",
    speed=SPEED,
    centre_colour="yellow",
)


def opendrive() -> str:
    """The map as OpenDRIVE; traffic runs against the clock as seen on the OpenDRIVE plan."""
    corner = _bend(math.pi / 2.0, RADIUS, EASE)
    swerve = [*_bend(-BEND, BEND_RADIUS, EASE), *_bend(2 * BEND, BEND_RADIUS, EASE), *_bend(-BEND, BEND_RADIUS, EASE)]
    straight = (LONG_SIDE - _extent(swerve)) / 2.0
    sides: list[list[Geometry]] = [
        [Line(LONG_SIDE / 2)],
        [Line(LONG_SIDE / 2)],
        corner,
        [Line(SHORT_SIDE)],
        corner,
        [Line(straight)],
        swerve,
        [Line(straight)],
        corner,
        [Line(SHORT_SIDE)],
        corner,
    ]
    pose: Pose2 = (-LONG_SIDE / 2.0, -RADIUS, 0.0)
    roads = []
    for index, path in enumerate(sides):
        roads.append(Road(index + 1, pose, path, PROFILE))
        pose = roads[-1].end
    for index, road in enumerate(roads):
        link(road, roads[(index + 1) % len(roads)])
    return write("highway", roads, {}, "highway")


def _bend(angle: float, radius: float, ease: float) -> list[Geometry]:
    """A symmetric bend by `angle` radians: clothoid, arc, clothoid."""
    curvature = math.copysign(1.0 / radius, angle)
    return [Spiral(ease, 0.0, curvature), Arc(radius * abs(angle) - ease, curvature), Spiral(ease, curvature, 0.0)]


def _extent(path: list[Geometry]) -> float:
    pose: Pose2 = (0.0, 0.0, 0.0)
    for piece in path:
        pose = advance(pose, piece)
    return pose[0]
