"""Who may enter a junction: one vehicle at a time on lanes that cross, first come, first served."""

from __future__ import annotations

import numpy as np

from suites.carla.maps import RoadMap
from suites.carla.maps.jit import compiled
from suites.carla.server.things.bodies import Rows

ASK = 45.0  # metres before a junction at which a driver asks for it
TOO_CLOSE = 2.5  # metres between the middles of two lanes that cannot be used together


@compiled
def occupied(centre: Rows, bodies: Rows, me: int) -> bool:
    """Whether a body other than `me` is on a lane given by its centre line (N, 3)."""
    for j in range(len(bodies)):
        o = bodies[j]
        if j == me or not o.collides:
            continue
        near = 1.2 + o.half_y
        for i in range(len(centre)):
            if (centre[i, 0] - o.x) ** 2 + (centre[i, 1] - o.y) ** 2 < near * near:
                return True
    return False


class Junctions:
    """The junctions of one map and who holds their lanes."""

    def __init__(self, road_map: RoadMap) -> None:
        self._centres = {lane.id: np.ascontiguousarray(lane.centre) for lane in road_map.lanes if lane.in_junction}
        self._conflicts: dict[int, list[int]] = {lane: [] for lane in self._centres}
        self._holders: dict[int, list[int]] = {lane: [] for lane in self._centres}
        lanes = [road_map.lanes[i] for i in self._centres]
        for index, a in enumerate(lanes):
            for b in lanes[index + 1 :]:
                if set(a.predecessors) & set(b.predecessors):
                    continue  # from the same lane: one follows the other
                gaps = a.centre[:, None, :2] - b.centre[None, :, :2]
                if (gaps**2).sum(-1).min() < TOO_CLOSE**2:
                    self._conflicts[a.id].append(b.id)
                    self._conflicts[b.id].append(a.id)

    def claim(self, vehicle: int, lane: int, distance: float, bodies: Rows, row: int) -> bool:
        """Whether the vehicle may drive into a junction's lane that begins `distance` metres ahead."""
        if distance > ASK or vehicle in self._holders[lane]:
            return True
        for other in self._conflicts[lane]:
            if any(holder != vehicle for holder in self._holders[other]):
                return False
            if occupied(self._centres[other], bodies, row):
                return False
        self._holders[lane].append(vehicle)
        return True

    def release(self, vehicle: int, lane: int | None = None) -> None:
        """Releases one lane, if the vehicle holds it, or all."""
        for holders in self._holders.values() if lane is None else (self._holders.get(lane, []),):
            if vehicle in holders:
                holders.remove(vehicle)
