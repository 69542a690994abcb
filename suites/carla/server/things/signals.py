"""Traffic lights: where the map has signals, one for each road into a junction, one green at a time in each."""

from __future__ import annotations

import math
from collections.abc import Callable

from suites.carla.maps import RoadMap
from suites.carla.maps.roads import Lane
from suites.carla.maps.signals import BESIDE
from suites.carla.server.protocol.wire import BoundingBox, Rotation, Transform, Vector
from suites.carla.server.things.actors import GREEN, RED, YELLOW, TrafficLight

SEEN = 30.0  # metres before its stop line at which a light concerns a vehicle
POST = BoundingBox(Vector(0.0, 0.0, 1.8), Vector(0.25, 0.25, 1.8))  # what is drawn: the pole with its lamps,
HEAD = BoundingBox(Vector(0.0, 0.0, 3.43), Vector(0.25, 0.25, 0.18))  # and the lamps alone
TRIGGER_BACK, TRIGGER_DEPTH, TRIGGER_HEIGHT = 2.0, 1.0, 1.0  # metres: before the stop line; half sizes
_TRAFFIC_LIGHT = 7  # CARLA's semantic label
_AFTER = {GREEN: YELLOW, YELLOW: RED}


def head_of(light: TrafficLight) -> BoundingBox:
    """The box of a light's lamps, in the world."""
    x, y, z = light.place.location
    return BoundingBox(Vector(x, y, z + HEAD.location.z), HEAD.extent, light.facing, light.id)


class Signals:
    """groups: the lights of each junction, in the order they turn green; by_lane: the light at the end of a lane."""

    def __init__(self, road_map: RoadMap, make: Callable[[Transform], TrafficLight]) -> None:
        self._map = road_map
        self.groups: list[list[TrafficLight]] = []
        self.by_lane: dict[int, TrafficLight] = {}
        self._greens: list[int] = []
        for approaches in _junction_approaches(road_map):
            if equipped := [lanes for lanes in approaches if self._sign(lanes[0])]:
                self._equip(equipped, make)
        self._greens = [0 for _ in self.groups]
        self.reset()

    def _equip(self, approaches: list[list[Lane]], make: Callable[[Transform], TrafficLight]) -> None:
        group = []
        for pole, lanes in enumerate(approaches):
            outer = max(lanes, key=lambda lane: abs(lane.lane_id))
            x, y, z = outer.centre[-1]
            yaw = float(outer.yaw[-1])
            side = float(outer.width[-1]) / 2.0 + BESIDE
            right = math.radians(yaw + 90.0)
            place = Vector(float(x) + side * math.cos(right), float(y) + side * math.sin(right), float(z))
            # As CARLA's, its x axis lies across the road (to the right), and its lenses look along y, at the traffic.
            light = make(Transform(place, Rotation(0.0, (yaw + 270.0) % 360.0 - 180.0, 0.0)))
            light.facing = Rotation(0.0, (yaw + 360.0) % 360.0 - 180.0, 0.0)
            light.pole, light.tags = pole, bytes([_TRAFFIC_LIGHT])
            light.box = _trigger(lanes, side - float(outer.width[-1]) / 2.0)._replace(actor_id=light.id)
            light.sign_id = self._sign(outer)
            group.append(light)
            self.by_lane.update({lane.id: light for lane in lanes})
        self.groups.append(group)

    def _sign(self, lane: Lane) -> str:
        """The id of the signal at the end of a lane; empty where there is none."""
        return self._map.lights.get((lane.road_id, lane.lane_id > 0), "")

    def reset(self, light: TrafficLight | None = None) -> None:
        """Restarts all cycles, or the one of a light's junction."""
        for number, group in enumerate(self.groups):
            if light is None or light in group:
                self._greens[number] = 0
                for index, member in enumerate(group):
                    member.state_now, member.elapsed, member.frozen = (RED if index else GREEN), 0.0, False

    def advance(self, delta: float) -> None:
        """Moves the cycles on by `delta` seconds. A frozen light stops its junction."""
        for number, group in enumerate(self.groups):
            if any(light.frozen for light in group):
                continue
            current = group[self._greens[number]]
            for light in group:
                light.elapsed += delta
            if current.elapsed < current.durations.get(current.state_now, math.inf):
                continue
            if current.state_now == RED:  # all-red is over
                self._greens[number] = (self._greens[number] + 1) % len(group)
                self.show(group[self._greens[number]], GREEN)
            else:
                self.show(current, _AFTER[current.state_now])

    def show(self, light: TrafficLight, state: int) -> None:
        """Sets one light; its junction's cycle goes on from there."""
        light.state_now, light.elapsed = state, 0.0
        for number, group in enumerate(self.groups):
            if light in group and state in _AFTER:
                self._greens[number] = group.index(light)

    def group_of(self, light: TrafficLight) -> list[TrafficLight]:
        """The lights of the same junction."""
        return next((group for group in self.groups if light in group), [])

    def ahead(self, lane: int, s: float) -> TrafficLight | None:
        """The light that concerns a vehicle `s` metres along a lane."""
        light = self.by_lane.get(lane)
        return light if light and self._map.lanes[lane].length - s < SEEN else None


def _trigger(lanes: list[Lane], gap: float) -> BoundingBox:
    """The volume before the stop line, across all lanes of an approach, in the frame of the light.

    gap: metres from the outer border of the lanes to the light.
    """
    half = sum(float(lane.width[-1]) for lane in lanes) / 2.0
    extent = Vector(half, TRIGGER_DEPTH, TRIGGER_HEIGHT)
    return BoundingBox(Vector(-gap - half, TRIGGER_BACK, TRIGGER_HEIGHT), extent)


def _junction_approaches(road_map: RoadMap) -> list[list[list[Lane]]]:
    """For each junction of three roads or more: for each road that leads into it, its lanes."""
    inside = [lane for lane in road_map.lanes if lane.in_junction and lane.kind == "driving"]
    junctions: list[set[int]] = []  # approach lanes that share an exit lane belong to one junction
    for exit_lane in sorted({after for lane in inside for after in lane.successors}):
        entries = {before for lane in inside if exit_lane in lane.successors for before in lane.predecessors}
        joined = [known for known in junctions if known & entries]
        junctions = [known for known in junctions if not known & entries] + [entries.union(*joined)]
    found = []
    for entries in sorted(junctions, key=min):
        roads: dict[tuple[int, bool], list[Lane]] = {}
        for lane in (road_map.lanes[entry] for entry in sorted(entries)):
            roads.setdefault((lane.road_id, lane.lane_id > 0), []).append(lane)
        if len(roads) >= 3:
            found.append(list(roads.values()))
    return found
