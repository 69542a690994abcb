"""Writes OpenDRIVE 1.4: what the maps of this package are drawn with.

Coordinates here are OpenDRIVE's own: right-handed metres and radians, y and curvature positive to the left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from suites.carla.maps.geometry import Arc, Geometry, Line, Spiral, advance
from suites.carla.maps.signals import write_signal

# Longitude 0, latitude 0: CARLA's own default, from which its GNSS sensor counts.
GEO_REFERENCE = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
Pose2 = tuple[float, float, float]  # x, y, heading


@dataclass(frozen=True)
class LaneSpec:
    """One lane: its OpenDRIVE type, width in metres at its start and end, and the marking at its outer border."""

    type: str
    width: float
    marking: str = "none"
    end_width: float | None = None


@dataclass(frozen=True)
class Profile:
    """A road's cross-section. `left` and `right` list the lanes from the centre outwards; speed in m/s."""

    left: tuple[LaneSpec, ...]
    right: tuple[LaneSpec, ...]
    centre_marking: str
    speed: float
    centre_colour: str = "standard"

    def driving_lanes(self, end: str) -> dict[int, float]:
        """The driving lanes that lead to the "start" or the "end" of the road: each id with its outer border's t."""
        sign, lanes = (1, self.left) if end == "start" else (-1, self.right)
        borders = itertools.accumulate(lane.width for lane in lanes)
        found = zip(itertools.count(1), lanes, borders, strict=False)
        return {sign * number: sign * border for number, lane, border in found if lane.type == "driving"}

    def driving_edge(self, side: str) -> float:
        """Metres from the centre to the outer border of the outermost driving lane of that side."""
        edge = total = 0.0
        for lane in self.left if side == "left" else self.right:
            total += lane.width
            edge = total if lane.type == "driving" else edge
        return edge


@dataclass
class Road:
    """A road under construction. `ends` are ("road" | "junction", id, contact point) at its start and its end."""

    id: int
    start: Pose2
    path: list[Geometry]
    profile: Profile
    junction: int = -1
    predecessor: tuple[str, int, str] | None = None
    successor: tuple[str, int, str] | None = None
    lane_links: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)  # lane: (before, after)
    crossings: list[tuple[float, float]] = field(default_factory=list)  # (s of the middle, width along the road)
    heights: list[tuple[float, float]] = field(default_factory=list)  # (s, z), ascending; level at each
    signals: list[str] = field(default_factory=list)  # the ends, "start" or "end", at which it has a traffic light

    @property
    def length(self) -> float:
        return sum(piece.length for piece in self.path)

    @property
    def end(self) -> Pose2:
        pose = self.start
        for piece in self.path:
            pose = advance(pose, piece)
        return pose


@dataclass(frozen=True)
class Connection:
    """One movement through a junction."""

    incoming: int
    connecting: int
    lane_links: tuple[tuple[int, int], ...]


def link(first: Road, second: Road) -> None:
    """Joins the end of `first` to the start of `second`, lane by lane of the same type counted from the centre."""
    first.successor = ("road", second.id, "start")
    second.predecessor = ("road", first.id, "end")
    for before, after in matching_lanes(first.profile, second.profile):
        first.lane_links[before] = (first.lane_links.get(before, (None, None))[0], after)
        second.lane_links[after] = (before, second.lane_links.get(after, (None, None))[1])


def matching_lanes(first: Profile, second: Profile) -> Iterable[tuple[int, int]]:
    """Pairs of lane ids of two profiles that continue each other."""
    for sign, ours, theirs in ((1, first.left, second.left), (-1, first.right, second.right)):
        for kind in ("driving", "parking", "sidewalk", "shoulder"):
            here = [sign * (i + 1) for i, lane in enumerate(ours) if lane.type == kind]
            there = [sign * (i + 1) for i, lane in enumerate(theirs) if lane.type == kind]
            yield from zip(here, there, strict=False)


def write(
    name: str,
    roads: Iterable[Road],
    junctions: dict[int, list[Connection]],
    scenery: str,
    controllers: dict[int, list[str]] | None = None,
) -> str:
    """The OpenDRIVE text.

    scenery: names what stands beside the roads; it travels in a `userData` record. controllers: by junction, the
    signals that take turns there; each is one controller.
    """
    controllers = controllers or {}
    root = Element("OpenDRIVE")
    header = SubElement(root, "header", revMajor="1", revMinor="4", name=name, version="1.00", vendor="covr-bench")
    SubElement(header, "geoReference").text = GEO_REFERENCE
    SubElement(header, "userData", code="scenery", value=scenery)
    for road in roads:
        _write_road(root, road)
    for signal in itertools.chain(*controllers.values()):
        element = SubElement(root, "controller", name=f"controller {signal}", id=signal, sequence="0")
        SubElement(element, "control", signalId=signal, type="")
    for junction_id, connections in junctions.items():
        element = SubElement(root, "junction", id=str(junction_id), name=f"junction {junction_id}")
        for index, connection in enumerate(connections):
            record = SubElement(
                element,
                "connection",
                id=str(index),
                incomingRoad=str(connection.incoming),
                connectingRoad=str(connection.connecting),
                contactPoint="start",
            )
            for before, after in connection.lane_links:
                SubElement(record, "laneLink", {"from": str(before), "to": str(after)})
        for signal in controllers.get(junction_id, ()):
            SubElement(element, "controller", id=signal, type="")
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def _write_road(root: Element, road: Road) -> None:
    element = SubElement(
        root, "road", name=f"road {road.id}", length=_num(road.length), id=str(road.id), junction=str(road.junction)
    )
    links = SubElement(element, "link")
    for tag, end in (("predecessor", road.predecessor), ("successor", road.successor)):
        if end is not None:
            attributes = {"elementType": end[0], "elementId": str(end[1])}
            if end[0] == "road":
                attributes["contactPoint"] = end[2]
            SubElement(links, tag, attributes)
    kind = SubElement(element, "type", s="0", type="town")
    SubElement(kind, "speed", max=_num(road.profile.speed), unit="m/s")
    _write_plan(SubElement(element, "planView"), road)
    _write_elevation(SubElement(element, "elevationProfile"), road.heights)
    SubElement(element, "lateralProfile")
    _write_lanes(SubElement(element, "lanes"), road)
    if road.crossings:
        objects = SubElement(element, "objects")
        for index, (s, width) in enumerate(road.crossings):
            _write_crossing(objects, road, index, s, width)
    if road.signals:
        signals = SubElement(element, "signals")
        for contact in road.signals:
            write_signal(signals, road.id, road.length, road.profile.driving_lanes(contact), contact)


def _write_elevation(profile: Element, heights: list[tuple[float, float]]) -> None:
    """Smooth steps from one height to the next; the road is level at each and beyond the last."""
    for (s, z), (end, after) in itertools.pairwise(heights):
        c, d = 3.0 * (after - z) / (end - s) ** 2, -2.0 * (after - z) / (end - s) ** 3
        SubElement(profile, "elevation", s=_num(s), a=_num(z), b="0", c=_num(c), d=_num(d))
    s, z = heights[-1] if heights else (0.0, 0.0)
    SubElement(profile, "elevation", s=_num(s) if s else "0", a=_num(z) if z else "0", b="0", c="0", d="0")


def _write_plan(plan: Element, road: Road) -> None:
    pose, s = road.start, 0.0
    for piece in road.path:
        x, y, heading = pose
        record = SubElement(
            plan, "geometry", s=_num(s), x=_num(x), y=_num(y), hdg=_num(heading), length=_num(piece.length)
        )
        if isinstance(piece, Line):
            SubElement(record, "line")
        elif isinstance(piece, Arc):
            SubElement(record, "arc", curvature=_num(piece.curvature))
        elif isinstance(piece, Spiral):
            SubElement(record, "spiral", curvStart=_num(piece.start), curvEnd=_num(piece.end))
        else:
            raise TypeError(f"{type(piece).__name__} cannot be written; draw with Line, Arc and Spiral")
        pose, s = advance(pose, piece), s + piece.length


def _write_lanes(lanes: Element, road: Road) -> None:
    SubElement(lanes, "laneOffset", s="0", a="0", b="0", c="0", d="0")
    section = SubElement(lanes, "laneSection", s="0")
    profile = road.profile
    if profile.left:
        left = SubElement(section, "left")
        for index in reversed(range(len(profile.left))):
            _write_lane(left, road, index + 1, profile.left)
    centre = SubElement(SubElement(section, "center"), "lane", id="0", type="none", level="false")
    _write_marking(centre, profile.centre_marking, profile.centre_colour, "none")  # beyond it one drives against you
    if profile.right:
        right = SubElement(section, "right")
        for index in range(len(profile.right)):
            _write_lane(right, road, -index - 1, profile.right)


def _write_lane(side: Element, road: Road, lane_id: int, lanes: tuple[LaneSpec, ...]) -> None:
    spec, beyond = lanes[abs(lane_id) - 1], lanes[abs(lane_id) :]
    lane = SubElement(side, "lane", id=str(lane_id), type=spec.type, level="false")
    before, after = road.lane_links.get(lane_id, (None, None))
    if before is not None or after is not None:
        links = SubElement(lane, "link")
        for tag, target in (("predecessor", before), ("successor", after)):
            if target is not None:
                SubElement(links, tag, id=str(target))
    slope = 0.0 if spec.end_width is None else (spec.end_width - spec.width) / road.length
    SubElement(lane, "width", sOffset="0", a=_num(spec.width), b=_num(slope), c="0", d="0")
    _write_marking(lane, spec.marking, "standard", _change(spec, beyond))
    if spec.type == "driving":
        SubElement(lane, "speed", sOffset="0", max=_num(road.profile.speed), unit="m/s")


def _change(lane: LaneSpec, beyond: tuple[LaneSpec, ...]) -> str:
    """Which changes of lane the mark at a lane's outer border allows; beyond: the lanes from there outwards."""
    joined = lane.type == "driving" and bool(beyond) and beyond[0].type == "driving"
    return "both" if joined and lane.marking in ("broken", "none") else "none"


def _write_marking(lane: Element, kind: str, colour: str, change: str) -> None:
    SubElement(
        lane, "roadMark", sOffset="0", type=kind, weight="standard", color=colour, width="0.15", laneChange=change
    )


def _write_crossing(objects: Element, road: Road, index: int, s: float, width: float) -> None:
    """A crosswalk from kerb to kerb, outlined in its own frame (u along the road, v to the left)."""
    left = sum(lane.width for lane in road.profile.left if lane.type != "sidewalk")
    right = sum(lane.width for lane in road.profile.right if lane.type != "sidewalk")
    middle = (left - right) / 2.0
    half_u, half_v = width / 2.0, (left + right) / 2.0
    crossing = SubElement(
        objects,
        "object",
        id=str(road.id * 100 + index),
        name="SimpleCrosswalk",
        type="crosswalk",
        s=_num(s),
        t=_num(middle),
        zOffset="0",
        hdg="0",
        roll="0",
        pitch="0",
        orientation="none",
        width=_num(2 * half_v),
        length=_num(width),
    )
    outline = SubElement(crossing, "outline")
    corners = ((-half_u, -half_v), (half_u, -half_v), (half_u, half_v), (-half_u, half_v), (-half_u, -half_v))
    for u, v in corners:
        SubElement(outline, "cornerLocal", u=_num(u), v=_num(v), z="0", height="0")


def _num(value: float) -> str:
    return repr(round(value, 12))
