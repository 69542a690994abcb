"""The OpenDRIVE records of traffic lights, and how they are numbered."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

BESIDE = 2.0  # metres between the outer border of the driving lanes and the pole
HEIGHT, WIDTH = 4.2, 0.5  # metres: of pole and lamps
TRAFFIC_LIGHT = "1000001"  # OpenDRIVE's type


def signal_id(road: int, against: bool) -> str:
    """The id of the light for the traffic of a road. against: the traffic against its s, on its left lanes."""
    return str(10 * road + (1 if against else 0))


def read_lights(road: Element) -> dict[bool, str]:
    """The first traffic light for each direction of a road; one of orientation "none" is for both.

    True: for the traffic against its s.
    """
    found: dict[bool, str] = {}
    for record in road.findall("signals/signal"):
        if record.get("type") == TRAFFIC_LIGHT:
            for against, orientation in ((False, "+"), (True, "-")):
                if record.get("orientation", "none") in (orientation, "none"):
                    found.setdefault(against, record.attrib["id"])
    return found


def write_signal(parent: Element, road: int, length: float, lanes: dict[int, float], end: str) -> None:
    """The light at an end of a road. lanes: the driving lanes that lead there, each id with its outer border's t."""
    against = end == "start"
    edge = max(lanes.values(), key=abs)
    record = SubElement(
        parent,
        "signal",
        name="Signal_3Light_Post01",
        id=signal_id(road, against),
        s=repr(0.0 if against else round(length, 12)),
        t=repr(round(edge + (BESIDE if against else -BESIDE), 12)),
        zOffset="0",
        hOffset="0",
        roll="0",
        pitch="0",
        orientation="-" if against else "+",
        dynamic="yes",
        country="OpenDRIVE",
        type=TRAFFIC_LIGHT,
        subtype="-1",
        value="-1",
        text="",
        height=str(HEIGHT),
        width=str(WIDTH),
    )
    SubElement(record, "validity", fromLane=str(min(lanes)), toLane=str(max(lanes)))
