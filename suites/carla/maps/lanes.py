"""Lanes out of an OpenDRIVE network: sampled, mirrored into CARLA's frame and linked along the direction of travel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from suites.carla.maps.geometry import Floats
from suites.carla.maps.opendrive import Cubics, LaneRecord, Network, RoadRecord, SectionRecord, cubic
from suites.carla.maps.roads import Lane, LaneKind, Marking

SAMPLE = 0.9  # metres between the samples of a centre line, at most
KINDS: dict[str, LaneKind] = {
    "driving": "driving", "entry": "driving", "exit": "driving", "onRamp": "driving", "offRamp": "driving",
    "bidirectional": "driving", "parking": "parking", "sidewalk": "sidewalk", "shoulder": "shoulder",
    "border": "shoulder", "stop": "shoulder", "biking": "shoulder",
}  # fmt: skip
MARKINGS: tuple[Marking, ...] = (
    "none", "solid", "broken", "solid solid", "solid broken", "broken solid", "broken broken",
)  # fmt: skip
SAME_MARKING = {"botts dots": "broken"}  # types of OpenDRIVE that are drawn as another one; the rest are not drawn
Key = tuple[int, int, int]  # road, section, lane


def borders(road: RoadRecord, section: SectionRecord, s: Floats) -> dict[int, Floats]:
    """t of the outer border of each lane at each s (of the centre line for lane 0); OpenDRIVE's t, left positive."""
    centre = road.offset(s)
    out = {0: centre}
    for sign in (1, -1):
        edge = centre
        for lane_id in sorted((i for i in section.lanes if i * sign > 0), key=abs):
            edge = edge + sign * np.maximum(cubic(section.lanes[lane_id].widths, s), 0.0)
            out[lane_id] = edge
    return out


def marking_at(lane: LaneRecord, s: float) -> tuple[Marking, str, float]:
    """Type, colour and width of a lane's outer marking at s."""
    current = ("none", "standard", 0.15)
    for start, kind, colour, width in lane.markings:
        if start <= s + 1e-6:
            current = (kind, colour, width)
    kind = SAME_MARKING.get(current[0], current[0])
    return (kind if kind in MARKINGS else "none"), current[1], current[2]


def build(network: Network) -> list[Lane]:
    """Every lane of a kind that is used, in the order of the file, with its links and neighbours."""
    lanes: list[Lane] = []
    index: dict[Key, int] = {}
    for road in network.roads.values():
        for number, section in enumerate(road.sections):
            for lane in _section_lanes(road, number, section):
                index[(road.id, number, lane.lane_id)] = len(lanes)
                lanes.append(replace(lane, id=len(lanes)))
    for lane in lanes:
        for target in _next_keys(network, lane):
            if target in index and _continues(lane, lanes[index[target]]):
                lane.successors.append(index[target])
                lanes[index[target]].predecessors.append(lane.id)
    return [
        replace(lane, left=_neighbour(lane, 1, lanes, index), right=_neighbour(lane, -1, lanes, index))
        for lane in lanes
    ]


def _section_lanes(road: RoadRecord, number: int, section: SectionRecord) -> Iterator[Lane]:
    if section.end - section.start < 1e-3:
        return
    at, reference, border = _sampled(road, section)
    rise = road.slope(at)
    for lane_id in sorted(section.lanes, reverse=True):
        record = section.lanes[lane_id]
        if lane_id == 0 or record.type not in KINDS:
            continue
        inner = lane_id - 1 if lane_id > 0 else lane_id + 1
        t = (border[lane_id] + border[inner]) / 2.0
        x, y, heading = reference.T
        centre = np.stack([x - t * np.sin(heading), -(y + t * np.cos(heading)), road.height(at)], axis=1)
        limit = cubic(_limits(road, record), at)
        width, yaw = np.abs(border[lane_id] - border[inner]), -np.degrees(np.unwrap(heading))
        pitch = np.degrees(np.arctan(rise))
        if lane_id > 0:  # it is driven against s
            centre, width, yaw, pitch = centre[::-1], width[::-1], yaw[::-1] + 180.0, -pitch[::-1]
            limit = limit[::-1]
        steps = np.hypot(*np.diff(centre[:, :2], axis=0).T)
        middle = (section.start + section.end) / 2.0
        yield Lane(
            id=-1,
            road_id=road.id,
            section=number,
            lane_id=lane_id,
            kind=KINDS[record.type],
            centre=np.ascontiguousarray(centre),
            width=np.ascontiguousarray(width),
            yaw=np.ascontiguousarray(yaw),
            pitch=np.ascontiguousarray(pitch),
            s=np.concatenate([[0.0], np.cumsum(steps)]),
            successors=[],
            predecessors=[],
            left=None,
            right=None,
            speed_limit=np.ascontiguousarray(limit),
            marking_left=marking_at(section.lanes[inner], middle)[0] if inner in section.lanes else "none",
            marking_right=marking_at(record, middle)[0],
            in_junction=road.junction != -1,
        )


def _limits(road: RoadRecord, lane: LaneRecord) -> Cubics:
    """The speed limits of a lane: from its own first one on, the road's count no more."""
    return [piece for piece in road.speeds if not lane.speeds or piece[0] < lane.speeds[0][0]] + lane.speeds


def _sampled(road: RoadRecord, section: SectionRecord) -> tuple[Floats, Floats, dict[int, Floats]]:
    """s, reference line and borders, dense enough that the outermost line's points are SAMPLE apart at most."""
    length = section.end - section.start
    count = max(2, math.ceil(length / SAMPLE) + 1)
    while True:
        s = np.linspace(section.start, section.end, count)
        reference, border = road.reference(s), borders(road, section, s)
        longest = 0.0
        for t in border.values():
            x = reference[:, 0] - t * np.sin(reference[:, 2])
            y = reference[:, 1] + t * np.cos(reference[:, 2])
            longest = max(longest, float(np.hypot(np.diff(x), np.diff(y)).max()))
        if longest <= 1.0:
            return s, reference, border
        count = math.ceil((count - 1) * longest / SAMPLE) + 1


def _next_keys(network: Network, lane: Lane) -> Iterator[Key]:
    """Where a driver at the end of `lane` may go on."""
    road = network.roads[lane.road_id]
    forward = lane.lane_id < 0
    record = road.sections[lane.section].lanes[lane.lane_id]
    linked = record.successors if forward else record.predecessors
    inside = lane.section + (1 if forward else -1)
    if 0 <= inside < len(road.sections):
        yield from ((road.id, inside, target) for target in linked)
        return
    end = road.successor if forward else road.predecessor
    if end is None:
        return
    kind, element, contact = end
    if kind == "junction":
        junction = network.junctions.get(element)
        for connecting, touching, target in junction.links.get((road.id, lane.lane_id), []) if junction else []:
            yield from _end_keys(network, connecting, touching, [target])
    else:
        yield from _end_keys(network, element, contact, linked)


def _end_keys(network: Network, road_id: int, contact: str, targets: list[int]) -> Iterator[Key]:
    road = network.roads.get(road_id)
    if road is not None:
        section = 0 if contact == "start" else len(road.sections) - 1
        yield from ((road_id, section, target) for target in targets)


def _continues(first: Lane, second: Lane) -> bool:
    """Whether `second` begins where `first` ends; links of lanes driven in opposite senses are dropped."""
    return float(np.hypot(*(second.centre[0] - first.centre[-1])[:2])) < 2.0


def _neighbour(lane: Lane, side: int, lanes: list[Lane], index: dict[Key, int]) -> int | None:
    """The driving lane of the same direction on the driver's left (1) or right (-1)."""
    lane_id = lane.lane_id + (-side if lane.lane_id > 0 else side)
    neighbour = index.get((lane.road_id, lane.section, lane_id)) if lane_id != 0 else None
    if neighbour is None or lanes[neighbour].kind != "driving" or lane.kind != "driving":
        return None
    return neighbour
