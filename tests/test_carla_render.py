"""The pictures of the embedded CARLA server: geometry, light, and that no input makes it fall over."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from suites.carla.maps import load_map
from suites.carla.maps.roads import Pose
from suites.carla.render import Camera, Look, Renderer, Scene, Weather
from suites.carla.render.looks import shapes
from suites.carla.render.view import axes

Picture = NDArray[np.uint8]
B, G, R = 0, 1, 2  # channels of a picture
NOON = Weather(sun_altitude_angle=70.0, sun_azimuth_angle=90.0, cloudiness=0.0)
SEDAN = (2.4, 0.95, 0.72)
SIZES = {
    Look.ADULT: (0.25, 0.3, 0.9),
    Look.CHILD: (0.2, 0.22, 0.6),
    Look.MOTORBIKE: (1.1, 0.42, 0.75),
    Look.BICYCLE: (0.85, 0.3, 0.85),
}
ROADS, ROAD_LINES, SKY, CAR, PEDESTRIAN = 1, 24, 11, 14, 12


@cache
def renderer(name: str = "highway") -> Renderer:
    return Renderer(load_map(name))


def straight() -> Pose:
    """The middle of the second lane of the highway's first straight, which runs along x."""
    lane = next(lane for lane in renderer().road_map.lanes if lane.road_id == 1 and lane.lane_id == -2)
    x, y, _ = lane.centre[len(lane.s) // 2]
    assert lane.yaw[0] == pytest.approx(0.0)
    return Pose(float(x), float(y))


def camera(z: float = 1.6, width: int = 84, height: int = 84, fov: float = 60.0, **pose: float) -> Camera:
    return Camera(replace(straight(), z=z, **pose), width, height, fov)


def scene(*actors: dict[str, Any], weather: Weather = NOON) -> Scene:
    """Actors at (ahead, right) of the camera's place, in metres; sedans unless told."""
    out, here = Scene.empty(len(actors), weather), straight()
    for k, actor in enumerate(actors):
        half = actor.get("half", SEDAN)
        out.half_extents[k] = half
        out.pose[k] = (here.x + actor["ahead"], here.y + actor.get("right", 0.0), half[2], 0, 0, actor.get("yaw", 0.0))
        for name in ("look", "colour", "lights", "tag", "walked"):
            if name in actor:
                getattr(out, name)[k] = actor[name]
    return out


def metres(depth: Picture) -> NDArray[np.float64]:
    """CARLA's own decoding of its depth pictures."""
    red, green, blue = (depth[..., channel].astype(np.float64) for channel in (R, G, B))
    return (red + 256 * green + 65536 * blue) / (256**3 - 1) * 1000.0


def brightness(picture: Picture) -> float:
    return float(picture[..., :3].mean())


# Geometry


@pytest.mark.parametrize("angles", [(0, 0, 0), (0, 0, 90), (0, 30, 0), (25, 0, 0), (10, -20, 130), (-70, 50, -45)])
def test_axes_are_those_of_carlas_transform(angles: tuple[float, float, float]) -> None:
    carla = pytest.importorskip("carla")
    roll, pitch, yaw = angles
    matrix = np.array(carla.Transform(carla.Location(), carla.Rotation(pitch, yaw, roll)).get_matrix())
    ours = axes(Pose(0, 0, 0, roll, pitch, yaw))
    np.testing.assert_allclose(np.array(ours).T, matrix[:3, :3], atol=1e-6)


def test_pictures_are_bgra_of_the_size_asked_for() -> None:
    for name in ("rgb", "depth", "semantic"):
        picture = getattr(renderer(), name)(scene(), camera(width=50, height=30))
        assert picture.shape == (30, 50, 4)
        assert picture.dtype == np.uint8
        assert (picture[..., 3] == 255).all()


@pytest.mark.parametrize("fov", [40.0, 60.0, 90.0])
def test_depth_is_measured_along_the_axis(fov: float) -> None:
    wall = {"ahead": 20.5, "look": Look.BOX, "half": (0.5, 8.0, 4.0)}
    depth = metres(renderer().depth(scene(wall), camera(fov=fov)))
    front = depth[36:42, 30:54]
    np.testing.assert_allclose(front, 20.0, atol=0.01)  # the same across the wall: not the distance to the lens
    assert depth[0, 0] == pytest.approx(1000.0)


def test_depth_of_the_ground_is_that_of_a_plane() -> None:
    view = camera(z=1.6, width=60, height=60, fov=60.0)
    depth = metres(renderer().depth(scene(), view))
    focal = 30.0 / math.tan(math.radians(30.0))
    for row in (40, 50, 59):
        assert depth[row, 30] == pytest.approx(1.6 * focal / (row + 0.5 - 30.0), rel=1e-4)


@pytest.mark.parametrize(("right", "yaw"), [(4.0, 0.0), (-4.0, 0.0), (0.0, 15.0), (3.0, -10.0)])
def test_a_car_appears_where_the_pinhole_puts_it(right: float, yaw: float) -> None:
    view = camera(width=200, height=100, fov=70.0, yaw=yaw)
    tags = renderer().semantic(scene({"ahead": 25.0, "right": right}), view)[..., R]
    columns = np.flatnonzero((tags == CAR).any(axis=0))
    focal = 100.0 / math.tan(math.radians(35.0))
    expected = 100.0 + focal * math.tan(math.atan2(right, 25.0 - SEDAN[0]) - math.radians(yaw))
    assert (columns.min() + columns.max()) / 2 == pytest.approx(expected, abs=2.5)
    width = 2 * SEDAN[1] * focal / (25.0 - SEDAN[0])
    assert columns.max() - columns.min() == pytest.approx(width, rel=0.25)


@pytest.mark.parametrize("look", list(Look))
def test_every_look_fills_its_box_and_stays_inside(look: Look) -> None:
    table = shapes()
    part = slice(table.first[look], table.first[look + 1])
    length, width, height = SIZES.get(look, SEDAN)
    corner = (table.anchor[part] * (length, width, height) + table.offset[part] * height).reshape(-1, 3)
    high, low = corner.max(axis=0) / (length, width, height), corner.min(axis=0) / (length, width, height)
    assert low[2] == pytest.approx(-1.0, abs=0.03)
    assert high[2] == pytest.approx(1.0, abs=0.03)
    reach = 0.45 if look in (Look.ADULT, Look.CHILD, Look.TRAFFIC_LIGHT) else 0.85  # legs together; a slim post
    for axis in (0, 1):
        assert reach <= high[axis] <= 1.06
        assert reach <= -low[axis] <= 1.06


def test_the_nearer_car_hides_the_farther() -> None:
    near, far = {"ahead": 10.0, "colour": (220, 20, 20)}, {"ahead": 30.0, "colour": (20, 20, 220)}
    alone = renderer().rgb(scene(near), camera())
    for order in ((near, far), (far, near)):
        both = renderer().rgb(scene(*order), camera())
        car = renderer().semantic(scene(near), camera())[..., R] == CAR
        difference = np.abs(both.astype(int) - alone)[car].max(axis=-1)
        assert np.mean(difference <= 2) > 0.8  # the rest is its windows' and edges' mixture


def test_a_camera_sees_ahead_and_not_behind() -> None:
    tags = renderer().semantic(scene({"ahead": -8.0}), camera())[..., R]
    assert not (tags == CAR).any()
    tags = renderer().semantic(scene({"ahead": -8.0}), camera(yaw=180.0))[..., R]
    assert (tags == CAR).sum() > 300


# Tags and markings


def test_tags_of_a_road_scene() -> None:
    walker = {"ahead": 8.0, "right": 2.0, "look": Look.ADULT, "half": (0.25, 0.3, 0.9), "tag": PEDESTRIAN}
    tags = renderer().semantic(scene({"ahead": 15.0}, walker), camera())
    assert (tags[..., [B, G]] == 0).all()
    counts = np.bincount(tags[..., R].ravel(), minlength=30)
    assert tags[2, 42, R] == SKY
    assert tags[80, 42, R] == ROADS
    for tag in (ROADS, ROAD_LINES, SKY, CAR, PEDESTRIAN, 10, 9, 28):  # ... terrain, vegetation, guard rail
        assert counts[tag] > 0, tag


def test_riders_are_told_from_their_machines() -> None:
    bike = {"ahead": 5.0, "look": Look.BICYCLE, "half": (0.85, 0.3, 0.85), "tag": 19}
    tags = set(np.unique(renderer().semantic(scene(bike), camera())[..., R]))
    assert {13, 19} <= tags


def test_solid_and_broken_lines_lie_on_the_lanes_borders() -> None:
    lanes = renderer().road_map.lanes
    first = next(lane for lane in lanes if lane.road_id == 1 and lane.lane_id == -1)
    last = next(lane for lane in lanes if lane.road_id == 1 and lane.lane_id == -4)
    for lane, side, solid in ((last, 1.0, True), (first, 1.0, False)):
        whites = []
        for k in range(100, 130):
            x, y, _ = lane.centre[k]
            down = Camera(Pose(float(x), float(y + side * lane.width[k] / 2), 2.0, 0, -90, 0), 33, 33, 20.0)
            picture = renderer().rgb(scene(), down)
            whites.append(picture[16, 16, :3].min() > 150)
            assert picture[16, 3, :3].max() < 150  # asphalt a third of a metre beside it
        assert all(whites) if solid else 0.15 < np.mean(whites) < 0.6


def test_a_small_picture_is_the_mean_of_a_large_one() -> None:
    actors = ({"ahead": 12.0, "colour": (200, 30, 30)}, {"ahead": 20.0, "right": 3.5, "look": Look.VAN})
    small = renderer().rgb(scene(*actors), camera(width=84, height=84))[..., :3].astype(float)
    large = renderer().rgb(scene(*actors), camera(width=672, height=672))[..., :3].astype(float)
    mean = large.reshape(84, 8, 84, 8, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).mean() < 3.0
    assert np.percentile(np.abs(small - mean), 99) < 30.0


# Light


def test_colours_arrive_in_the_right_channels() -> None:
    paints = {R: (200, 10, 10), G: (10, 200, 10), B: (10, 10, 200)}
    means = {}
    for channel, colour in paints.items():
        here = scene({"ahead": 9.0, "colour": colour})
        car = renderer().semantic(here, camera())[..., R] == CAR
        means[channel] = renderer().rgb(here, camera())[car].mean(axis=0)
    for channel in paints:
        others = [means[other][channel] for other in paints if other != channel]
        assert means[channel][channel] > max(others) + 30


def test_night_is_dark_and_lamps_light_the_road() -> None:
    night = Weather(sun_altitude_angle=-40.0)
    street = renderer("street")
    lane = max((lane for lane in street.road_map.lanes if lane.kind == "driving"), key=lambda lane: lane.length)
    x, y, _ = (float(v) for v in lane.centre[20])
    view = Camera(Pose(x, y, 1.6, 0, -10, float(lane.yaw[20])))
    dark = Scene.empty(1, night)
    dark.pose[0] = (x, y, 0.75, 0, 0, float(lane.yaw[20]))
    by_day = replace(dark, weather=NOON)
    lit = replace(dark, lights=np.array([2], np.uint32))
    pictures = [street.rgb(s, view) for s in (by_day, lit, dark)]
    assert brightness(pictures[0]) > 1.6 * brightness(pictures[1]) > 1.6 * brightness(pictures[2])


def test_brake_lights_shine_red() -> None:
    dusk = Weather(sun_altitude_angle=5.0)
    off = renderer().rgb(scene({"ahead": 10.0, "colour": (60, 60, 60)}, weather=dusk), camera()).astype(int)
    on = renderer().rgb(scene({"ahead": 10.0, "colour": (60, 60, 60), "lights": 8}, weather=dusk), camera()).astype(int)
    brighter = on - off
    assert (brighter[..., R] > 60).sum() >= 6
    assert brighter[..., R].sum() > 3 * brighter[..., B].sum()


def test_blinkers_blink() -> None:
    def picture(flags: int, time: float) -> NDArray[np.int64]:
        now = scene({"ahead": 8.0, "colour": (60, 60, 60), "lights": flags})
        now.time = time
        return renderer().rgb(now, camera(width=168, height=168)).astype(np.int64)

    def amber(flags: int, time: float) -> tuple[int, int]:
        lit = (picture(flags, time) - picture(0, time))[..., R] > 40
        return int(lit[:, :84].sum()), int(lit[:, 84:].sum())

    assert amber(32, 0.1)[0] > 0 == amber(32, 0.1)[1]
    assert amber(16, 0.1)[1] > 0 == amber(16, 0.1)[0]
    assert amber(32, 0.5) == (0, 0)


def test_fog_hides_what_is_far() -> None:
    far = {"ahead": 60.0, "half": (0.5, 4.0, 2.0), "look": Look.BOX, "colour": (250, 10, 10)}

    def redness(weather: Weather) -> float:
        picture = renderer().rgb(scene(far, weather=weather), camera()).astype(float)
        return float((picture[..., R] - picture[..., B]).max())

    clear, thin, thick = (redness(replace(NOON, fog_density=density)) for density in (0.0, 40.0, 90.0))
    assert clear > 1.3 * thin > 1.3 * thick
    assert redness(replace(NOON, fog_density=90.0, fog_distance=80.0)) > 0.7 * clear


@pytest.mark.parametrize(("azimuth", "darker"), [(90.0, "left"), (-90.0, "right")])
def test_shadows_fall_away_from_the_sun(azimuth: float, darker: str) -> None:
    """Azimuth 90 degrees: the sun stands in the direction of +y, to the right of a camera that looks along +x."""
    sun = Weather(sun_altitude_angle=35.0, sun_azimuth_angle=azimuth, cloudiness=0.0)
    truck = {"ahead": 14.0, "half": (4.0, 1.2, 1.6), "look": Look.TRUCK}
    picture = renderer().rgb(scene(truck, weather=sun), camera(z=6.0, pitch=-20.0)).astype(float).mean(axis=-1)
    empty = renderer().rgb(scene(weather=sun), camera(z=6.0, pitch=-20.0)).astype(float).mean(axis=-1)
    left, right = ((empty - picture)[:, half].clip(0).sum() for half in (slice(0, 30), slice(54, 84)))
    assert (left > 2 * right) if darker == "left" else (right > 2 * left)


def test_rain_falls_with_time_and_wet_roads_mirror_the_sky() -> None:
    rain = Weather(precipitation=80.0, cloudiness=90.0)
    first, second = scene(weather=rain), scene(weather=rain)
    second.time = 0.05
    assert (renderer().rgb(first, camera()) != renderer().rgb(second, camera())).any()
    dry, wet = (renderer().rgb(scene(weather=replace(NOON, wetness=w)), camera()) for w in (0.0, 100.0))
    assert brightness(wet[70:]) < brightness(dry[70:])  # wet asphalt is darker near by
    blue = [float(p[46:50, :, B].mean() / p[46:50, :, R].mean()) for p in (dry, wet)]
    assert blue[1] > blue[0]  # and takes the sky's colour far off


# The same input, the same bytes


def test_pictures_do_not_depend_on_what_was_taken_before() -> None:
    here = scene({"ahead": 9.0}, {"ahead": 18.0, "right": -3.5, "look": Look.TRUCK, "half": (4.2, 1.25, 1.75)})
    fresh = Renderer(load_map("highway"))
    first = fresh.rgb(here, camera())
    fresh.rgb(scene(weather=Weather(sun_altitude_angle=-30.0)), camera(width=160, height=90))
    fresh.depth(here, camera(yaw=90.0))
    np.testing.assert_array_equal(fresh.rgb(here, camera()), first)
    np.testing.assert_array_equal(renderer().rgb(here, camera()), first)


def test_many_views_at_once_are_the_same_as_one_by_one() -> None:
    here = scene({"ahead": 9.0}, {"ahead": -9.0, "look": Look.BUS, "half": (5.5, 1.2, 1.5)})
    views = [
        ("rgb", camera()),
        ("depth", camera(yaw=180.0)),
        ("semantic", camera(width=64, height=48)),
        ("rgb", camera(yaw=180)),
    ]
    together = renderer().render(here, views)  # type: ignore[arg-type]
    for (kind, view), picture in zip(views, together, strict=True):
        np.testing.assert_array_equal(picture, getattr(renderer(), kind)(here, view))


def test_the_scene_is_left_as_it_was() -> None:
    here = scene({"ahead": 9.0, "lights": 3, "walked": 1.0})
    before = {name: np.copy(value) for name, value in vars(here).items() if isinstance(value, np.ndarray)}
    renderer().rgb(here, camera())
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(here, name), value)


# Whatever comes


number = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-800, 800), st.floats(-500, 500), st.floats(-50, 300)),
    st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-720, 720)),
    st.tuples(st.integers(1, 90), st.integers(1, 90), st.floats(1, 170)),
    st.sampled_from(["rgb", "depth", "semantic"]),
)
def test_any_camera_gets_its_picture(
    place: tuple[float, float, float], turn: tuple[float, float, float], lens: tuple[int, int, float], kind: str
) -> None:
    width, height, fov = lens
    picture = getattr(renderer("suburb"), kind)(scene({"ahead": 5.0}), Camera(Pose(*place, *turn), width, height, fov))
    assert picture.shape == (height, width, 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(number, min_size=9, max_size=9), st.sampled_from(list(Look)), st.integers(0, 2**32 - 1))
def test_any_actor_can_be_drawn(numbers: list[float], look: Look, lights: int) -> None:
    here = scene({"ahead": 6.0}, {"ahead": 8.0}, weather=Weather(sun_altitude_angle=-20.0))
    here.pose[0] = numbers[:6]
    here.half_extents[0] = np.abs(np.array(numbers[6:]))
    here.pose[1, 3:] = numbers[:3]
    here.half_extents[1] = np.minimum(np.abs(np.nan_to_num(np.array(numbers[3:6]))), 30.0)
    here.look[:], here.lights[:] = look, lights
    for kind in ("rgb", "depth", "semantic"):
        assert getattr(renderer(), kind)(here, camera(width=24, height=24)).shape == (24, 24, 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-500, 500), min_size=14, max_size=14))
def test_any_weather_gives_a_picture(values: list[float]) -> None:
    picture = renderer().rgb(
        scene({"ahead": 8.0, "lights": 255}, weather=Weather(*values)), camera(width=24, height=24)
    )
    assert picture.shape == (24, 24, 4)


def test_what_cannot_be_drawn_is_named() -> None:
    odd = scene({"ahead": 9.0})
    odd.look[0] = 99
    with pytest.raises(ValueError, match=r"unknown look 99; known: 0 SEDAN"):
        renderer().rgb(odd, camera())
    with pytest.raises(ValueError, match="unknown picture 'lidar'; known: rgb, depth, semantic"):
        renderer().render(scene(), [("lidar", camera())])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="not finite"):
        renderer().rgb(scene(), camera(yaw=math.nan))
    with pytest.raises(ValueError, match="0 x 84 pixels"):
        camera(width=0)
    with pytest.raises(ValueError, match=r"field of view of 180\.0 degrees"):
        camera(fov=180.0)


def test_textures_change_the_looks_and_nothing_else() -> None:
    """On average a textured surface is as bright as a plain one, and from afar its texture is gone."""
    street = renderer("street")
    lane = next(lane for lane in street.road_map.lanes if lane.kind == "driving" and lane.length > 40.0)
    x, y, _ = (float(value) for value in lane.centre[10])
    pose = Pose(x, y, 1.6, yaw=float(lane.yaw[10]))
    plain, textured = (Camera(pose, 160, 96, 60.0, wanted) for wanted in (False, True))
    first, second = (street.rgb(Scene.empty(0, NOON), view).astype(float) for view in (plain, textured))
    assert np.abs(first - second).mean() > 0.5
    assert abs(first.mean() - second.mean()) < 5.0
    for kind in ("depth", "semantic"):
        pictures = [getattr(street, kind)(Scene.empty(0, NOON), view) for view in (plain, textured)]
        np.testing.assert_array_equal(*pictures)


def test_the_tasks_cameras_have_no_textures() -> None:
    pytest.importorskip("carla")
    from suites.carla.task.rig import Rig

    class Blueprint(dict[str, str]):
        has_attribute = dict.__contains__
        set_attribute = dict.__setitem__

    ours, theirs = Blueprint(textures="true"), Blueprint()
    for blueprint in (ours, theirs):
        library = type("Library", (), {"find": lambda self, name, found=blueprint: found})()
        Rig(1)._blueprint(library, (84, 84))
    assert ours["textures"] == "false" and "textures" not in theirs
