"""Where pedestrians may walk: pavements and zebra crossings as convex polygons that share their edges.

On a map without pavements, a motorway, they walk on the hard shoulders. The polygons keep off kerbs, lines and walls by
a pedestrian's radius, so that whoever stays inside touches none of them.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.road_map import RoadMap
from suites.carla.maps.roads import Crossing, Lane

Floats = NDArray[np.float64]
PAVEMENT, CROSSING = 1, 2  # kinds
CLEARANCE = 0.3  # metres between a polygon and a pavement's border: the radius of a pedestrian
STEP, TURN = 8.0, 5.0  # metres and degrees of a pavement in one polygon, at most
MERGE = 0.02  # metres within which two points are one
MAX_CORNERS = 6
SHOULDER = 2.0  # metres: of a hard shoulder that is walked on, at least


class Walkways(NamedTuple):
    """points: float64 (V, 2) metres, CARLA's x and y. kinds: of each polygon, PAVEMENT or CROSSING.

    corners: of each polygon, 3 to 6 indices of points, against the clock seen from above with y to the right.
    neighbours: of each polygon and edge (from one corner to the next), the polygon beyond it or -1.
    """

    points: Floats
    kinds: list[int]
    corners: list[list[int]]
    neighbours: list[list[int]]


def walkways(road_map: RoadMap) -> Walkways:
    """The walkways of a map; without polygons where nobody can walk."""
    pavements = walked(road_map)
    met = [both for crossing in road_map.crossings if (both := _meets(crossing, pavements))]
    outlines: list[tuple[int, Floats]] = []
    for lane in pavements:
        crossed = [stretch for both in met for stretch in both if stretch.lane is lane]
        outlines += [(PAVEMENT, quad) for quad in _pavement(lane, crossed)]
    outlines += [(CROSSING, np.concatenate([stretch.kerb() for stretch in both])) for both in met]
    points, polygons = _weld([outline for _, outline in outlines])
    pieces = [
        (kind, piece)
        for (kind, _), corners in zip(outlines, _meet(points, polygons), strict=True)
        for piece in _cut(corners)
    ]
    corners = [piece for _, piece in pieces]
    return Walkways(points, [kind for kind, _ in pieces], corners, _neighbours(corners))


def walked(road_map: RoadMap) -> list[Lane]:
    """The lanes that pedestrians use along the road: pavements, or on a map without any, wide hard shoulders."""
    pavements = [lane for lane in road_map.lanes if lane.kind == "sidewalk"]
    shoulders = (lane for lane in road_map.lanes if lane.kind == "shoulder" and lane.width.min() >= SHOULDER)
    return pavements or list(shoulders)


class _Stretch(NamedTuple):
    """Where a crossing meets a pavement: between two samples of its lane."""

    lane: Lane
    first: int
    last: int

    def kerb(self) -> Floats:
        """(2, 2): the ends of the stretch on the side of the road, which is a driver's left."""
        return _sides(self.lane, [self.first, self.last])[0]


def _meets(crossing: Crossing, pavements: list[Lane]) -> tuple[_Stretch, _Stretch] | None:
    """The stretches of pavement at both ends of a crossing, so wide as it is; None where an end has no pavement."""
    start, end = np.array(crossing.start[:2]), np.array(crossing.end[:2])
    along = (end - start) / np.linalg.norm(end - start)
    side = np.array([-along[1], along[0]]) * crossing.width / 2.0
    found = []
    for point in (start, end):
        beside = [lane for lane in pavements if lane.road_id == crossing.road_id]
        away = [np.hypot(*(lane.centre[:, :2] - point).T).min() for lane in beside]
        if not away or min(away) > crossing.width:
            return None
        lane = beside[int(np.argmin(away))]
        ends = sorted(int(np.argmin(np.hypot(*(lane.centre[:, :2] - at).T))) for at in (point - side, point + side))
        found.append(_Stretch(lane, ends[0], max(ends[1], ends[0] + 1)))
    return None if found[0].lane is found[1].lane else (found[0], found[1])


def _pavement(lane: Lane, crossed: list[_Stretch]) -> list[Floats]:
    """(4, 2) corners of the pieces of a pavement; each stretch where a crossing meets it is one piece."""
    inside = {i for stretch in crossed for i in range(stretch.first + 1, stretch.last)}
    bounds = {i for stretch in crossed for i in (stretch.first, stretch.last)}
    keep = [0]
    for i in range(1, len(lane.s)):
        far = i + 1 == len(lane.s) or lane.s[i + 1] - lane.s[keep[-1]] > STEP
        turned = abs(lane.yaw[min(i + 1, len(lane.s) - 1)] - lane.yaw[keep[-1]]) > TURN
        if i in bounds or ((far or turned) and i not in inside):
            keep.append(i)
    left, right = _sides(lane, keep)
    return [np.array([left[i], right[i], right[i + 1], left[i + 1]]) for i in range(len(keep) - 1)]


def _sides(lane: Lane, at: list[int]) -> tuple[Floats, Floats]:
    """(N, 2) each: the left and the right border of what of a pavement is walked on, at some of its samples."""
    yaw, half = np.radians(lane.yaw[at]), np.maximum(lane.width[at] / 2.0 - CLEARANCE, 0.05)
    right = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1) * half[:, None]
    middle = lane.centre[at, :2]
    return middle - right, middle + right


def _weld(outlines: list[Floats]) -> tuple[Floats, list[list[int]]]:
    """Points that nearly coincide become one; polygons turn the same way round."""
    points: list[tuple[float, float]] = []
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    polygons = []
    for outline in outlines:
        corners: list[int] = []
        for x, y in outline.tolist():
            column, line = math.floor(x / MERGE), math.floor(y / MERGE)
            near = (i for u in (-1, 0, 1) for v in (-1, 0, 1) for i in cells.get((column + u, line + v), ()))
            index = next((i for i in near if math.dist(points[i], (x, y)) < MERGE), -1)
            if index < 0:
                index = len(points)
                points.append((x, y))
                cells[(column, line)].append(index)
            if index not in corners:
                corners.append(index)
        turn = sum(
            points[a][0] * points[b][1] - points[b][0] * points[a][1]
            for a, b in itertools.pairwise([*corners, corners[0]])
        )
        polygons.append(corners if turn < 0.0 else corners[::-1])
    return np.array(points).reshape(-1, 2), polygons


def _meet(points: Floats, polygons: list[list[int]]) -> list[list[int]]:
    """Puts the corners of other polygons that lie on an edge into it, so that polygons meet edge to edge."""
    met = []
    for corners in polygons:
        full: list[int] = []
        for a, b in itertools.pairwise([*corners, corners[0]]):
            edge = points[b] - points[a]
            length = float(np.hypot(*edge))
            offset = points - points[a]
            along = offset @ edge / length
            across = np.abs(offset @ np.array([-edge[1], edge[0]])) / length
            on = np.flatnonzero((across < MERGE) & (along > MERGE) & (along < length - MERGE))
            full += [a, *on[np.argsort(along[on])].tolist()]
        met.append(full)
    return met


def _cut(corners: list[int]) -> list[list[int]]:
    """A convex polygon in pieces of at most MAX_CORNERS corners."""
    if len(corners) <= MAX_CORNERS:
        return [corners]
    return [corners[:MAX_CORNERS], *_cut([corners[0], *corners[MAX_CORNERS - 1 :]])]


def _neighbours(polygons: list[list[int]]) -> list[list[int]]:
    sides: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, corners in enumerate(polygons):
        for a, b in itertools.pairwise([*corners, corners[0]]):
            sides[(a, b)].append(index)
    return [
        [
            next((i for i in sides.get((b, a), ()) if i != index), -1)
            for a, b in itertools.pairwise([*corners, corners[0]])
        ]
        for index, corners in enumerate(polygons)
    ]
