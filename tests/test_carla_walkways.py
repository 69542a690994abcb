"""Where pedestrians walk, and the mesh of it that clients download."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from suites.carla.maps import load_map, parse
from suites.carla.maps.walkways import CROSSING, MAX_CORNERS, PAVEMENT, Walkways, walkways
from suites.carla.server.motion import navmesh

HEADER, POLYGON = 100, 32  # bytes


@pytest.fixture(scope="module", params=["street", "suburb", "highway"])
def ways(request: pytest.FixtureRequest) -> tuple[str, Walkways]:
    return request.param, walkways(load_map(request.param))


def signed_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2.0)


def test_polygons_lie_on_pavements_and_crossings(ways: tuple[str, Walkways]) -> None:
    name, (points, kinds, corners, _) = ways
    road_map = load_map(name)
    surfaces = {PAVEMENT: {"shoulder" if name == "highway" else "sidewalk"}, CROSSING: {"driving"}}
    for kind, polygon in zip(kinds, corners, strict=True):
        x, y = points[polygon].mean(axis=0)
        assert road_map.surface(x, y) in surfaces[kind]
    assert kinds.count(CROSSING) == len(road_map.crossings)


def test_polygons_are_convex_and_turn_the_same_way(ways: tuple[str, Walkways]) -> None:
    _, (points, _, corners, _) = ways
    for polygon in corners:
        assert 3 <= len(polygon) <= MAX_CORNERS and len(set(polygon)) == len(polygon)
        outline = points[polygon]
        assert signed_area(outline) < -0.01
        ahead = np.roll(outline, -1, axis=0) - outline
        after = np.roll(ahead, -1, axis=0)
        assert (ahead[:, 0] * after[:, 1] - ahead[:, 1] * after[:, 0] < 0.05).all()


def test_neighbours_share_an_edge_and_know_each_other(ways: tuple[str, Walkways]) -> None:
    _, (_, _, corners, neighbours) = ways
    for index, (polygon, beyond) in enumerate(zip(corners, neighbours, strict=True)):
        for edge, other in enumerate(beyond):
            if other >= 0:
                assert index in neighbours[other]
                assert {polygon[edge], polygon[(edge + 1) % len(polygon)]} <= set(corners[other])


@pytest.mark.parametrize(("name", "parts"), [("street", 1), ("suburb", 1), ("suburb_1", 5), ("highway", 1)])
def test_crossings_join_the_pavements(name: str, parts: int) -> None:
    """Without crossings the suburb's four blocks and the outside are apart; highway has one wide shoulder."""
    neighbours = walkways(load_map(name)).neighbours
    left, found = set(range(len(neighbours))), 0
    while left:
        found += 1
        reach = [left.pop()]
        while reach:
            near = {other for other in neighbours[reach.pop()] if other in left}
            left -= near
            reach += near
    assert found == parts


def test_the_mesh_is_one_tile_of_detours_layout() -> None:
    road_map = load_map("street")
    mesh, ways = navmesh.navigation_mesh(road_map), walkways(road_map)
    assert struct.unpack_from("<3i", mesh) == (0x4D534554, 1, 1)
    reference, size = struct.unpack_from("<Ii", mesh, 40)
    assert reference == 1 << 16 and size == len(mesh) - 48
    tile = mesh[48:]
    magic, version, *_ = struct.unpack_from("<2i", tile)
    polygons, points, links, details, _, triangles = struct.unpack_from("<6i", tile, 24)
    assert (magic, version, polygons, details) == (0x444E4156, 7, len(ways.corners), len(ways.corners))
    assert (points, links) == (len(ways.points), sum(map(len, ways.corners)))
    assert size == HEADER + 12 * points + POLYGON * polygons + 12 * links + 12 * details + 4 * triangles
    second = HEADER + 12 * points + POLYGON
    corners = len(ways.corners[1])
    assert list(struct.unpack_from(f"<{corners}H", tile, second + 4)) == ways.corners[1]
    assert list(struct.unpack_from(f"<{corners}H", tile, second + 16)) == [n + 1 for n in ways.neighbours[1]]
    flags, count, area = struct.unpack_from("<HBB", tile, second + 28)
    assert (flags, count, area) == (0x02, corners, 1)


def test_a_changed_map_has_a_file_of_another_name() -> None:
    street = load_map("street")
    other = parse(street.opendrive.replace('max="13.8888', 'max="12.8888', 1), "street")
    assert navmesh.file_name(street) != navmesh.file_name(other)


def test_a_map_without_pavements_or_wide_shoulders_has_no_mesh() -> None:
    text = load_map("highway").opendrive
    narrow = parse(text.replace('a="2.8"', 'a="1.8"'), "highway")
    assert text.count('a="2.8"') and navmesh.file_name(load_map("highway"))
    assert navmesh.file_name(narrow) is None and navmesh.navigation_mesh(narrow) == b""
