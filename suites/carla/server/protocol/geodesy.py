"""Latitude and longitude of a place on a map, as `carla.Map.transform_to_geolocation` of each release computes them."""

from __future__ import annotations

import math
import re

from suites.carla.server.protocol.wire import Vector

EARTH_RADIUS = 6378137.0  # metres; both releases take the Earth for a sphere
SCALE = 0.9996  # of 0.9.16's transverse Mercator projection
DEFAULT_ORIGIN = (42.0, 2.0)  # degrees, of a map without a readable geoReference


def map_origin(opendrive: str) -> tuple[float, float]:
    """(latitude, longitude) in degrees of a map's origin."""
    reference = re.search(r"<geoReference>(.*?)</geoReference>", opendrive, re.DOTALL)
    found = [re.search(rf"\+{name}=([-+.\deE]+)", reference[1]) if reference else None for name in ("lat_0", "lon_0")]
    if found[0] is None or found[1] is None:
        return DEFAULT_ORIGIN
    return float(found[0][1]), float(found[1][1])


def mercator(origin: tuple[float, float], place: Vector) -> tuple[float, float]:
    """(latitude, longitude) in degrees, release 0.9.15: y points south."""
    scale = math.cos(math.radians(origin[0])) * EARTH_RADIUS
    x = scale * math.radians(origin[1]) + place.x
    y = scale * math.log(math.tan(math.radians(90.0 + origin[0]) / 2.0)) - place.y
    return math.degrees(2.0 * math.atan(math.exp(y / scale))) - 90.0, math.degrees(x / scale)


def transverse_mercator(origin: tuple[float, float], place: Vector) -> tuple[float, float]:
    """(latitude, longitude) in degrees, release 0.9.16, whose y points north."""
    x = place.x / (SCALE * EARTH_RADIUS)
    y = place.y / (SCALE * EARTH_RADIUS) + math.radians(origin[0])
    latitude = math.asin(math.sin(y) / math.cosh(x))
    return math.degrees(latitude), origin[1] + math.degrees(math.atan2(math.sinh(x), math.cos(y)))
