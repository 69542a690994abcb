"""A road's cross-sections, one each half metre: borders, kinds, markings, crossings and stop lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import CROSSING, DRIVING, GRASS, PARKING, SHOULDER, SIDEWALK, STOP_LEFT, STOP_RIGHT, VERGE
from suites.carla.maps.lanes import KINDS, MARKINGS, SAME_MARKING, borders
from suites.carla.maps.opendrive import LaneRecord, RoadRecord, SectionRecord

ROW = 0.5  # metres between cross-sections, at most
STOP_LINE = 0.5  # metres along the road
YELLOW = 8  # added to the index of a marking
CODES = {"driving": DRIVING, "parking": PARKING, "shoulder": SHOULDER, "sidewalk": SIDEWALK}


@dataclass
class CrossSections:
    """The rows of one road; arrays as in `suites.carla.maps.ground.Ground`.

    line: float64 (rows, 4): x, y, cos and sin of the heading of the reference line in CARLA's frame. z: float64
    (rows,), its height.
    """

    step: float
    line: NDArray[np.float64]
    z: NDArray[np.float64]
    slots: NDArray[np.int32]
    part: NDArray[np.int32]
    border: NDArray[np.float32]
    kind: NDArray[np.uint8]
    mark: NDArray[np.uint8]
    mark_width: NDArray[np.float32]
    flag: NDArray[np.uint8]


def cut(road: RoadRecord, columns: int) -> CrossSections:
    """The cross-sections of a road, in tables of `columns` borders (at least its own number)."""
    rows = max(2, math.ceil(road.length / ROW) + 1)
    s = np.linspace(0.0, road.length, rows)
    x, y, heading = road.reference(s).T
    starts = np.array([section.start for section in road.sections])
    table = CrossSections(
        step=road.length / (rows - 1),
        line=np.stack([x, -y, np.cos(heading), -np.sin(heading)], axis=1),
        z=road.height(s),
        slots=np.zeros(rows, np.int32),
        part=np.clip(np.searchsorted(starts, s, side="right") - 1, 0, len(starts) - 1).astype(np.int32),
        border=np.zeros((rows, columns), np.float32),
        kind=np.zeros((rows, columns), np.uint8),
        mark=np.zeros((rows, columns), np.uint8),
        mark_width=np.zeros((rows, columns), np.float32),
        flag=_flags(road, s),
    )
    for number, section in enumerate(road.sections):
        here = np.flatnonzero(table.part == number)
        if len(here):
            _cut_section(table, road, section, here, s)
    crossed = (table.flag & CROSSING) != 0
    table.kind[crossed[:, None] & (table.kind == VERGE)] = SIDEWALK  # the way across the grass to the kerb is paved
    return table


def _cut_section(
    table: CrossSections, road: RoadRecord, section: SectionRecord, here: NDArray[np.int64], s: NDArray[np.float64]
) -> None:
    edges = borders(road, section, s[here])
    codes = _codes(section)
    left_to_right = sorted(section.lanes, reverse=True)
    table.slots[here] = len(left_to_right) - 1
    for column, lane_id in enumerate(left_to_right):
        table.border[here, column] = -edges[lane_id]
        _mark(table, section.lanes[lane_id], column, here, s)
    for column, lane_id in enumerate(i for i in left_to_right if i != 0):
        table.kind[here, column] = codes[lane_id]


def _mark(table: CrossSections, lane: LaneRecord, column: int, here: NDArray[np.int64], s: NDArray[np.float64]) -> None:
    for start, kind, colour, width in lane.markings:
        rows = here[s[here] >= start - 1e-6]
        kind = SAME_MARKING.get(kind, kind)
        index = MARKINGS.index(kind) if kind in MARKINGS else 0
        table.mark[rows, column] = index + (YELLOW if colour == "yellow" else 0)
        table.mark_width[rows, column] = width


def _codes(section: SectionRecord) -> dict[int, int]:
    """The code of each lane; grass between a road and its pavement is a verge."""
    codes = {i: CODES.get(KINDS.get(lane.type, ""), GRASS) for i, lane in section.lanes.items()}
    for lane_id in codes:
        beyond = [i for i in codes if i * lane_id > 0 and abs(i) > abs(lane_id)]
        if codes[lane_id] == GRASS and any(codes[i] == SIDEWALK for i in beyond):
            codes[lane_id] = VERGE
    return codes


def _flags(road: RoadRecord, s: NDArray[np.float64]) -> NDArray[np.uint8]:
    flag = np.zeros(len(s), np.uint8)
    for middle, _, length, _ in road.crosswalks:
        flag[np.abs(s - middle) <= length / 2] |= CROSSING
    if road.junction == -1:
        if road.successor and road.successor[0] == "junction":
            flag[s >= road.length - STOP_LINE] |= STOP_RIGHT
        if road.predecessor and road.predecessor[0] == "junction":
            flag[s <= STOP_LINE] |= STOP_LEFT
    return flag
