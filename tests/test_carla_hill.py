"""The hill of the map `suburb`: what drives, walks, looks and measures there agrees on where the ground is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from carla_worlds import DELTA, drive, fresh, put, row, speed

from suites.carla.maps.roads import Lane, Pose
from suites.carla.render import Camera, Scene
from suites.carla.server.motion import rays
from suites.carla.server.protocol.wire import Rotation, Transform, Vector, WalkerControl
from suites.carla.server.world import World

CAR = "vehicle.tesla.model3"
STEEP = 0.45  # of a lane's length, where it is steep


@pytest.fixture
def world() -> World:
    return fresh("suburb")


def slope(world: World, down: bool) -> Lane:
    """A lane of the road from the middle, on the hill, to the east."""
    return next(
        lane
        for lane in world.map.lanes
        if lane.road_id == 2 and lane.kind == "driving" and (lane.pitch[len(lane.s) // 2] < 0.0) == down
    )


def on(lane: Lane, share: float, lift: float = 0.0) -> Transform:
    """The place at a share of a lane's length."""
    s = share * lane.length
    x, y, z = (float(np.interp(s, lane.s, lane.centre[:, axis])) for axis in range(3))
    yaw, pitch = (float(np.interp(s, lane.s, angle)) for angle in (lane.yaw, lane.pitch))
    return Transform(Vector(x, y, z + lift), Rotation(pitch, yaw, 0.0))


def test_a_vehicle_stands_on_the_slope_and_leans_with_it(world: World) -> None:
    lane = slope(world, down=True)
    car = put(world, CAR, on(lane, STEEP, 0.3))
    b = drive(world, car, 60, brake=1.0)
    begun = float(b["x"]), float(b["y"])
    b = drive(world, car, 200, brake=1.0)
    assert math.dist(begun, (b["x"], b["y"])) < 0.01 and speed(world, car) < 1e-3
    assert b["z"] == pytest.approx(on(lane, STEEP).location.z, abs=0.05)
    assert b["pitch"] == pytest.approx(on(lane, STEEP).rotation.pitch, abs=0.3) and b["pitch"] < -3.0
    assert abs(b["roll"]) < 0.5


def test_gravity_pulls_along_the_slope(world: World) -> None:
    """Let go, a car rolls down; uphill it needs longer to get as fast as downhill."""
    lane = slope(world, down=True)
    car = put(world, CAR, on(lane, STEEP, 0.3))
    drive(world, car, 60)
    assert 1.0 < speed(world, car) < 3.5
    assert row(world, car)["vz"] == pytest.approx(
        -speed(world, car) * math.tan(math.radians(-row(world, car)["pitch"])), abs=0.1
    )
    gained = []
    for down in (True, False):
        world = fresh("suburb")
        car = put(world, CAR, on(slope(world, down), STEEP if down else 1.0 - STEEP, 0.0))
        drive(world, car, 40, throttle=0.4)
        gained.append(speed(world, car))
    assert gained[0] > gained[1] + 1.5


def test_the_server_drives_over_the_hill_on_the_ground(world: World) -> None:
    car = put(world, CAR, on(slope(world, down=False), 0.1, 0.3), driver="server")
    heights, above = [], []
    for tick in range(600):
        world.advance(DELTA)
        b = row(world, car)
        heights.append(float(b["z"]))
        if tick > 20:
            above.append(b["z"] - world.map.terrain(b["x"], b["y"]))
    assert max(heights) - min(heights) > 3.0
    assert min(above) > -0.05 and max(above) < 0.15
    assert not world.collisions


def test_a_walker_walks_up_the_pavement(world: World) -> None:
    lane = next(lane for lane in world.map.lanes if lane.road_id == 2 and lane.kind == "sidewalk" and lane.lane_id > 0)
    walker = put(world, "walker.pedestrian.0002", on(lane, 0.5, 1.5))
    ahead = on(lane, 0.5).rotation.yaw
    walker.control = WalkerControl(Vector(math.cos(math.radians(ahead)), math.sin(math.radians(ahead)), 0.0), 1.5)
    b = row(world, walker)
    b["walk_x"], b["walk_y"], b["walk_speed"] = *walker.control.direction[:2], 1.5
    for _ in range(30):
        world.advance(DELTA)
    for _ in range(100):
        world.advance(DELTA)
        b = row(world, walker)
        assert b["z"] - b["stand"] == pytest.approx(world.map.height(b["x"], b["y"]), abs=0.1)
    assert b["z"] > on(lane, 0.5).location.z + b["stand"] + 0.2


def points_seen(world: World, camera: Camera) -> tuple[Any, Any]:
    """(N, 3) points of a depth picture in the world, and the semantic tag of each."""
    pictures = world.renderer.render(Scene.empty(), [("depth", camera), ("semantic", camera)])
    code = pictures[0].astype(np.float64)
    depth = (code[..., 2] + 256.0 * code[..., 1] + 65536.0 * code[..., 0]) / (2**24 - 1) * 1000.0
    focal = camera.width / 2.0 / math.tan(math.radians(camera.fov) / 2.0)
    right, down = np.meshgrid(
        (np.arange(camera.width) + 0.5 - camera.width / 2.0) / focal,
        (np.arange(camera.height) + 0.5 - camera.height / 2.0) / focal,
    )
    pitch, yaw = math.radians(camera.pose.pitch), math.radians(camera.pose.yaw)
    forward = np.array((math.cos(pitch) * math.cos(yaw), math.cos(pitch) * math.sin(yaw), math.sin(pitch)))
    aside, up = (
        np.array((-math.sin(yaw), math.cos(yaw), 0.0)),
        np.array((-math.sin(pitch) * math.cos(yaw), -math.sin(pitch) * math.sin(yaw), math.cos(pitch))),
    )
    rays_ = forward + right[..., None] * aside - down[..., None] * up
    eye = np.array((camera.pose.x, camera.pose.y, camera.pose.z))
    return eye + depth[..., None] * rays_, pictures[1][..., 2]


@pytest.mark.parametrize("down", [True, False])
def test_cameras_and_rays_see_the_ground_where_it_is(world: World, down: bool) -> None:
    (x, y, z), (pitch, yaw, _) = on(slope(world, down), 0.35 if down else 0.2)
    camera = Camera(Pose(x, y, z + 1.7, 0.0, pitch, yaw), 96, 72, 80.0)
    points, tags = points_seen(world, camera)
    road = (tags == 1) & (np.hypot(points[..., 0] - x, points[..., 1] - y) < 60.0)
    assert road.sum() > 400
    assert [abs(world.map.height(*p[:2]) - p[2]) < 0.13 for p in points[road]].count(False) <= 4
    assert np.ptp(points[road][:, 2]) > 1.0
    eye = np.array((x, y, z + 1.7))
    for p in points[road][::37]:
        ray = (p - eye) / np.linalg.norm(p - eye)
        hit = world.cast(eye, ray, 200.0, -1)
        assert hit is not None and (hit.is_ground or hit.code < rays.GROUND)
        assert hit.distance == pytest.approx(np.linalg.norm(p - eye), rel=0.03, abs=0.1)


def test_the_crest_hides_what_is_behind_it(world: World) -> None:
    """The road from north to east goes over a crest: from one foot the other foot is not in sight."""
    lane = next(lane for lane in world.map.lanes if lane.road_id == 5 and lane.lane_id == -1)
    (x, y, z), _ = on(lane, 0.05)
    target = np.array(on(lane, 0.95, 0.5).location)
    eye = np.array((x, y, z + 1.5))
    ray = (target - eye) / np.linalg.norm(target - eye)
    world.obstacles = world.obstacles[:0]
    hit = world.cast(eye, ray, float(np.linalg.norm(target - eye)), -1)
    assert hit is not None and hit.is_ground
    yaw, pitch = math.degrees(math.atan2(ray[1], ray[0])), math.degrees(math.asin(ray[2]))
    camera = Camera(Pose(*eye.tolist(), 0.0, pitch, yaw), 33, 33, 10.0)
    scene = Scene.empty(1)
    scene.pose[0], scene.half_extents[0] = (*target, 0.0, 0.0, 0.0), (2.0, 2.0, 0.8)
    picture = world.renderer.semantic(scene, camera)
    assert picture[16, 16, 2] != 14
    scene.pose[0, :3] = eye + ray * 0.5 * hit.distance
    assert world.renderer.semantic(scene, camera)[16, 16, 2] == 14


def test_what_stands_beside_the_roads_stands_on_the_ground(world: World) -> None:
    for thing in world.things:
        x, y, z = thing.foot
        assert abs(z - world.map.height(x, y)) < 0.2, thing.name
    assert max(thing.foot.z for thing in world.things) > 5.0
    for light in (actor for actor in world.actors.values() if actor.type_id == "traffic.traffic_light"):
        assert light.place.location.z == pytest.approx(8.0, abs=0.05)
