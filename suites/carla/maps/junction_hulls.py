"""The asphalt of junctions that no connecting lane covers: the convex hulls of the ends of their roads."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.lanes import KINDS, borders
from suites.carla.maps.opendrive import Network, RoadRecord, SectionRecord

Point = tuple[float, float]


def junction_hulls(network: Network) -> list[NDArray[np.float64]]:
    """Per junction with at least three corners its hull, (N, 2) in CARLA's frame, in one sense of rotation."""
    hulls = []
    for junction in network.junctions:
        corners: list[Point] = []
        for road in network.roads.values():
            for end, at, index in ((road.predecessor, 0.0, 0), (road.successor, road.length, -1)):
                if end and end[0] == "junction" and end[1] == junction and road.junction == -1:
                    corners += _driving_edges(road, at, road.sections[index])
        hull = convex_hull(corners)
        if len(hull) >= 3:
            hulls.append(np.array(hull))
    return hulls


def _driving_edges(road: RoadRecord, at: float, section: SectionRecord) -> list[Point]:
    """The outermost points of the driving lanes at one end of a road, in CARLA's frame."""
    s = np.array([at])
    x, y, heading = road.reference(s)[0]
    edges = borders(road, section, s)
    driving = [i for i, lane in section.lanes.items() if KINDS.get(lane.type) == "driving"]
    outermost = (float(edges[i][0]) for i in (max([0, *driving]), min([0, *driving])))
    return [(x - t * math.sin(heading), -(y + t * math.cos(heading))) for t in outermost]


def convex_hull(points: list[Point]) -> list[Point]:
    """Andrew's monotone chain: the corners in order; fewer than three when the points lie on a line."""
    ordered = sorted(set(points))
    hull: list[Point] = []
    for sequence in (ordered, ordered[::-1]):
        base = len(hull)
        for point in sequence:
            while len(hull) >= base + 2 and _cross(hull[-2], hull[-1], point) <= 0.0:
                hull.pop()
            hull.append(point)
        if hull:
            hull.pop()
    return hull


def _cross(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
