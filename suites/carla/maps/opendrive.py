"""Reads OpenDRIVE 1.4 into plain records, still in OpenDRIVE's own frame (right-handed, t positive to the left).

The subset: line, arc, spiral, poly3 and paramPoly3; lane offsets, widths, markings, links, speeds; junctions;
crosswalk objects; traffic lights; elevation. Roads are level across: superelevation is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from suites.carla.maps.geometry import Arc, Floats, Geometry, Line, ParamPoly3, Placed, Poly3, Spiral
from suites.carla.maps.signals import read_lights

SPEED_UNITS = {"": 1.0, "m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704}
_Record = TypeVar("_Record")
DEFAULT_SPEED = 50 / 3.6  # m/s, where a file states none
FLAT = 1e-3  # metres and metres per metre: a bank below this counts as none
Cubics = list[tuple[float, float, float, float, float]]  # (s from which it holds, a, b, c, d), ascending


@dataclass
class LaneRecord:
    id: int
    type: str
    widths: Cubics
    markings: list[tuple[float, str, str, float]]  # (s from which it holds, type, colour, width)
    predecessors: list[int]
    successors: list[int]
    speeds: Cubics  # its own limits in m/s


@dataclass
class SectionRecord:
    """A lane section; `lanes` maps ids to lanes and holds the centre as 0."""

    start: float
    end: float
    lanes: dict[int, LaneRecord]


@dataclass
class RoadRecord:
    """One road. `predecessor` and `successor` are (element type, element id, contact point)."""

    id: int
    length: float
    junction: int
    predecessor: tuple[str, int, str] | None
    successor: tuple[str, int, str] | None
    speeds: Cubics  # limits in m/s
    plan: list[Placed]
    offsets: Cubics
    elevation: Cubics
    sections: list[SectionRecord]
    crosswalks: list[tuple[float, float, float, float]]  # s, t, length along the road, width across it
    lights: dict[bool, str]  # ids of its traffic lights; True: of the one for the traffic against its s

    def reference(self, s: Floats) -> Floats:
        """(N, 3) x, y, heading of the reference line at each s; OpenDRIVE's frame."""
        starts = np.array([piece.s for piece in self.plan])
        which = np.clip(np.searchsorted(starts, s, side="right") - 1, 0, len(starts) - 1)
        out = np.empty((len(s), 3))
        for index in np.unique(which):
            mask = which == index
            out[mask] = self.plan[index].at(s[mask])
        return out

    def offset(self, s: Floats) -> Floats:
        """Lane offset in metres at each s, positive to the left."""
        return cubic(self.offsets, s)

    def height(self, s: Floats) -> Floats:
        """Height in metres of the reference line at each s."""
        return cubic(self.elevation, s)

    def slope(self, s: Floats) -> Floats:
        """How much the reference line rises at each s, metres per metre."""
        return cubic([(start, b, 2 * c, 3 * d, 0.0) for start, _, b, c, d in self.elevation], s)


@dataclass
class JunctionRecord:
    """`links[(incoming road, lane)]` lists (connecting road, contact point, lane)."""

    id: int
    links: dict[tuple[int, int], list[tuple[int, str, int]]] = field(default_factory=dict)


@dataclass
class Network:
    name: str
    scenery: str
    roads: dict[int, RoadRecord]
    junctions: dict[int, JunctionRecord]


def cubic(pieces: Cubics, s: Floats) -> Floats:
    """The piecewise cubic at each s; 0 before its first piece."""
    if not pieces:
        return np.zeros_like(s)
    table = np.array(pieces)
    which = np.searchsorted(table[:, 0], s + 1e-9, side="right") - 1
    row = table[np.maximum(which, 0)]
    ds = s - row[:, 0]
    value = row[:, 1] + ds * (row[:, 2] + ds * (row[:, 3] + ds * row[:, 4]))
    return np.where(which >= 0, value, 0.0)


def read(xodr: str) -> Network:
    """The road network of an OpenDRIVE text.

    Raises ValueError, naming the road and the record, for what is not XML, not OpenDRIVE or outside the subset.
    """
    try:
        root = ElementTree.fromstring(xodr)
    except ElementTree.ParseError as error:
        raise ValueError(f"this is not an OpenDRIVE file: {error}") from error
    if root.tag != "OpenDRIVE":
        raise ValueError(f"this is not an OpenDRIVE file: its root element is <{root.tag}>, not <OpenDRIVE>")
    header = root.find("header")
    name = "" if header is None else header.get("name", "")
    data = root.find("header/userData[@code='scenery']")
    roads = [_guard(element, "road", _read_road) for element in root.findall("road")]
    if not roads:
        raise ValueError("this OpenDRIVE file has no <road>; at least one is needed")
    junctions = [_guard(element, "junction", _read_junction) for element in root.findall("junction")]
    return Network(
        name, "" if data is None else data.get("value", ""), {r.id: r for r in roads}, {j.id: j for j in junctions}
    )


def _guard(element: Element, kind: str, read_one: Callable[[Element], _Record]) -> _Record:
    """`read_one(element)`, whose faults name the element they were found in."""
    try:
        return read_one(element)
    except (ValueError, KeyError) as error:
        what = f"attribute {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"OpenDRIVE {kind} {element.get('id')!r}: {what}") from error


def _read_road(element: Element) -> RoadRecord:
    length = float(element.attrib["length"])
    _refuse_banks(element)
    lanes = element.find("lanes")
    if lanes is None or not lanes.findall("laneSection"):
        raise ValueError("it has no <laneSection>; at least one is needed")
    starts = [float(section.attrib["s"]) for section in lanes.findall("laneSection")]
    sections = [
        _read_section(section, start, end)
        for section, start, end in zip(lanes.findall("laneSection"), starts, [*starts[1:], length], strict=True)
    ]
    speeds = [(kind.get("s", "0"), record) for kind in element.findall("type") for record in kind.findall("speed")]
    plan = [_read_geometry(record) for record in element.findall("planView/geometry")]
    if not plan:
        raise ValueError("its <planView> has no <geometry>; at least one is needed")
    return RoadRecord(
        id=int(element.attrib["id"]),
        length=length,
        junction=int(element.get("junction", "-1")),
        predecessor=_road_link(element.find("link/predecessor")),
        successor=_road_link(element.find("link/successor")),
        speeds=[(0.0, DEFAULT_SPEED, 0.0, 0.0, 0.0), *_speeds(speeds, 0.0)],
        plan=plan,
        offsets=_cubics(lanes.findall("laneOffset"), "s", 0.0),
        elevation=_cubics(element.findall("elevationProfile/elevation"), "s", 0.0),
        sections=sections,
        crosswalks=[_read_crosswalk(o) for o in element.findall("objects/object") if o.get("type") == "crosswalk"],
        lights=read_lights(element),
    )


def _refuse_banks(road: Element) -> None:
    for path in ("lateralProfile/superelevation", "lateralProfile/crossfall"):
        for record in road.findall(path):
            if any(abs(float(record.get(key, "0"))) > FLAT for key in "abcd"):
                raise ValueError(
                    f"<{record.tag}> at s={record.get('s')} is not 0, but roads of the embedded server are level "
                    "across; set its a, b, c and d to 0"
                )


def _read_geometry(record: Element) -> Placed:
    length = float(record.attrib["length"])
    shape = next(iter(record), None)
    curve: Geometry
    if shape is None:
        raise ValueError(f"<geometry> at s={record.get('s')} has no shape")
    values = {key: float(value) for key, value in shape.attrib.items() if key != "pRange"}
    if length <= 0.0:
        raise ValueError(f"<geometry> at s={record.get('s')} has length {length}; it must be positive")
    if shape.tag == "line":
        curve = Line(length)
    elif shape.tag == "arc":
        curve = Arc(length, values["curvature"])
    elif shape.tag == "spiral":
        curve = Spiral(length, values["curvStart"], values["curvEnd"])
    elif shape.tag == "poly3":
        curve = Poly3(length, values["a"], values["b"], values["c"], values["d"])
    elif shape.tag == "paramPoly3":
        u = (values["aU"], values["bU"], values["cU"], values["dU"])
        v = (values["aV"], values["bV"], values["cV"], values["dV"])
        curve = ParamPoly3(length, u, v, shape.get("pRange", "normalized") == "normalized")
    else:
        raise ValueError(f"geometry <{shape.tag}> is unknown; known: line, arc, spiral, poly3, paramPoly3")
    s, x, y, heading = (float(record.attrib[key]) for key in ("s", "x", "y", "hdg"))
    return Placed(s, x, y, heading, curve)


def _read_section(section: Element, start: float, end: float) -> SectionRecord:
    lanes = {}
    for element in section.iter("lane"):
        lane = LaneRecord(
            id=int(element.attrib["id"]),
            type=element.get("type", "none"),
            widths=_cubics(element.findall("width"), "sOffset", start),
            markings=[_marking(mark, start) for mark in element.findall("roadMark")],
            predecessors=[int(record.attrib["id"]) for record in element.findall("link/predecessor")],
            successors=[int(record.attrib["id"]) for record in element.findall("link/successor")],
            speeds=_speeds([(record.get("sOffset", "0"), record) for record in element.findall("speed")], start),
        )
        lanes[lane.id] = lane
    for sign in (1, -1):
        side = sorted(abs(i) for i in lanes if i * sign > 0)
        if side != list(range(1, len(side) + 1)):
            raise ValueError(f"the lane ids {side} of one side at s={start} have gaps; number them from 1 outwards")
    return SectionRecord(start, end, lanes)


def _marking(mark: Element, start: float) -> tuple[float, str, str, float]:
    begin, width = start + float(mark.get("sOffset", "0")), float(mark.get("width", "0.15")) or 0.15
    return begin, mark.get("type", "none").strip(), mark.get("color", "standard"), width


def _cubics(records: list[Element], key: str, start: float) -> Cubics:
    pieces = [
        (
            start + float(record.attrib[key]),
            float(record.attrib["a"]),
            float(record.attrib["b"]),
            float(record.attrib["c"]),
            float(record.attrib["d"]),
        )
        for record in records
    ]
    return sorted(pieces)


def _road_link(record: Element | None) -> tuple[str, int, str] | None:
    if record is None:
        return None
    return record.attrib["elementType"], int(record.attrib["elementId"]), record.get("contactPoint", "")


def _speeds(records: list[tuple[str, Element]], start: float) -> Cubics:
    """Limits, each from some metres behind `start` on."""
    pieces = [(start + float(s), _speed(record), 0.0, 0.0, 0.0) for s, record in records]
    return sorted(pieces, key=lambda piece: piece[0])


def _speed(record: Element) -> float:
    unit = record.get("unit", "m/s")
    if unit not in SPEED_UNITS:
        raise ValueError(f"speed unit {unit!r} is unknown; known: m/s, km/h, mph")
    limit = record.attrib["max"]
    return DEFAULT_SPEED if limit in ("no limit", "undefined") else float(limit) * SPEED_UNITS[unit]


def _read_crosswalk(record: Element) -> tuple[float, float, float, float]:
    """(s, t, length along the road, width across it) of a crosswalk, from its outline where it has one."""
    s, t = float(record.attrib["s"]), float(record.attrib["t"])
    corners = [(float(c.attrib["u"]), float(c.attrib["v"])) for c in record.iter("cornerLocal")]
    if not corners:
        return s, t, float(record.get("length", "4")), float(record.get("width", "6"))
    heading = float(record.get("hdg", "0"))
    points = np.array(corners) @ np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    (low_s, low_t), (high_s, high_t) = points.min(axis=0), points.max(axis=0)
    return (
        s + float(low_s + high_s) / 2,
        t + float(low_t + high_t) / 2,
        float(high_s - low_s),
        float(high_t - low_t),
    )


def _read_junction(element: Element) -> JunctionRecord:
    junction = JunctionRecord(int(element.attrib["id"]))
    for connection in element.findall("connection"):
        incoming, connecting = int(connection.attrib["incomingRoad"]), int(connection.attrib["connectingRoad"])
        for link in connection.findall("laneLink"):
            targets = junction.links.setdefault((incoming, int(link.attrib["from"])), [])
            targets.append((connecting, connection.get("contactPoint", "start"), int(link.attrib["to"])))
    return junction
