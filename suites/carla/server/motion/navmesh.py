"""Walkways as the client's navigation reads them: a set of one Detour tile, version 7, with 32-bit references.

The client plans and moves the walkers of its `controller.ai.walker` on this mesh and sends where they are. Detour's
axes are CARLA's x, z and y. Layouts: Recast & Detour, DetourNavMesh.h, and the set's header of its demo.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps import RoadMap
from suites.carla.maps.walkways import CROSSING, PAVEMENT, Walkways, walked, walkways

FORMAT = 1  # of what this file writes; clients keep files by name
_SET_MAGIC, _SET_VERSION = 0x4D534554, 1  # "MSET"
_TILE_MAGIC, _TILE_VERSION = 0x444E4156, 7  # "DNAV"
_FIRST_TILE = 1 << 16  # its reference: generation 1 above the bits of MAX_POLYGONS
MAX_POLYGONS = 1 << 16
_SIX = 6  # corners that a polygon has room for
# CARLA's areas and flags.
_AREA = {PAVEMENT: 1, CROSSING: 2}
_FLAG = {PAVEMENT: 0x02, CROSSING: 0x04}
HEIGHT, RADIUS, CLIMB = 1.8, 0.3, 0.3  # metres: of a pedestrian, and of a step
MARGIN = 10.0  # metres of the tile around the mesh

_SET = struct.Struct("<3i5f2i")  # magic, version, tiles; origin, tile width and height, most tiles and polygons
_ENTRY = struct.Struct("<Ii")  # tile reference, bytes
_HEADER = struct.Struct("<5iI9i3f6ff")
_POLYGON = struct.Struct("<I6H6HHBB")
_DETAIL = struct.Struct("<IIBBxx")


def file_name(road_map: RoadMap) -> str | None:
    """The name of a map's mesh file, which changes with its content; None where nobody can walk."""
    if not walked(road_map):
        return None
    digest = hashlib.sha256(road_map.opendrive.encode()).hexdigest()[:12]
    return f"Carla/Maps/Nav/{road_map.name}-{FORMAT}-{digest}.bin"


@lru_cache(maxsize=8)
def navigation_mesh(road_map: RoadMap) -> bytes:
    """The content of a map's mesh file; empty where nobody can walk."""
    ways = walkways(road_map)
    if not ways.corners:
        return b""
    low, high = ways.points.min(axis=0) - MARGIN, ways.points.max(axis=0) + MARGIN
    kerb = road_map.ground.kerb
    heights = np.array([road_map.terrain(x, y) + kerb for x, y in ways.points.tolist()])
    tile = _tile(ways, heights, low.tolist(), high.tolist())
    origin = (low[0], heights.min() - 1.0, low[1])
    head = _SET.pack(_SET_MAGIC, _SET_VERSION, 1, *origin, *(high - low), 1, MAX_POLYGONS)
    return head + _ENTRY.pack(_FIRST_TILE, len(tile)) + tile


def _tile(ways: Walkways, heights: NDArray[np.float64], low: list[float], high: list[float]) -> bytes:
    """Every polygon comes with the fan of triangles that tells its height; there is no tree of bounding volumes."""
    points = np.empty((len(ways.points), 3), "<f4")
    points[:, 0], points[:, 1], points[:, 2] = ways.points[:, 0], heights, ways.points[:, 1]
    polygons, details, triangles = bytearray(), bytearray(), bytearray()
    for kind, corners, beyond in zip(ways.kinds, ways.corners, ways.neighbours, strict=True):
        empty = [0] * (_SIX - len(corners))
        sides = [neighbour + 1 for neighbour in beyond]
        polygons += _POLYGON.pack(0, *corners, *empty, *sides, *empty, _FLAG[kind], len(corners), _AREA[kind])
        details += _DETAIL.pack(0, len(triangles) // 4, 0, len(corners) - 2)
        for j in range(2, len(corners)):
            rim = 0x04 | (0x01 if j == 2 else 0) | (0x10 if j == len(corners) - 1 else 0)
            triangles += bytes((0, j - 1, j, rim))
    links = sum(len(corners) for corners in ways.corners)
    header = _HEADER.pack(
        _TILE_MAGIC, _TILE_VERSION, 0, 0, 0, 0, len(ways.corners), len(points), links,
        len(ways.corners), 0, len(triangles) // 4, 0, 0, len(ways.corners), HEIGHT, RADIUS, CLIMB,
        low[0], heights.min() - 1.0, low[1], high[0], heights.max() + HEIGHT, high[1], 1.0,
    )  # fmt: skip
    return header + points.tobytes() + bytes(polygons) + bytes(12 * links) + bytes(details) + bytes(triangles)
