"""What the scripts of CARLA's own PythonAPI need of a server: run in a process of its own, `carla_needs.py PORT`.

Each kind of need that a script shows is a check here; `test_carla_scripts` runs the scripts themselves where they are.
The server runs `street` with `--towns`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
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


if __name__ == "__main__":
    import carla as library

    carla = library
    carla_contract.main(int(sys.argv[1]), sys.argv[2:], CHECKS)
