"""Draws the connecting roads of a junction: every movement from one arm to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from suites.carla.maps.author import Connection, LaneSpec, Pose2, Profile, Road
from suites.carla.maps.geometry import Geometry, Line, biarc
from suites.carla.maps.signals import signal_id

# CARLA's client tells junctions from roads by their ids alone, so that the two must not overlap.
FIRST_JUNCTION = 1000


@dataclass(frozen=True)
class Arm:
    """A road's end at a junction; `contact` is "start" or "end"."""

    road: Road
    contact: str

    @property
    def inward(self) -> Pose2:
        """The pose of a driver who enters the junction here, on the reference line."""
        x, y, heading = self.road.start if self.contact == "start" else self.road.end
        return (x, y, heading + math.pi) if self.contact == "start" else (x, y, heading)

    @property
    def outward(self) -> Pose2:
        x, y, heading = self.inward
        return x, y, heading + math.pi

    @property
    def height(self) -> float:
        heights = self.road.heights or [(0.0, 0.0)]
        return heights[0 if self.contact == "start" else -1][1]

    def incoming(self) -> list[tuple[int, LaneSpec]]:
        """Lanes that lead into the junction, from the centre outwards."""
        profile = self.road.profile
        if self.contact == "end":
            return [(-i - 1, lane) for i, lane in enumerate(profile.right)]
        return [(i + 1, lane) for i, lane in enumerate(profile.left)]

    def outgoing(self) -> list[tuple[int, LaneSpec]]:
        """Lanes that lead out of the junction, from the centre outwards."""
        profile = self.road.profile
        if self.contact == "end":
            return [(i + 1, lane) for i, lane in enumerate(profile.left)]
        return [(-i - 1, lane) for i, lane in enumerate(profile.right)]


def join(
    junction: int, first_road: int, arms: Sequence[Arm], turning: float = math.inf
) -> tuple[list[Road], list[Connection]]:
    """Connects every arm to every other one. Connecting roads are numbered from `first_road` on.

    turning: the speed limit of connecting roads that bend, in m/s; those of their arms hold too.
    """
    for arm in arms:
        end = ("junction", junction, "")
        if arm.contact == "start":
            arm.road.predecessor = end
        else:
            arm.road.successor = end
    roads: list[Road] = []
    connections: list[Connection] = []
    for source in arms:
        turns = {id(target): _turn(source, target) for target in arms if target is not source}
        for target in arms:
            if target is source:
                continue
            turn = turns[id(target)]
            outermost = turn == min(turns.values())  # nothing leaves to the right of it: it carries the kerb
            road, connection = _connect(first_road + len(roads), junction, source, target, outermost, turning)
            roads.append(road)
            connections.append(connection)
    return roads, connections


def signalise(arms: Sequence[Arm]) -> list[str]:
    """Puts a traffic light at each arm of a junction; returns their ids, in the order of the arms."""
    for arm in arms:
        arm.road.signals.append(arm.contact)
    return [signal_id(arm.road.id, arm.contact == "start") for arm in arms]


def _turn(source: Arm, target: Arm) -> float:
    """Radians a driver turns by, positive to the left, in (-pi, pi]."""
    turn = target.outward[2] - source.inward[2]
    return math.pi - (math.pi - turn) % (2.0 * math.pi)


def _connect(
    road_id: int, junction: int, source: Arm, target: Arm, with_kerb: bool, turning: float
) -> tuple[Road, Connection]:
    pairs = [
        (before, after)
        for before, after in zip(source.incoming(), target.outgoing(), strict=False)
        if before[1].type == after[1].type and (with_kerb or before[1].type == "driving")
    ]
    lanes = tuple(LaneSpec(a.type, a.width, "none", b.width) for (_, a), (_, b) in pairs)
    path: list[Geometry] = biarc(source.inward, target.outward)
    straight = all(isinstance(piece, Line) for piece in path)
    if straight:
        path = [Line(sum(piece.length for piece in path))]
    speed = min(source.road.profile.speed, target.road.profile.speed, math.inf if straight else turning)
    road = Road(road_id, source.inward, path, Profile((), lanes, "none", speed), junction)
    if source.height or target.height:
        road.heights = [(0.0, source.height), (road.length, target.height)]
    road.predecessor = ("road", source.road.id, source.contact)
    road.successor = ("road", target.road.id, target.contact)
    road.lane_links = {-i - 1: (before[0], after[0]) for i, (before, after) in enumerate(pairs)}
    links = tuple((before[0], -i - 1) for i, (before, _) in enumerate(pairs))
    return road, Connection(source.road.id, road_id, links)
