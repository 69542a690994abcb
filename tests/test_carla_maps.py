"""The maps of the embedded CARLA server, against CARLA's own client library and against brute force."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carla_worlds import fresh
from hypothesis import given, settings
from hypothesis import strategies as st

from suites.carla import maps as maps_package
from suites.carla.maps import FIRST_MAPS, MAPS, RoadMap, load_map, parse
from suites.carla.maps.geometry import Arc, Line, Spiral, advance, biarc
from suites.carla.maps.jit import WITHOUT_KERNELS, compiled, drop_stale, newest_source
from suites.carla.maps.roads import Lane
from suites.carla.server.things.actors import TrafficLight
from suites.carla.task.scenarios import SCENARIOS

road_map = cache(load_map)
every_map = pytest.mark.parametrize("name", list(MAPS))
BUS_WIDTH = 3.95  # metres: of the widest vehicle, vehicle.mitsubishi.fusorosa
MARKS = {"NONE": "none", "Solid": "solid", "Broken": "broken"}


@cache
def client_map(name: str) -> Any:
    return pytest.importorskip("carla").Map(name, road_map(name).opendrive)


def driving(roads: RoadMap) -> list[Lane]:
    return [lane for lane in roads.lanes if lane.kind == "driving"]


def in_frame(dx: float, dy: float, yaw: float) -> tuple[float, float]:
    """Metres ahead and to the right of a heading in degrees."""
    cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    return dx * cos + dy * sin, dy * cos - dx * sin


def xodr(
    geometry: str = '<geometry s="0" x="0" y="0" hdg="0" length="100"><line/></geometry>',
    length: float = 100.0,
    lanes: str = '<right><lane id="-1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right>',
    extra: str = "",
) -> str:
    return (
        f'<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="" length="{length}" id="7" junction="-1">'
        f'<type s="0" type="town"><speed max="36" unit="km/h"/></type><planView>{geometry}</planView>{extra}'
        f'<lanes><laneSection s="0"><center><lane id="0" type="none"/></center>{lanes}</laneSection></lanes></road>'
        "</OpenDRIVE>"
    )


# Against the client library


@every_map
def test_client_finds_topology_and_no_dead_end(name: str) -> None:
    client = client_map(name)
    assert len(client.get_topology()) >= 2
    waypoints = client.generate_waypoints(3.0)
    assert len(waypoints) > 100
    assert all(waypoint.next(4.0) for waypoint in waypoints)


@every_map
def test_client_sees_the_lanes_where_they_are(name: str) -> None:
    carla = pytest.importorskip("carla")
    client, roads = client_map(name), road_map(name)
    for lane in driving(roads):
        for k in range(1, len(lane.s) - 1, 7):
            x, y, z = (float(value) for value in lane.centre[k])
            waypoint = client.get_waypoint(carla.Location(x, y, z))
            found = waypoint.transform.location
            # The client looks along straight pieces of the curves, so it is less exact along the lane than across it.
            along, across = in_frame(found.x - x, found.y - y, lane.yaw[k])
            assert abs(along) < 0.5 and abs(across) < 0.03, (lane.road_id, lane.lane_id, k)
            if lane.in_junction:  # several connecting roads may pass here
                continue
            assert (waypoint.road_id, waypoint.lane_id) == (lane.road_id, lane.lane_id)
            assert abs((waypoint.transform.rotation.yaw - lane.yaw[k] + 180.0) % 360.0 - 180.0) < 0.5
            assert abs(found.z - z) < 0.02
            assert abs((waypoint.transform.rotation.pitch - lane.pitch[k] + 180.0) % 360.0 - 180.0) < 0.05
            assert waypoint.lane_width == pytest.approx(lane.width[k], abs=0.01)
            assert MARKS[str(waypoint.right_lane_marking.type)] == lane.marking_right
            assert MARKS[str(waypoint.left_lane_marking.type)] == lane.marking_left


@every_map
def test_client_agrees_on_neighbours_and_junctions(name: str) -> None:
    carla = pytest.importorskip("carla")
    client, roads = client_map(name), road_map(name)
    for lane in driving(roads):
        x, y, z = (float(value) for value in lane.centre[len(lane.s) // 2])
        waypoint = client.get_waypoint(carla.Location(x, y, z))
        if waypoint.road_id != lane.road_id:
            continue
        assert waypoint.is_junction == lane.in_junction
        for ours, theirs in ((lane.left, waypoint.get_left_lane()), (lane.right, waypoint.get_right_lane())):
            drivable = theirs is not None and str(theirs.lane_type) == "Driving"
            if drivable and theirs.lane_id * lane.lane_id > 0:
                assert ours is not None
                assert roads.lanes[ours].lane_id == theirs.lane_id
            else:
                assert ours is None


@pytest.mark.parametrize(
    "shape",
    [
        '<spiral curvStart="0.002" curvEnd="-0.02"/>',
        '<arc curvature="-0.015"/>',
        '<poly3 a="0" b="0" c="0.004" d="-0.00004"/>',
        '<paramPoly3 pRange="arcLength" aU="0" bU="1" cU="0" dU="-0.00002" aV="0" bV="0" cV="0.003" dV="0"/>',
        '<paramPoly3 pRange="normalized" aU="0" bU="60" cU="0" dU="-6" aV="0" bV="0" cV="12" dV="2"/>',
    ],
)
def test_client_agrees_on_every_geometry(shape: str) -> None:
    carla = pytest.importorskip("carla")
    text = xodr(f'<geometry s="0" x="10" y="5" hdg="0.4" length="60">{shape}</geometry>', 60.0)
    client, lane = carla.Map("one", text), parse(text).lanes[0]
    for k in range(0, len(lane.s), 5):
        x, y, z = (float(value) for value in lane.centre[k])
        found = client.get_waypoint(carla.Location(x, y, z)).transform.location
        assert math.hypot(found.x - x, found.y - y) < 0.15  # CARLA itself steps along the cubics


# The maps


@every_map
def test_lanes_follow_each_other_without_a_gap(name: str) -> None:
    roads = road_map(name)
    for lane in driving(roads):
        assert lane.successors, f"lane {lane.id} leads nowhere"
        for successor in lane.successors:
            after = roads.lanes[successor]
            assert after.kind == "driving"
            assert lane.id in after.predecessors
            assert np.linalg.norm(after.centre[0] - lane.centre[-1]) < 0.01
            assert abs((after.yaw[0] - lane.yaw[-1] + 180.0) % 360.0 - 180.0) < 1.0


@every_map
def test_lanes_are_sampled_as_promised(name: str) -> None:
    for lane in road_map(name).lanes:
        steps = np.linalg.norm(np.diff(lane.centre[:, :2], axis=0), axis=1)
        assert steps.max() <= 1.0 + 1e-9
        assert steps.min() > 0.0
        np.testing.assert_allclose(np.diff(lane.s), steps)
        assert np.abs(np.diff(lane.yaw)).max() < 15.0
        assert lane.centre.dtype == lane.width.dtype == np.float64
        assert lane.centre.shape == (len(lane.s), 3)
        heading = np.degrees(np.arctan2(*(lane.centre[-1] - lane.centre[-2])[1::-1]))
        assert abs((heading - lane.yaw[-1] + 180.0) % 360.0 - 180.0) < 6.0


def test_highway_is_a_closed_one_way_loop_of_four_lanes() -> None:
    lanes = driving(road_map("highway"))
    assert {lane.lane_id for lane in lanes} == {-1, -2, -3, -4}
    for lane_id in (-1, -4):
        lane, travelled, seen = next(lane for lane in lanes if lane.lane_id == lane_id), 0.0, set()
        while lane.id not in seen:
            seen.add(lane.id)
            travelled += lane.length
            lane = road_map("highway").lanes[lane.successors[0]]
        assert travelled > 2000.0
        assert len(seen) == len(lanes) // 4
    turns = np.concatenate([np.diff(lane.yaw) / np.diff(lane.s) for lane in lanes if lane.lane_id == -2])
    assert turns.max() > 0.1 > -0.1 > turns.min()  # it bends both ways
    assert np.mean(np.abs(turns) < 0.01) > 0.3  # and runs straight for a good part


def test_street_has_parking_pavements_and_crossings_and_suburb_leaves_room_for_buses() -> None:
    street, suburb = road_map("street"), road_map("suburb")
    assert {lane.kind for lane in street.lanes} == {"driving", "parking", "sidewalk"}
    assert len(street.parking) > 50
    assert len(street.crossings) >= 3
    assert any(lane.in_junction for lane in suburb.lanes)
    assert min(lane.width.min() for lane in driving(suburb)) > BUS_WIDTH
    assert {round(lane.limit_at(0.0) * 3.6) for lane in driving(suburb)} == {25, 30}  # in turns, and elsewhere
    turns = [lane.in_junction and abs(lane.yaw[-1] - lane.yaw[0]) > 1.0 for lane in driving(street)]
    assert {(round(lane.limit_at(0.0) * 3.6), turn) for lane, turn in zip(driving(street), turns, strict=True)} == {
        (30, True),
        (50, False),
    }


@every_map
def test_places_lie_where_they_should(name: str) -> None:
    roads = road_map(name)
    assert len(roads.spawn_points) >= 50
    points = np.array([(pose.x, pose.y) for pose in roads.spawn_points])
    apart = np.hypot(*(points[:, None] - points[None]).T) + 1e9 * np.eye(len(points))
    assert apart.min() > 2.5
    for pose in roads.spawn_points:
        lane, _, lateral = roads.nearest_lane(pose.x, pose.y, pose.yaw)
        assert roads.lanes[lane].kind == "driving"
        assert abs(lateral) < 0.01
        assert roads.surface(pose.x, pose.y) == "driving"
        assert 0.0 < pose.z - roads.height(pose.x, pose.y) < 1.0
    assert {roads.surface(pose.x, pose.y) for pose in roads.parking} <= {"parking"}
    for crossing in roads.crossings:
        ends = [roads.surface(*crossing.start[:2]), roads.surface(*crossing.end[:2])]
        assert ends == ["sidewalk", "sidewalk"]
        assert roads.surface(*(np.add(crossing.start, crossing.end)[:2] / 2)) == "driving"


def test_opendrive_is_the_same_every_time() -> None:
    assert all(draw() == draw() for draw in (*MAPS.values(), *FIRST_MAPS.values()))


@pytest.mark.parametrize("name", ["street", "suburb"])
def test_a_town_has_junctions_with_and_without_lights_and_crossings(name: str) -> None:
    """The client, the file and the server agree on which road has a light at its end, and at which end."""
    carla = pytest.importorskip("carla")
    client, world = client_map(name), fresh(name)
    junctions = {w.get_junction().id: w.get_junction() for w in client.generate_waypoints(3.0) if w.is_junction}
    marks = client.get_all_landmarks_of_type("1000001")
    lit = {client.get_waypoint_xodr(m.road_id, *_before(client, m)).next(4.0)[0].junction_id for m in marks}
    assert lit and set(junctions) - lit
    lights = {light.sign_id: light for light in world.of_kind(TrafficLight)}
    assert set(lights) == {mark.id for mark in marks}
    for mark in marks:
        place = lights[mark.id].place.location
        assert mark.transform.location.distance(carla.Location(*place)) < 0.6
    assert len(client.get_crosswalks()) == 5 * len(road_map(name).crossings) > 0


def _before(client: Any, mark: Any) -> tuple[int, float]:
    """(lane id, s) just before the stop line of a light."""
    (first, last), against = mark.get_lane_validities()[0], mark.s < 1.0
    assert first == last
    return first, 3.0 if against else mark.s - 3.0


def test_the_driving_tasks_keep_the_maps_of_their_version() -> None:
    """Stored scores are of these: who changes one raises the suite's version."""
    texts = {name: hashlib.sha256(road_map(name).opendrive.encode()).hexdigest()[:16] for name in TASK_MAPS}
    assert texts == TASK_MAPS
    assert {scenario.map for scenario in SCENARIOS.values()} == set(TASK_MAPS)


TASK_MAPS = {"highway": "0427b29f0d74e44d", "street_1": "5c299a9487e35f2e", "suburb_1": "0adebbdf39575b93"}


# Mirroring


def test_the_right_lane_lies_to_the_right_in_carlas_frame() -> None:
    lane = parse(xodr()).lanes[0]
    np.testing.assert_allclose(lane.centre[0], (0.0, 1.75, 0.0), atol=1e-9)  # x forward, y right
    np.testing.assert_allclose(lane.yaw, 0.0)
    north = xodr(f'<geometry s="0" x="3" y="5" hdg="{math.pi / 2}" length="100"><line/></geometry>')
    lane = parse(north).lanes[0]
    np.testing.assert_allclose(lane.centre[[0, -1]], [(4.75, -5.0, 0.0), (4.75, -105.0, 0.0)], atol=1e-9)
    np.testing.assert_allclose(lane.yaw, -90.0)


def test_a_left_lane_is_driven_against_s() -> None:
    width = '<width sOffset="0" a="3" b="0" c="0" d="0"/>'
    left_side, right_side = (f'<lane id="{i}" type="driving">{width}</lane>' for i in (1, -1))
    both = f"<left>{left_side}</left><right>{right_side}</right>"
    left, right = parse(xodr(lanes=both)).lanes
    np.testing.assert_allclose(left.centre[0], (100.0, -1.5, 0.0), atol=1e-9)
    assert abs(left.yaw[0]) == pytest.approx(180.0)
    np.testing.assert_allclose(right.centre[0], (0.0, 1.5, 0.0), atol=1e-9)
    assert left.left is left.right is right.left is right.right is None
    assert left.speed_limit == pytest.approx(10.0)


# Slopes


def test_the_suburb_has_a_hill_and_the_tasks_have_none() -> None:
    steepest = {name: max(np.abs(lane.pitch).max() for lane in road_map(name).lanes) for name in TASK_MAPS}
    assert set(steepest.values()) == {0.0}
    pitches = np.concatenate([lane.pitch for lane in road_map("suburb").lanes])
    assert pitches.min() < -4.0 < 4.0 < pitches.max()
    inside = [lane for lane in road_map("suburb").lanes if lane.in_junction]
    assert max(np.abs(lane.pitch).max() for lane in inside) == 0.0


def test_a_clients_map_may_have_slopes() -> None:
    """The ground is as high as the road on it, also beside its middle, and comes down again far from it."""
    rising = '<elevationProfile><elevation s="0" a="2" b="0.05" c="0" d="0"/></elevationProfile>'
    roads = parse(xodr(extra=rising))
    assert [roads.height(x, 1.75) for x in (0.5, 50.0, 99.5)] == pytest.approx([2.025, 4.5, 6.975], abs=0.03)
    assert roads.slope(50.0, 1.75) == pytest.approx((0.05, 0.0), abs=0.005)
    assert roads.height(50.0, 3.0) == pytest.approx(4.5, abs=0.03)
    assert roads.height(50.0, 500.0) == pytest.approx(2.0)
    lane = roads.lanes[0]
    assert lane.centre[-1, 2] == pytest.approx(7.0) and lane.pitch == pytest.approx(math.degrees(math.atan(0.05)))


def test_speed_limits_hold_from_where_they_begin() -> None:
    """The first one of a road, and of a lane, counted for all of it."""
    types = '<type s="40" type="town"><speed max="72" unit="km/h"/></type><type s="60" type="town"/>'
    width = '<width sOffset="0" a="3.5" b="0" c="0" d="0"/>'
    lanes = "".join(
        f'<{side}><lane id="{number}" type="driving">{width}{own}</lane></{side}>'
        for side, number, own in (
            ("right", -1, ""),
            ("left", 1, '<speed sOffset="30" max="5"/><speed sOffset="80" max="8" unit="m/s"/>'),
        )
    )
    forward, back = sorted(parse(xodr(extra=types, lanes=lanes)).lanes, key=lambda lane: lane.lane_id)
    assert [forward.limit_at(s) for s in (0.0, 38.0, 42.0, 70.0, 100.0)] == pytest.approx([10, 10, 20, 20, 20])
    assert [back.limit_at(s) for s in (0.0, 18.0, 22.0, 68.0, 72.0, 100.0)] == pytest.approx([8, 8, 5, 5, 10, 10])


# Look-ups


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(MAPS)), st.floats(0, 1), st.floats(0.02, 0.98), st.floats(-0.45, 0.45))
def test_nearest_lane_of_a_point_on_a_lane_is_that_lane(name: str, which: float, along: float, aside: float) -> None:
    roads = road_map(name)
    lanes = [lane for lane in driving(roads) if not lane.in_junction]
    lane = lanes[min(int(which * len(lanes)), len(lanes) - 1)]
    s = along * lane.length
    x, y = (np.interp(s, lane.s, lane.centre[:, axis]) for axis in (0, 1))
    yaw, lateral = math.radians(float(np.interp(s, lane.s, lane.yaw))), aside * lane.width[0]
    found, at, offset = roads.nearest_lane(x - lateral * math.sin(yaw), y + lateral * math.cos(yaw))
    assert found == lane.id
    assert at == pytest.approx(s, abs=0.15)
    assert offset == pytest.approx(lateral, abs=0.02)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(MAPS)), st.floats(-900, 900), st.floats(-900, 900), st.floats(-180, 180) | st.none())
def test_nearest_lane_agrees_with_brute_force(name: str, x: float, y: float, yaw: float | None) -> None:
    roads = road_map(name)
    best = math.inf
    for lane in driving(roads):
        a, b = lane.centre[:-1, :2], lane.centre[1:, :2]
        d = b - a
        if yaw is not None:
            ahead = d @ (math.cos(math.radians(yaw)), math.sin(math.radians(yaw))) >= 0.0
            a, d = a[ahead], d[ahead]
        if len(a):
            share = np.clip((((x, y) - a) * d).sum(axis=1) / (d * d).sum(axis=1), 0.0, 1.0)
            best = min(best, float(np.hypot(*((x, y) - a - share[:, None] * d).T).min()))
    found, at, _ = roads.nearest_lane(x, y, yaw)
    lane = roads.lanes[found]
    here = [np.interp(at, lane.s, lane.centre[:, axis]) for axis in (0, 1)]
    assert math.hypot(x - here[0], y - here[1]) == pytest.approx(best, abs=1e-6)


@every_map
def test_surface_follows_the_lanes(name: str) -> None:
    roads = road_map(name)
    rank = {"driving": 3, "parking": 2, "shoulder": 1, "sidewalk": 0}
    for lane in roads.lanes:
        for k in range(1, len(lane.s) - 1, 11):
            x, y, _ = lane.centre[k]
            surface = roads.surface(x, y)
            # In a junction a lane may be crossed by another of a higher kind.
            assert surface == lane.kind or (lane.in_junction and rank[surface] > rank[lane.kind])
            assert roads.on_road(x, y) == (surface != "sidewalk")
            kerb = roads.ground.kerb if surface == "sidewalk" else 0.0
            assert roads.height(x, y) - kerb == pytest.approx(lane.centre[k, 2], abs=0.05)


def test_surface_changes_exactly_at_the_borders() -> None:
    roads = road_map("street")
    lane = next(lane for lane in driving(roads) if lane.marking_right == "solid" and lane.length > 40)
    k = len(lane.s) // 2
    yaw = math.radians(lane.yaw[k])
    right = np.array((-math.sin(yaw), math.cos(yaw)))
    for beyond, kind in ((-0.01, "driving"), (0.01, "parking"), (2.19, "parking"), (2.21, "sidewalk"), (9.0, "grass")):
        assert roads.surface(*(lane.centre[k, :2] + right * (lane.width[k] / 2 + beyond))) == kind


def test_junctions_are_paved_through() -> None:
    for name in ("street", "suburb"):
        roads = road_map(name)
        for lane in (lane for lane in driving(roads) if lane.in_junction):
            across = np.stack([-np.sin(np.radians(lane.yaw)), np.cos(np.radians(lane.yaw))], axis=1)
            for offset in np.linspace(-0.48, 0.48, 9):
                for x, y in lane.centre[1:-1, :2] + across[1:-1] * (offset * lane.width[1:-1, None]):
                    assert roads.surface(x, y) == "driving"


# What is refused


LANE = '<right><lane id="{}" type="{}">{}</lane></right>'
GEOMETRY = '<geometry s="0" x="0" y="0" hdg="0" length="{}">{}</geometry>'
BANK = '<lateralProfile><superelevation s="0" a="0.05" b="0" c="0" d="0"/></lateralProfile>'


NORTH = f'<geometry s="0" x="50" y="-50" hdg="{math.pi / 2}" length="100"><line/></geometry>'
HIGH = '<elevationProfile><elevation s="0" a="6" b="0" c="0" d="0"/></elevationProfile>'
OVER = re.search(r"<road.*</road>", xodr(NORTH, extra=HIGH).replace('id="7"', 'id="8"'))
BRIDGE = xodr().replace("</OpenDRIVE>", f"{OVER.group() if OVER else ''}</OpenDRIVE>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not an OpenDRIVE file"),
        ("<html/>", "root element is <html>"),
        ("<OpenDRIVE/>", "no <road>"),
        (xodr(GEOMETRY.format(9, "<nurbs/>")), r"'7'.*<nurbs> is unknown; known: line"),
        (xodr(GEOMETRY.format(-9, "<line/>")), "length -9.0; it must be positive"),
        (xodr(GEOMETRY.format(9, "<arc/>")), "'curvature' is missing"),
        (xodr(""), "no <geometry>"),
        (xodr(extra=BANK), "<superelevation> at s=0 is not 0.*level across"),
        (BRIDGE, "pass over each other at x=50, y=-0, 6.0 m apart"),
        (xodr(lanes=LANE.format(-2, "driving", "")), "have gaps"),
        (xodr(lanes=LANE.format(-1, "sidewalk", "")), "no lane of type 'driving'"),
        (xodr(lanes=LANE.format(-1, "driving", '<speed max="9" unit="knots"/>')), "'knots' is unknown"),
    ],
)
def test_parse_names_what_it_cannot_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_load_map_lists_the_maps_it_knows() -> None:
    with pytest.raises(ValueError, match="'Town04'; known: highway, street, suburb"):
        load_map("Town04")


# Curves


@settings(max_examples=60, deadline=None)
@given(st.floats(-50, 50), st.floats(20, 90), st.floats(-1.2, 1.2), st.floats(-1.2, 1.2))
def test_biarc_ends_where_it_should(aside: float, ahead: float, first: float, last: float) -> None:
    start, end = (3.0, -2.0, first), (3.0 + ahead, -2.0 + aside, last)
    pose = start
    for piece in biarc(start, end):
        pose = advance(pose, piece)
    assert pose[:2] == pytest.approx(end[:2], abs=1e-6)
    assert math.remainder(pose[2] - end[2], 2 * math.pi) == pytest.approx(0.0, abs=1e-6)


def test_a_spiral_agrees_with_many_short_arcs() -> None:
    pose = (0.0, 0.0, 0.2)
    for k in range(4000):
        pose = advance(pose, Arc(0.02, -0.01 + 0.05 * (k + 0.5) / 4000))
    assert advance((0.0, 0.0, 0.2), Spiral(80.0, -0.01, 0.04)) == pytest.approx(pose, abs=1e-5)
    assert advance((1.0, 2.0, 0.0), Line(5.0)) == (6.0, 2.0, 0.0)


# Compilation


def test_kernels_are_compiled_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import numba

    njit = numba.njit

    def read_only(*functions: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*functions, **options)

    monkeypatch.setattr(numba, "njit", read_only)
    with caplog.at_level(logging.WARNING):
        doubled: Any = compiled(lambda x: 2 * x)
    assert doubled(21) == 42
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_kernels_older_than_their_sources_are_dropped(tmp_path: Path) -> None:
    sources = tmp_path / "package" / "maps" / "a.py", tmp_path / "package" / "env.py"
    old, new = tmp_path / "cache" / "a.f.nbi", tmp_path / "cache" / "a.g.nbi"
    for path, changed in ((sources[0], 2000), (sources[1], 4000), (old, 1000), (new, 3000)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (changed, changed))
    assert newest_source(tmp_path / "package") == 2000  # nothing beside the folders is compiled
    drop_stale(tmp_path / "cache", 2000)
    assert not old.exists()
    assert new.exists()


def test_folders_without_kernels_concern_none() -> None:
    package = Path(maps_package.__file__).resolve().parents[1]
    plain = [package / folder for folder in WITHOUT_KERNELS]
    assert all(folder.is_dir() for folder in plain)
    for path in package.glob("*/**/*.py"):
        text = path.read_text(encoding="utf-8")
        if any(folder in path.parents for folder in plain) or path.parent == package / "server":
            assert not re.search(r"maps\.jit import .*\b(compiled|inlined)\b", text), path  # it may count kernels
        elif "maps.jit" in text:
            imported = re.findall(r"^from suites\.carla\.([\w.]+) import", text, re.MULTILINE)
            assert not [name for name in imported if name.replace(".", "/").startswith(WITHOUT_KERNELS)], path


OUTSIDE = """
from pathlib import Path
from suites.carla.maps import ground
print(ground.kind_at.stats.cache_path)
"""


def test_stale_kernels_are_dropped_wherever_numba_keeps_them(tmp_path: Path) -> None:
    """In a read-only installation that is a folder of the user's, or the one that NUMBA_CACHE_DIR names."""
    root = str(Path(maps_package.__file__).resolve().parents[3])
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": root}
    command = [sys.executable, "-c", OUTSIDE]
    folder = Path(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip())
    assert tmp_path in folder.parents
    folder.mkdir(parents=True, exist_ok=True)
    old, new = folder / "a.f.nbi", folder / "a.g.nbi"
    old.touch(), new.touch()
    os.utime(old, (1000, 1000))
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert new.exists() and not old.exists()
