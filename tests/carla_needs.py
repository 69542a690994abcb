"""What the scripts of CARLA's own PythonAPI need of a server: run in a process of its own, `carla_needs.py PORT`.

Each kind of need that a script shows is a check here; `test_carla_scripts` runs the scripts themselves where they are.
The server runs `street` with `--towns`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import carla_contract
from carla_contract import Client, frame_of, near, pixels, refused

CHECKS: dict[str, Callable[[Any], None]] = {}
carla: Any = None  # imported in the child only


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS[function.__name__] = function
    return function


# ---- names -----------------------------------------------------------------------------------------------------


@check
def the_catalogue_is_carlas(c: Client) -> None:
    library = c.world.get_blueprint_library()
    assert len(library.filter("vehicle.*")) == 41 and len(library.filter("walker.pedestrian.*")) == 52
    assert len(library.filter("static.prop.*")) == 99  # 98, and `mesh`
    for name in ("vehicle.lincoln.mkz_2017", "static.prop.bike helmet", "sensor.camera.dvs", "util.actor.empty"):
        assert library.find(name).id == name


@check
def filters_by_generation_find_vehicles_and_walkers(c: Client) -> None:
    library = c.world.get_blueprint_library()
    for kind, first, second in (("vehicle.*", 27, 14), ("walker.pedestrian.*", 14, 38)):
        generations = [int(blueprint.get_attribute("generation")) for blueprint in library.filter(kind)]
        assert generations.count(1) == first and generations.count(2) == second, kind
    assert len(library.filter_by_attribute("special_type", "emergency")) == 4
    for blueprint in library.filter("walker.*"):
        assert len(blueprint.get_attribute("speed").recommended_values) == 3


@check
def vehicles_have_carlas_boxes(c: Client) -> None:
    boxes = {  # half sizes that a CARLA 0.9.16 server reports
        "vehicle.ford.mustang": (2.3587, 0.9474, 0.6505),
        "vehicle.carlamotors.european_hgv": (3.9678, 1.4455, 1.7310),
        "vehicle.kawasaki.ninja": (1.0218, 0.3984, 0.7616),
        "vehicle.mitsubishi.fusorosa": (5.1363, 1.9721, 2.1264),
    }
    for name, (x, y, z) in boxes.items():
        extent = c.car(name=name).bounding_box.extent
        assert near(extent.x, x, 1e-3) and near(extent.y, y, 1e-3) and near(extent.z, z, 1e-3), name
        c.spawned.pop().destroy()


@check
def sensors_recommend_what_they_begin_with(c: Client) -> None:
    lidar = c.blueprint("sensor.lidar.ray_cast")
    for name in ("dropoff_general_rate", "dropoff_intensity_limit", "dropoff_zero_intensity", "channels"):
        attribute = lidar.get_attribute(name)
        lidar.set_attribute(name, attribute.recommended_values[0])
        assert len(attribute.recommended_values) == 1
    exposure = c.blueprint("sensor.camera.rgb").get_attribute("exposure_mode")
    assert exposure.recommended_values == ["histogram", "manual"]


@check
def whole_numbers_may_be_written_with_a_point(c: Client) -> None:
    lidar = c.spawn("sensor.lidar.ray_cast", channels="64.0", points_per_second="100000.0")
    assert lidar.attributes["channels"] == "64.0"
    heard = c.listen(lidar)
    frame = c.ticks(1)
    cloud = heard.get(timeout=5)
    while cloud.frame < frame:
        cloud = heard.get(timeout=5)
    assert cloud.channels == 64


@check
def a_step_may_be_three_seconds(c: Client) -> None:
    settings = c.world.get_settings()
    settings.fixed_delta_seconds = 3.0
    c.world.apply_settings(settings)
    c.ticks(1)
    assert near(c.world.get_snapshot().delta_seconds, 3.0)


@check
def towns_are_maps_of_ours(c: Client) -> None:
    assert any(name.endswith("/Town03") for name in c.client.get_available_maps())
    c.world = c.client.load_world("Town04_Opt")
    assert c.world.get_map().name == "Carla/Maps/Town04_Opt"
    assert len(c.world.get_map().get_spawn_points()) > 50
    with refused("map not found", "street"):
        c.client.load_world("Town99")
    c.world = c.client.load_world("street")


@check
def ticks_go_on_with_vehicles_of_an_asynchronous_manager(c: Client) -> None:
    """An environment's reset: traffic while the world runs by itself, synchronous mode after it."""
    settings = c.world.get_settings()
    for synchronous in (False, True):
        settings.synchronous_mode, settings.fixed_delta_seconds = synchronous, 0.1
        c.world.apply_settings(settings)
        assert near(c.world.get_snapshot().delta_seconds, 0.1)  # this waits until it is so
        if not synchronous:
            manager = c.client.get_trafficmanager(8124)
            cars = [c.car(index) for index in (0, 10, 20)]
            for car in cars:
                car.set_autopilot(True, 8124)
    c.client.set_timeout(5.0)  # seconds
    for _ in range(40):
        c.ticks(1)
        time.sleep(0.01)
    c.client.set_timeout(60.0)
    assert all(car.get_velocity().length() > 1.0 for car in cars)
    for car in cars:
        car.set_autopilot(False, 8124)
    c.ticks(2)
    manager.shut_down()


# ---- cameras ---------------------------------------------------------------------------------------------------


@check
def instance_camera_tells_actors_apart(c: Client) -> None:
    place = carla.Transform(carla.Location(x=1.5, z=2.0))
    ahead = [c.car(0, name, metres) for name, metres in (("vehicle.audi.tt", 12.0), ("vehicle.ford.mustang", 24.0))]
    size = {"image_size_x": 160, "image_size_y": 120}
    _, image = frame_of(c, "sensor.camera.instance_segmentation", place, **size)
    seen = pixels(image)
    cars = seen[seen[..., 2] == 14].astype(int)
    assert {int(blue * 256 + green) for blue, green in cars[:, :2]} == {actor.id & 0xFFFF for actor in ahead}
    others = seen[seen[..., 2] == 3]  # buildings
    assert len({(int(blue), int(green)) for blue, green in others[:, :2]}) > 1
    image.convert(carla.ColorConverter.CityScapesPalette)


@check
def normals_camera_sees_the_road_from_above(c: Client) -> None:
    place = carla.Transform(carla.Location(x=3.0, z=2.0), carla.Rotation(pitch=-20.0))
    _, image = frame_of(c, "sensor.camera.normals", place, image_size_x=32, image_size_y=32)
    assert pixels(image)[28, 16, :3].tolist() == [255, 128, 128]


@check
def event_camera_sees_what_moves(c: Client) -> None:
    place = carla.Transform(carla.Location(x=1.5, z=2.0))
    car = c.car()
    size = {"image_size_x": 64, "image_size_y": 48}
    heard = c.listen(c.spawn("sensor.camera.dvs", place, car, **size))
    c.ticks(3)
    car.set_target_velocity(12 * car.get_transform().get_forward_vector())
    frame = c.ticks(3)
    events = heard.get(timeout=5)
    while events.frame < frame:
        events = heard.get(timeout=5)
    assert len(events) > 5 and (events.width, events.height) == (64, 48)
    assert all(event.x < 64 and event.y < 48 for event in events)
    times = [event.t for event in events]
    assert times == sorted(times) and near(times[-1] * 1e-9, events.timestamp, 0.05)
    assert len(set(events.to_array_pol())) == 2


@check
def cosmos_camera_paints_labels(c: Client) -> None:
    place = carla.Transform(carla.Location(x=3.0, z=2.0), carla.Rotation(pitch=-20.0))
    _, image = frame_of(c, "sensor.camera.cosmos_visualization", place, image_size_x=32, image_size_y=32)
    assert pixels(image)[28, 16, 2::-1].tolist() == [128, 64, 128]  # the palette's colour of roads


# ---- roads that planners understand ----------------------------------------------------------------------------


def _waypoints(c: Client) -> list[Any]:
    return [w for w in c.world.get_map().generate_waypoints(3.0) if not w.is_junction]


@check
def no_lane_change_leads_into_oncoming_traffic(c: Client) -> None:
    for name in ("suburb", "highway", "street"):
        c.world = c.client.load_world(name)
        allowed = 0
        for here in _waypoints(c):
            change = here.lane_change
            left, right = here.get_left_lane(), here.get_right_lane()
            for side, beside in ((carla.LaneChange.Left, left), (carla.LaneChange.Right, right)):
                if change & side:
                    assert beside is not None and beside.lane_type == carla.LaneType.Driving
                    assert beside.lane_id * here.lane_id > 0
                    allowed += 1
        assert (allowed > 0) == (name == "highway")  # the towns have one lane each way


@check
def lights_watch_the_approach(c: Client) -> None:
    world_map = c.world.get_map()
    lights = c.world.get_actors().filter("traffic.traffic_light")
    assert len(lights) == 3
    for light in lights:
        base, volume = light.get_transform(), light.trigger_volume
        middle = base.transform(volume.location)  # which changes its argument, too
        watched = world_map.get_waypoint(middle)
        assert not watched.is_junction and watched.next(6.0)[0].is_junction
        assert middle.distance(watched.transform.location) < 1.5
        facing = watched.transform.get_forward_vector().dot(base.get_right_vector())
        assert facing < -0.99  # the trigger's depth lies along the lane
        stops = light.get_stop_waypoints()
        assert [(w.road_id, w.lane_id) for w in stops] == [(watched.road_id, watched.lane_id)]
        affected = light.get_affected_lane_waypoints()
        assert [(w.road_id, w.lane_id) for w in affected] == [(watched.road_id, watched.lane_id)]


@check
def landmarks_lead_to_lights(c: Client) -> None:
    world_map = c.world.get_map()
    assert len(world_map.get_all_landmarks_of_type("1000001")) == 3
    light = c.world.get_actors().filter("traffic.traffic_light")[0]
    near_it = light.get_stop_waypoints()[0]
    (landmark,) = near_it.get_landmarks(20.0, True)
    assert landmark.id == light.get_opendrive_id() and landmark.type == "1000001"
    assert c.world.get_traffic_light(landmark).id == light.id
    assert c.world.get_traffic_light_from_opendrive_id(landmark.id).id == light.id
    assert [found.id for found in c.world.get_traffic_lights_from_waypoint(near_it, 20.0)] == [light.id]
    junction = near_it.next(12.0)[0].get_junction()
    together = {found.id for found in c.world.get_traffic_lights_in_junction(junction.id)}
    assert together == {found.id for found in light.get_group_traffic_lights()} and len(together) == 3


@check
def lamp_posts_and_lights_are_on_the_map(c: Client) -> None:
    for label in (carla.CityObjectLabel.TrafficLight, carla.CityObjectLabel.Poles, carla.CityObjectLabel.Buildings):
        things = c.world.get_environment_objects(label)
        assert things and len(things) == len(c.world.get_level_bbs(label)), label
        assert all(thing.type == label and thing.name for thing in things)
    for thing in c.world.get_environment_objects(carla.CityObjectLabel.Poles):
        assert near(thing.bounding_box.location.z - thing.bounding_box.extent.z, thing.transform.location.z, 1e-3)


# ---- physics ---------------------------------------------------------------------------------------------------


@check
def boxes_of_actors_are_tested_in_three_dimensions(c: Client) -> None:
    c.car()
    for height in (-8.0, 8.0):
        place = c.point()
        place.location.z += height
        other = c.spawn("vehicle.audi.tt", place)
        other.set_simulate_physics(False)
    with refused("collision"):
        c.car()


@check
def tyres_may_have_no_friction(c: Client) -> None:
    car = c.car()
    physics = car.get_physics_control()
    wheels = physics.wheels
    for wheel in wheels:
        wheel.tire_friction = 0.0
    physics.wheels = wheels
    car.apply_physics_control(physics)
    c.ticks(1)
    assert [wheel.tire_friction for wheel in car.get_physics_control().wheels] == [0.0] * 4
    car.set_target_velocity(8 * car.get_transform().get_forward_vector())
    car.apply_control(carla.VehicleControl(brake=1.0))
    c.ticks(20)
    assert car.get_velocity().length() > 7.0  # brakes do nothing


@check
def a_control_that_does_not_stick_lasts_one_tick(c: Client) -> None:
    cars = [c.car(index, sticky_control=sticks) for index, sticks in ((0, "true"), (4, "false"))]
    for car in cars:
        car.apply_control(carla.VehicleControl(throttle=1.0))
    c.ticks(1)
    assert [car.get_control().throttle for car in cars] == [1.0, 1.0]
    c.ticks(20)
    assert [car.get_control().throttle for car in cars] == [1.0, 0.0]
    assert cars[0].get_velocity().length() > 3.0 > 1.0 > cars[1].get_velocity().length()


@check
def bicycles_have_four_wheels(c: Client) -> None:
    for name in ("vehicle.bh.crossbike", "vehicle.kawasaki.ninja"):
        bike = c.car(name=name)
        assert bike.attributes["number_of_wheels"] == "2" and len(bike.get_physics_control().wheels) == 4
        c.spawned.pop().destroy()


# ---- walkers ---------------------------------------------------------------------------------------------------


@check
def walkers_have_bones(c: Client) -> None:
    place = c.point()
    place.location.z += 1.0
    walker = c.spawn("walker.pedestrian.0020", place)
    c.ticks(20)
    bones = {bone.name: bone for bone in walker.get_bones().bone_transforms}
    here = walker.get_transform().location
    head, foot = bones["crl_Head__C"].world.location, bones["crl_foot__L"].world.location
    assert 0.6 < head.z - here.z < 0.93 and -0.93 < foot.z - here.z < -0.75
    walker.apply_control(carla.WalkerControl(place.get_forward_vector(), 1.5))
    c.ticks(6)
    spread = bones_apart(walker)
    assert spread > 0.1  # it walks


def bones_apart(walker: Any) -> float:
    bones = {bone.name: bone.component.location for bone in walker.get_bones().bone_transforms}
    return float(abs(bones["crl_foot__L"].x - bones["crl_foot__R"].x))


# ---- recordings ------------------------------------------------------------------------------------------------


@check
def recordings_are_played_and_reported_on(c: Client) -> None:
    path = str(Path(tempfile.mkdtemp()) / "drive.log")
    car, other = c.car(role_name="hero"), c.car(0, "vehicle.audi.tt", ahead=25.0)
    assert path in c.client.start_recorder(path, True)
    car.set_target_velocity(15 * car.get_transform().get_forward_vector())
    there = []
    for _ in range(50):
        c.ticks(1)
        there.append(car.get_transform().location)
    c.client.stop_recorder()
    c.ticks(1)
    report = c.client.show_recorder_file_info(path, False)
    assert f"Create {car.id}: vehicle.tesla.model3 (v)" in report and "Frames: 51" in report and "street" in report
    hits = c.client.show_recorder_collisions(path, "h", "v")
    assert f"{other.id} vehicle.audi.tt" in hits
    assert "vehicle.audi.tt" in c.client.show_recorder_actors_blocked(path, 0.2, 100.0)
    for actor in c.spawned:
        actor.destroy()
    c.spawned.clear()
    c.client.set_replayer_time_factor(2.0)
    assert "street" in c.client.replay_file(path, 0.0, 0.0, 0)
    c.ticks(10)  # a second of it
    (played,) = c.world.get_actors().filter("vehicle.tesla.*")
    assert played.get_transform().location.distance(there[19]) < 0.01
    c.client.stop_replayer(False)
    c.client.set_replayer_time_factor(1.0)
    c.ticks(1)
    assert not c.world.get_actors().filter("vehicle.*")
    with refused("not a recording"):
        c.client.replay_file(path + "x", 0.0, 0.0, 0)


if __name__ == "__main__":
    import carla as library

    carla = library
    carla_contract.main(int(sys.argv[1]), sys.argv[2:], CHECKS)
