"""What a real CARLA client must be able to do with the server: run in a process of its own, `carla_contract.py PORT`.

Prints one JSON object a check. The client library can take its process down with it, hence the process.
"""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CHECKS: dict[str, Callable[[Any], None]] = {}
carla: Any = None  # imported in the child only
DELTA = 0.05


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS[function.__name__] = function
    return function


@dataclass
class Client:
    """A connected client in synchronous mode, and what a check spawned."""

    port: int
    client: Any = None
    world: Any = None
    spawned: list[Any] = field(default_factory=list)

    def connect(self) -> None:
        self.client = carla.Client("localhost", self.port)
        self.client.set_timeout(60.0)

    def begin(self) -> None:
        self.world = self.client.get_world()
        settings = self.world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, DELTA
        self.world.apply_settings(settings)

    def end(self) -> None:
        for actor in reversed(self.spawned):
            if actor.is_alive:
                if "sensor" in actor.type_id and actor.is_listening:
                    actor.stop()
                actor.destroy()
        self.spawned.clear()
        self.begin()
        left = [actor.id for kind in ("vehicle.*", "walker.*") for actor in self.world.get_actors().filter(kind)]
        self.client.apply_batch_sync([carla.command.DestroyActor(actor) for actor in left], False)
        self.world.tick()  # not by the batch, which would hold Python's lock while callbacks of sensors wait for it

    def blueprint(self, name: str, **attributes: object) -> Any:
        found = self.world.get_blueprint_library().find(name)
        for key, value in attributes.items():
            found.set_attribute(key, str(value))
        return found

    def spawn(self, name: str, place: Any = None, parent: Any = None, **attributes: object) -> Any:
        place = place if place is not None else carla.Transform()
        self.spawned.append(self.world.spawn_actor(self.blueprint(name, **attributes), place, attach_to=parent))
        return self.spawned[-1]

    def point(self, index: int = 0) -> Any:
        return self.world.get_map().get_spawn_points()[index]

    def car(self, index: int = 0, name: str = "vehicle.tesla.model3", ahead: float = 0.0, **attributes: object) -> Any:
        place = self.point(index)
        place.location += ahead * place.get_forward_vector()
        return self.spawn(name, place, **attributes)

    def ticks(self, count: int) -> int:
        for _ in range(count):
            frame = self.world.tick()
        return int(frame)

    def listen(self, sensor: Any) -> queue.Queue[Any]:
        heard: queue.Queue[Any] = queue.Queue()
        sensor.listen(heard.put)
        return heard


@contextmanager
def refused(*words: str) -> Iterator[None]:
    said = None
    try:
        yield
    except RuntimeError as error:
        said = str(error)
    assert said is not None, "nothing was raised"
    assert all(word in said for word in words), said


def near(a: float, b: float, within: float = 1e-3) -> bool:
    return abs(a - b) <= within


# ---- episode ---------------------------------------------------------------------------------------------------


@check
def version_is_the_clients_own(c: Client) -> None:
    assert c.client.get_server_version() == c.client.get_client_version()


@check
def settings_are_kept_and_checked(c: Client) -> None:
    settings = c.world.get_settings()
    assert settings.synchronous_mode and near(settings.fixed_delta_seconds, DELTA)
    settings.fixed_delta_seconds = 25.0
    with refused("fixed_delta_seconds"):
        c.world.apply_settings(settings)
    assert near(c.world.get_settings().fixed_delta_seconds, DELTA)


@check
def ticks_count_frames_and_time(c: Client) -> None:
    before, frame = c.world.get_snapshot(), c.ticks(10)
    after = c.world.get_snapshot()
    assert after.frame == frame == before.frame + 10
    assert near(after.elapsed_seconds - before.elapsed_seconds, 10 * DELTA) and near(after.delta_seconds, DELTA)


@check
def on_tick_calls_back(c: Client) -> None:
    heard: queue.Queue[Any] = queue.Queue()
    handle = c.world.on_tick(lambda snapshot: heard.put(snapshot.frame))
    frame = c.ticks(1)
    assert heard.get(timeout=5) == frame
    c.world.remove_on_tick(handle)


@check
def asynchronous_mode_runs_by_itself(c: Client) -> None:
    settings = c.world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = False, None
    c.world.apply_settings(settings)
    first = c.world.wait_for_tick(5.0)
    second = c.world.wait_for_tick(5.0)
    assert second.frame > first.frame and 0.0 < second.delta_seconds <= 0.1
    assert c.world.tick() >= second.frame
    c.begin()
    stopped = c.world.get_snapshot().frame
    time.sleep(0.1)
    assert c.world.get_snapshot().frame == stopped


@check
def maps_are_loaded_and_reloaded(c: Client) -> None:
    assert {name.rsplit("/", 1)[-1] for name in c.client.get_available_maps()} == {"highway", "street", "suburb"}
    frame = c.world.get_snapshot().frame
    for name in ("street", "/Game/Carla/Maps/suburb", "highway"):
        c.world = c.client.load_world(name)
        assert c.world.get_map().name.endswith(name.rsplit("/", 1)[-1])
        assert not c.world.get_settings().synchronous_mode
        assert c.world.get_snapshot().frame > frame
        frame = c.world.get_snapshot().frame
    c.begin()
    c.car()
    c.spawned.clear()
    c.world = c.client.reload_world(False)  # settings stay
    assert c.world.get_settings().synchronous_mode
    assert not c.world.get_actors().filter("vehicle.*")
    with refused("map not found"):
        c.client.load_world("Town99")


@check
def opendrive_worlds_are_generated(c: Client) -> None:
    text = c.world.get_map().to_opendrive()
    c.world = c.client.generate_opendrive_world(text, carla.OpendriveGenerationParameters(wall_height=0.5))
    assert c.world.get_map().name.endswith("OpenDriveMap")
    with refused("OpenDRIVE"):
        c.client.generate_opendrive_world("<OpenDRIVE/>")
    c.world = c.client.load_world("highway")


@check
def map_has_lanes_and_spawn_points(c: Client) -> None:
    world_map = c.world.get_map()
    points = world_map.get_spawn_points()
    assert len(points) > 50 and len(world_map.get_topology()) > 3
    for point in points[::20]:
        waypoint = world_map.get_waypoint(point.location)
        assert near(waypoint.transform.location.distance(point.location), 0.0, 1.0)
        assert waypoint.next(2.0)


@check
def weather_is_kept(c: Client) -> None:
    wanted = carla.WeatherParameters.HardRainSunset
    c.world.set_weather(wanted)
    assert c.world.get_weather() == wanted
    c.world.set_weather(carla.WeatherParameters.ClearNoon)


@check
def spectator_is_moved(c: Client) -> None:
    spectator = c.world.get_spectator()
    spectator.set_transform(carla.Transform(carla.Location(1, 2, 30), carla.Rotation(-45, 10, 0)))
    c.ticks(1)
    place = spectator.get_transform()
    assert near(place.location.z, 30) and near(place.rotation.pitch, -45)


@check
def unsupported_calls_raise(c: Client) -> None:
    car = c.car()
    with refused("not supported"):
        car.get_component_world_transform("mesh")


# ---- actors ----------------------------------------------------------------------------------------------------


@check
def blueprints_have_attributes(c: Client) -> None:
    library = c.world.get_blueprint_library()
    assert len(library.filter("vehicle.*")) >= 12 and len(library.filter("walker.*")) >= 8
    car = library.find("vehicle.tesla.model3")
    assert int(car.get_attribute("number_of_wheels")) == 4 and car.has_tag("tesla")
    colour = car.get_attribute("color")
    assert colour.type == carla.ActorAttributeType.RGBColor and colour.as_color().a == 255
    assert len(library.find("walker.pedestrian.0001").get_attribute("speed").recommended_values) == 3
    camera = library.find("sensor.camera.rgb")
    camera.set_attribute("motion_blur_intensity", "0.0")
    assert int(camera.get_attribute("image_size_x")) == 800


@check
def every_vehicle_spawns_with_its_box(c: Client) -> None:
    for blueprint in c.world.get_blueprint_library().filter("vehicle.*"):
        actor = c.world.spawn_actor(blueprint, c.point())
        extent = actor.bounding_box.extent
        assert 0.7 < extent.x < 6.0 and 0.28 < extent.y < 2.0 and 0.5 < extent.z < 2.2
        assert actor.attributes["number_of_wheels"] in ("2", "4")
        c.ticks(1)
        assert actor.destroy()


@check
def spawning_follows_carlas_rules(c: Client) -> None:
    car = c.car()
    with refused("collision at spawn position"):
        c.car()
    assert c.world.try_spawn_actor(c.blueprint("vehicle.audi.tt"), c.point()) is None
    assert near(car.get_location().x, 0.0)  # no state before the next tick
    c.ticks(1)
    assert car.get_location().distance(c.point().location) < 1.0 and car.is_alive
    assert car.id in [actor.id for actor in c.world.get_actors().filter("vehicle.*")]
    assert c.world.get_actor(car.id).type_id == "vehicle.tesla.model3"
    assert car.destroy()
    c.ticks(1)
    assert not car.is_alive and c.world.get_snapshot().find(car.id) is None
    with refused("image"):
        c.spawn("sensor.camera.rgb", image_size_x=100000)


@check
def bodies_are_placed_and_pushed(c: Client) -> None:
    car = c.car()
    place = c.point(40)
    car.set_transform(place)
    c.ticks(1)
    assert car.get_location().distance(place.location) < 1.0
    car.set_location(c.point(1).location)
    c.ticks(1)
    assert car.get_location().distance(c.point(1).location) < 1.0
    car.set_transform(c.point())
    ahead = c.point().get_forward_vector()
    car.set_target_velocity(10 * ahead)
    c.ticks(1)
    assert near(car.get_velocity().length(), 10.0, 0.5)
    car.add_impulse(-5.0 * car.get_physics_control().mass * ahead)
    c.ticks(1)
    assert near(car.get_velocity().length(), 5.0, 0.7)
    car.add_force(car.get_physics_control().mass * 20.0 * ahead)
    c.ticks(1)
    assert near(car.get_velocity().length(), 6.0, 0.8)
    car.set_target_angular_velocity(carla.Vector3D(0, 0, 30))
    c.ticks(1)
    assert car.get_angular_velocity().z > 1.0
    car.add_angular_impulse(carla.Vector3D(0, 0, -1e6))
    car.add_torque(carla.Vector3D(0, 0, 10.0))
    c.ticks(1)
    assert car.get_angular_velocity().z < 0.0


@check
def constant_velocity_holds(c: Client) -> None:
    car = c.car()
    car.enable_constant_velocity(carla.Vector3D(7, 0, 0))
    c.ticks(20)
    assert near(car.get_velocity().length(), 7.0, 0.01)
    car.disable_constant_velocity()
    car.apply_control(carla.VehicleControl(brake=1.0))
    c.ticks(60)
    assert near(car.get_velocity().length(), 0.0, 0.01)


@check
def physics_gravity_and_collisions_switch(c: Client) -> None:
    car = c.car()
    high = c.point()
    high.location.z += 10
    car.set_simulate_physics(False)
    car.set_transform(high)
    c.ticks(10)
    assert near(car.get_location().z, high.location.z)
    car.set_simulate_physics(True)
    car.set_enable_gravity(False)
    c.ticks(10)
    assert near(car.get_location().z, high.location.z)
    car.set_enable_gravity(True)
    c.ticks(60)
    assert near(car.get_location().z, 0.0, 0.2)
    car.set_collisions(False)
    other = c.car(name="vehicle.audi.tt")  # at the same place
    c.ticks(5)
    assert car.get_location().distance(other.get_location()) < 1.0


@check
def props_stand_and_stop_cars(c: Client) -> None:
    car = c.car()
    place = c.point()
    place.location += 8 * place.get_forward_vector()
    barrier = c.spawn("static.prop.streetbarrier", place)
    heard = c.listen(c.spawn("sensor.other.collision", parent=car))
    c.ticks(2)
    car.set_target_velocity(8 * place.get_forward_vector())
    c.ticks(30)
    assert heard.get(timeout=5).other_actor.id == barrier.id
    assert car.get_velocity().length() < 2.0


# ---- vehicles --------------------------------------------------------------------------------------------------


@check
def control_moves_and_is_echoed(c: Client) -> None:
    car = c.car()
    car.apply_control(carla.VehicleControl(throttle=0.75, steer=-0.25))
    c.ticks(40)
    control = car.get_control()
    assert near(control.throttle, 0.75) and near(control.steer, -0.25) and not control.reverse
    assert car.get_velocity().length() > 3.0 and car.get_acceleration().length() > 0.1
    assert car.get_wheel_steer_angle(carla.VehicleWheelLocation.FL_Wheel) < -1.0
    assert car.get_transform().rotation.yaw < c.point().rotation.yaw
    if hasattr(car, "get_telemetry_data"):  # since 0.9.16
        telemetry = car.get_telemetry_data()
        assert near(telemetry.speed, car.get_velocity().length(), 0.1) and telemetry.engine_rpm > 500


@check
def reverse_and_hand_brake(c: Client) -> None:
    car = c.car()
    car.apply_control(carla.VehicleControl(throttle=0.5, reverse=True))
    c.ticks(40)
    ahead = car.get_transform().get_forward_vector()
    assert car.get_velocity().dot(ahead) < -1.0
    car.apply_control(carla.VehicleControl(hand_brake=True))
    c.ticks(60)
    assert near(car.get_velocity().length(), 0.0, 0.01)


@check
def ackermann_control_holds_a_speed(c: Client) -> None:
    car = c.car()
    car.apply_ackermann_control(carla.VehicleAckermannControl(speed=9.0, acceleration=3.0))
    c.ticks(120)
    assert near(car.get_velocity().length(), 9.0, 0.5)
    settings = car.get_ackermann_controller_settings()
    settings.speed_kp = 0.5
    car.apply_ackermann_controller_settings(settings)
    assert near(car.get_ackermann_controller_settings().speed_kp, 0.5)


@check
def physics_control_is_returned_and_felt(c: Client) -> None:
    def speed_after(ticks: int) -> float:
        car.set_transform(c.point())
        car.set_target_velocity(carla.Vector3D())
        car.apply_control(carla.VehicleControl(throttle=1.0))
        c.ticks(ticks)
        return float(car.get_velocity().length())

    car = c.car()
    light = speed_after(40)
    physics = car.get_physics_control()
    assert len(physics.wheels) == 4 and len(physics.torque_curve) >= 3
    physics.mass *= 4
    car.apply_physics_control(physics)
    assert near(car.get_physics_control().mass, physics.mass)
    assert speed_after(40) < 0.6 * light


@check
def lamps_and_doors(c: Client) -> None:
    car = c.car()
    lamps = carla.VehicleLightState(carla.VehicleLightState.LowBeam | carla.VehicleLightState.Fog)
    car.set_light_state(lamps)
    c.ticks(1)
    assert car.get_light_state() == lamps
    assert int(c.world.get_vehicles_light_states()[car.id]) == int(lamps)
    car.open_door(carla.VehicleDoor.All)
    car.close_door(carla.VehicleDoor.All)


@check
def speed_limit_comes_from_the_map(c: Client) -> None:
    car = c.car()
    c.ticks(8)
    assert car.get_speed_limit() >= 30.0 and car.get_failure_state() == carla.VehicleFailureState.NONE


@check
def server_drives_on_request(c: Client) -> None:
    car = c.car(driver="server", driver_speed=36)
    c.ticks(200)
    assert near(car.get_velocity().length(), 10.0, 1.0)
    waypoint = c.world.get_map().get_waypoint(car.get_location())
    assert waypoint.transform.location.distance(car.get_location()) < 0.8
    car.apply_control(carla.VehicleControl(brake=1.0))  # the client takes over
    c.ticks(60)
    assert near(car.get_velocity().length(), 0.0, 0.01)


@check
def traffic_manager_drives(c: Client) -> None:
    cars = [c.car(index) for index in (0, 30)]
    manager = c.client.get_trafficmanager(8123)
    try:
        manager.set_synchronous_mode(True)
        manager.set_random_device_seed(1)
        c.ticks(1)  # the manager forgets cars of which the frame that it looks at knows nothing
        for car in cars:
            car.set_autopilot(True, 8123)
        for _ in range(100):
            time.sleep(0.002)  # leaves the manager's thread time to sleep: it may otherwise miss its wake-up
            c.world.tick()
        assert all(car.get_velocity().length() > 3.0 for car in cars)
    finally:  # a manager that goes on with destroyed cars takes the process down
        for car in cars:
            car.set_autopilot(False, 8123)
        c.ticks(2)
        manager.set_synchronous_mode(False)
        manager.shut_down()


# ---- batches ---------------------------------------------------------------------------------------------------


@check
def batches_spawn_command_and_destroy(c: Client) -> None:
    command = carla.command
    cars = [
        command.SpawnActor(c.blueprint("vehicle.audi.tt"), c.point(index)).then(
            command.ApplyVehicleControl(command.FutureActor, carla.VehicleControl(throttle=0.5))
        )
        for index in (0, 30, 30)
    ]
    answers = c.client.apply_batch_sync(cars, True)
    assert [bool(answer.error) for answer in answers] == [False, False, True]
    assert "collision" in answers[2].error
    ids = [answer.actor_id for answer in answers[:2]]
    c.ticks(10)
    assert all(near(c.world.get_actor(i).get_control().throttle, 0.5) for i in ids)
    first, place = ids[0], c.point(60)
    answers = c.client.apply_batch_sync(
        [
            command.ApplyTransform(first, place),
            command.ApplyTargetVelocity(first, carla.Vector3D(1, 0, 0)),
            command.ApplyTargetAngularVelocity(first, carla.Vector3D()),
            command.ApplyImpulse(first, carla.Vector3D()),
            command.ApplyForce(first, carla.Vector3D()),
            command.ApplyAngularImpulse(first, carla.Vector3D()),
            command.ApplyTorque(first, carla.Vector3D()),
            command.SetSimulatePhysics(first, True),
            command.SetEnableGravity(first, True),
            command.SetVehicleLightState(first, carla.VehicleLightState.Brake),
            command.ApplyVehicleAckermannControl(first, carla.VehicleAckermannControl(speed=3.0)),
            command.ApplyVehiclePhysicsControl(first, c.world.get_actor(first).get_physics_control()),
            command.DestroyActor(999_999),
        ],
        True,
    )
    assert [index for index, answer in enumerate(answers) if answer.error] == [12]
    assert "999999" in answers[12].error
    assert c.world.get_actor(first).get_location().distance(place.location) < 1.5
    c.client.apply_batch([command.DestroyActor(i) for i in ids])
    c.ticks(1)
    assert not any(c.world.get_snapshot().find(i) for i in ids)


@check
def batches_steer_walkers(c: Client) -> None:
    walker = c.spawn("walker.pedestrian.0002", carla.Transform(c.point().location))
    command = carla.command
    answers = c.client.apply_batch_sync(
        [command.ApplyWalkerControl(walker.id, carla.WalkerControl(carla.Vector3D(0, 1, 0), 1.5))], True
    )
    assert not answers[0].error
    c.ticks(20)
    assert near(walker.get_velocity().y, 1.5)
    place = carla.Transform(walker.get_location() + carla.Location(x=2))
    assert not c.client.apply_batch_sync([command.ApplyWalkerState(walker.id, place, 0.0)], True)[0].error
    assert near(walker.get_location().x, place.location.x, 0.1)


# ---- walkers ---------------------------------------------------------------------------------------------------


@check
def walkers_walk_and_jump(c: Client) -> None:
    walker = c.spawn("walker.pedestrian.0001", carla.Transform(c.point().location))
    c.ticks(20)
    begin = walker.get_location()
    walker.apply_control(carla.WalkerControl(carla.Vector3D(0, -1, 0), 2.0))
    c.ticks(20)
    assert near(begin.y - walker.get_location().y, 2.0, 0.15) and near(walker.get_transform().rotation.yaw, -90, 1.0)
    assert near(walker.get_control().speed, 2.0)
    walker.apply_control(carla.WalkerControl(carla.Vector3D(0, -1, 0), 0.0, True))
    c.ticks(4)
    assert walker.get_location().z > begin.z + 0.2
    c.ticks(40)
    assert near(walker.get_location().z, begin.z, 0.02)


@check
def walkers_are_knocked_over(c: Client) -> None:
    car, place = c.car(), c.point()
    place.location += 12 * place.get_forward_vector()
    walker = c.spawn("walker.pedestrian.0003", place)
    heard = c.listen(c.spawn("sensor.other.collision", parent=car))
    c.ticks(2)
    car.set_target_velocity(12 * place.get_forward_vector())
    c.ticks(40)
    event = heard.get(timeout=5)
    assert event.other_actor.id == walker.id and event.normal_impulse.length() > 100
    assert walker.get_location().distance(place.location) > 1.0


@check
def walker_controllers_do_not_hang(c: Client) -> None:
    text = c.world.get_map().to_opendrive().replace('a="2.8"', 'a="1.8"')  # no shoulder is wide enough to walk on
    c.client.generate_opendrive_world(text)
    c.connect()  # 0.9.15 asks for a mesh only when it connects
    c.begin()
    walker = c.spawn("walker.pedestrian.0004", carla.Transform(c.point().location))
    controller = c.spawn("controller.ai.walker", parent=walker)
    c.ticks(1)
    assert c.world.get_random_location_from_navigation() is None
    controller.start()
    c.ticks(3)
    controller.stop()
    c.end()
    c.world = c.client.load_world("highway")


@check
def walker_controllers_walk_on_hard_shoulders(c: Client) -> None:
    """On a motorway nobody crosses the road."""
    c.connect()
    c.begin()
    road_map = c.world.get_map()
    assert road_map.get_crosswalks() == []
    walker = c.spawn("walker.pedestrian.0002", carla.Transform(c.world.get_random_location_from_navigation()))
    controller = c.spawn("controller.ai.walker", parent=walker)
    c.ticks(1)
    begin = walker.get_location()
    controller.start()
    controller.go_to_location(c.world.get_random_location_from_navigation())
    controller.set_max_speed(2.0)
    for _ in range(10):
        c.ticks(10)
        shoulder = road_map.get_waypoint(walker.get_location(), lane_type=carla.LaneType.Shoulder)
        assert shoulder.transform.location.distance(walker.get_location() - carla.Location(z=1.0)) < 1.3
    assert walker.get_location().distance(begin) > 3.0
    controller.stop()


@check
def walker_controllers_walk_on_pavements(c: Client) -> None:
    c.client.load_world("street")
    c.connect()  # 0.9.15 asks for a mesh only when it connects
    c.begin()
    c.world.set_pedestrians_seed(5)
    c.world.set_pedestrians_cross_factor(0.0)
    walkers, controllers = [], []
    for number in range(1, 7):
        place = carla.Transform(c.world.get_random_location_from_navigation())
        walkers.append(c.spawn(f"walker.pedestrian.{number:04d}", place))
        controllers.append(c.spawn("controller.ai.walker", parent=walkers[-1]))
    c.ticks(1)
    begin = [walker.get_location() for walker in walkers]
    targets = [c.world.get_random_location_from_navigation() for _ in walkers]
    for controller, target in zip(controllers, targets, strict=True):
        controller.start()
        controller.go_to_location(target)
        controller.set_max_speed(1.5)
    c.ticks(200)
    assert sum(a.distance(walker.get_location()) > 5.0 for a, walker in zip(begin, walkers, strict=True)) >= 4
    assert all(0.9 < walker.get_location().z - walker.bounding_box.extent.z + 1.0 < 1.2 for walker in walkers)
    speeds = [walker.get_velocity().length() for walker in walkers]
    assert max(speeds) < 1.8 and sorted(speeds)[2] > 0.8, speeds
    for controller in controllers:
        controller.stop()
    c.ticks(10)
    assert all(walker.get_velocity().length() < 0.01 for walker in walkers)
    c.end()
    c.world = c.client.load_world("highway")


@check
def walker_controllers_go_where_they_are_told(c: Client) -> None:
    c.client.load_world("street")
    c.connect()
    c.begin()
    walker = c.spawn("walker.pedestrian.0002", carla.Transform(carla.Location(-40.0, -100.5, 0.5)))
    controller = c.spawn("controller.ai.walker", parent=walker)
    c.ticks(1)
    controller.start()
    target = carla.Location(-70.0, -100.5, 0.12)
    controller.go_to_location(target)
    controller.set_max_speed(2.0)
    nearest, sideways = 1e9, 0.0
    for _ in range(400):
        c.world.tick()
        nearest = min(nearest, walker.get_location().distance(target))
        if nearest < 2.0:
            break
        sideways = max(sideways, abs(walker.get_location().y + 100.5))
    assert nearest < 2.0 and sideways < 1.0, (nearest, sideways)
    c.end()
    c.world = c.client.load_world("highway")


# ---- traffic lights --------------------------------------------------------------------------------------------


@check
def traffic_lights_cycle_and_obey(c: Client) -> None:
    c.world = c.client.load_world("street")
    c.begin()
    lights = list(c.world.get_actors().filter("traffic.traffic_light"))
    assert len(lights) >= 3
    light = lights[0]
    light.set_state(carla.TrafficLightState.Green)
    light.set_green_time(1.0)
    light.set_yellow_time(0.5)
    light.set_red_time(0.5)
    c.ticks(2)
    assert light.get_state() == carla.TrafficLightState.Green and near(light.get_green_time(), 1.0)
    group = light.get_group_traffic_lights()
    assert light.id in [member.id for member in group] and len(group) >= 3
    light.freeze(True)
    c.ticks(40)
    assert light.is_frozen() and light.get_state() == carla.TrafficLightState.Green
    light.freeze(False)
    c.world.freeze_all_traffic_lights(False)
    seen = set()
    for _ in range(60):
        c.world.tick()
        seen.add(light.get_state())
    assert len(seen) >= 2
    c.world.reset_all_traffic_lights()
    light.reset_group()
    assert len(light.get_light_boxes()) == 1
    assert not light.destroy()
    c.world = c.client.load_world("highway")


# ---- sensors ---------------------------------------------------------------------------------------------------


def frame_of(c: Client, name: str, place: Any = None, **attributes: object) -> tuple[Any, Any]:
    """A car's sensor and its measurement of the next tick."""
    car = c.car()
    sensor = c.spawn(name, place, car, **attributes)
    c.ticks(12)  # until it stands
    heard = c.listen(sensor)
    frame = c.world.tick()
    data = heard.get(timeout=60)
    assert data.frame == frame and near(data.timestamp, c.world.get_snapshot().timestamp.elapsed_seconds)
    return car, data


def pixels(image: Any) -> Any:
    import numpy as np

    return np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)


@check
def rgb_camera(c: Client) -> None:
    place = carla.Transform(carla.Location(x=1.5, z=2.0))
    car, image = frame_of(c, "sensor.camera.rgb", place, image_size_x=96, image_size_y=64, fov=60)
    assert (image.width, image.height) == (96, 64) and near(image.fov, 60.0)
    assert near(image.transform.location.distance(car.get_location()), 2.5, 0.1)
    picture = pixels(image)
    assert picture[..., :3].std() > 10 and (picture[..., 3] == 255).all()
    assert picture[:20, :, 0].mean() > picture[-10:, :, 0].mean()  # the sky is bluer than the road


@check
def depth_camera(c: Client) -> None:
    place = carla.Transform(carla.Location(x=2.5, z=1.0), carla.Rotation(pitch=-90))
    _, image = frame_of(c, "sensor.camera.depth", place, image_size_x=9, image_size_y=9, fov=20)
    blue, green, red, _ = (int(part) for part in pixels(image)[4, 4])
    metres = (red + 256 * green + 65536 * blue) / (2**24 - 1) * 1000
    assert near(metres, 1.0, 0.15)
    image.convert(carla.ColorConverter.LogarithmicDepth)


@check
def semantic_camera(c: Client) -> None:
    place = carla.Transform(carla.Location(x=2.5, z=2.0), carla.Rotation(pitch=-20))
    _, image = frame_of(c, "sensor.camera.semantic_segmentation", place, image_size_x=64, image_size_y=64, fov=60)
    labels = set(pixels(image)[..., 2].ravel().tolist())
    assert {1, 24} <= labels, labels  # roads and their lines
    image.convert(carla.ColorConverter.CityScapesPalette)
    assert len({tuple(p) for p in pixels(image)[..., :3].reshape(-1, 3).tolist()}) >= 2


@check
def optical_flow_camera(c: Client) -> None:
    import numpy as np

    place = carla.Transform(carla.Location(x=2.5, z=2.0), carla.Rotation(pitch=-20))
    car = c.car()
    size = {"image_size_x": 32, "image_size_y": 32, "fov": 60}
    c.ticks(12)
    heard = c.listen(c.spawn("sensor.camera.optical_flow", place, car, **size))
    c.ticks(2)
    car.set_target_velocity(10 * car.get_transform().get_forward_vector())
    frame, image = c.ticks(1), heard.get(timeout=60)
    while image.frame < frame:
        assert np.abs(np.frombuffer(image.raw_data, np.float32)).max() < 0.01  # it stood
        image = heard.get(timeout=60)
    flow = np.frombuffer(image.raw_data, np.float32).reshape(32, 32, 2)
    low = flow[28]
    assert low[:, 1].min() > 0.02  # the road comes nearer: downwards,
    assert low[2, 0] < -0.01 and low[-3, 0] > 0.01  # and outwards
    assert image.get_color_coded_flow().width == 32


@check
def no_rendering_mode_is_black(c: Client) -> None:
    settings = c.world.get_settings()
    settings.no_rendering_mode = True
    c.world.apply_settings(settings)
    _, image = frame_of(c, "sensor.camera.rgb", image_size_x=16, image_size_y=16)
    assert pixels(image)[..., :3].max() == 0
    settings.no_rendering_mode = False
    c.world.apply_settings(settings)


@check
def sensor_tick_thins_out(c: Client) -> None:
    heard = c.listen(c.spawn("sensor.other.gnss", parent=c.car(), sensor_tick=0.2))
    first = c.ticks(1)
    c.ticks(19)
    time.sleep(0.2)
    frames = [heard.get_nowait().frame - first for _ in range(heard.qsize())]
    assert frames == [0, 4, 8, 12, 16], frames


@check
def gnss_agrees_with_the_map(c: Client) -> None:
    car, data = frame_of(c, "sensor.other.gnss")
    expected = c.world.get_map().transform_to_geolocation(car.get_location())
    assert near(data.latitude, expected.latitude, 1e-6) and near(data.longitude, expected.longitude, 1e-6)


@check
def imu_feels_gravity_and_turns(c: Client) -> None:
    car, data = frame_of(c, "sensor.other.imu")
    assert near(data.accelerometer.z, 9.81, 0.3) and near(data.gyroscope.z, 0.0, 0.05)
    expected = math.radians(car.get_transform().rotation.yaw + 90) % (2 * math.pi)
    assert near(data.compass, expected, 0.02)


@check
def collisions_are_reported_to_both(c: Client) -> None:
    car, other = c.car(), c.car(ahead=12.0, name="vehicle.audi.tt")
    heard = c.listen(c.spawn("sensor.other.collision", parent=car))
    theirs = c.listen(c.spawn("sensor.other.collision", parent=other))
    c.ticks(2)
    before = car.get_physics_control().mass * 10.0
    car.set_target_velocity(10 * c.point().get_forward_vector())
    c.ticks(20)
    mine, his = heard.get(timeout=5), theirs.get(timeout=5)
    assert mine.actor.id == car.id and mine.other_actor.id == other.id and his.other_actor.id == car.id
    assert mine.frame == his.frame
    assert 0.2 * before < mine.normal_impulse.length() < 1.5 * before


@check
def crash_barriers_are_static(c: Client) -> None:
    car, place = c.car(), c.point()
    heard = c.listen(c.spawn("sensor.other.collision", parent=car))
    place.rotation.yaw += 90
    car.set_transform(place)
    c.ticks(1)
    car.enable_constant_velocity(carla.Vector3D(15, 0, 0))
    for _ in range(80):
        c.world.tick()
        if not heard.empty():
            break
    assert heard.get(timeout=5).other_actor.type_id.startswith("static.")


@check
def lane_invasions_are_seen(c: Client) -> None:
    car = c.car()
    heard = c.listen(c.spawn("sensor.other.lane_invasion", parent=car))
    c.ticks(2)
    side = car.get_transform().get_right_vector()
    car.set_target_velocity(12 * c.point().get_forward_vector())
    c.ticks(1)
    for _ in range(60):
        car.set_location(car.get_location() + carla.Location(0.1 * side.x, 0.1 * side.y, 0))
        c.world.tick()
    time.sleep(0.1)
    assert heard.get(timeout=5).crossed_lane_markings


@check
def obstacles_are_detected(c: Client) -> None:
    car, other = c.car(), c.car(ahead=14.0, name="vehicle.mercedes.sprinter")
    place = carla.Transform(carla.Location(x=2.5, z=0.8))
    heard = c.listen(c.spawn("sensor.other.obstacle", place, car, distance=20, only_dynamics=True))
    c.ticks(3)
    event = heard.get(timeout=5)
    assert event.other_actor.id == other.id and near(event.distance, 14.0 - 2.957 - 2.5, 0.4)


@check
def lidar_measures_the_ground(c: Client) -> None:
    import numpy as np

    place = carla.Transform(carla.Location(z=2.5))
    _, data = frame_of(
        c, "sensor.lidar.ray_cast", place, range=40, rotation_frequency=20, dropoff_general_rate=0, channels=16
    )
    points = np.frombuffer(data.raw_data, np.float32).reshape(-1, 4)
    assert data.channels == 16 and len(points) == len(data) == sum(data.get_point_count(i) for i in range(16))
    low = points[(points[:, 2] < -2.0)]
    assert len(low) > 100 and near(float(np.median(low[:, 2])), -2.5, 0.1)
    assert (points[:, 3] > 0).all() and (points[:, 3] <= 1).all()


@check
def semantic_lidar_names_what_it_sees(c: Client) -> None:
    other = c.car(ahead=12.0, name="vehicle.audi.tt")
    place = carla.Transform(carla.Location(z=2.5))
    _, data = frame_of(c, "sensor.lidar.ray_cast_semantic", place, range=40, rotation_frequency=20)
    seen = {(point.object_tag, point.object_idx) for point in data}
    assert (14, other.id) in seen and (1, 0) in seen, seen


@check
def radar_measures_closing_speed(c: Client) -> None:
    other = c.car(ahead=20.0, name="vehicle.carlamotors.carlacola")
    place = carla.Transform(carla.Location(x=2.5, z=1.0))
    car = c.car()
    heard = c.listen(c.spawn("sensor.other.radar", place, car, horizontal_fov=10, vertical_fov=5))
    c.ticks(2)
    other.set_target_velocity(-8 * c.point().get_forward_vector())
    frame = c.ticks(1)
    data = heard.get(timeout=5)
    while data.frame < frame:
        data = heard.get(timeout=5)
    hits = [detection for detection in data if detection.depth < 25]
    assert hits and all(near(detection.velocity, -8.0, 0.5) for detection in hits)


# ---- questions -------------------------------------------------------------------------------------------------


@check
def rays_meet_the_world(c: Client) -> None:
    car = c.car()
    c.ticks(12)
    above = car.get_location() + carla.Location(z=20)
    hits = c.world.cast_ray(above, car.get_location() - carla.Location(z=1))
    assert [str(hit.label) for hit in hits] == ["Car", "Roads"]
    point = c.world.project_point(above, carla.Vector3D(0, 0, -1), 100.0)
    assert str(point.label) == "Car" and near(point.location.z, 2 * car.bounding_box.extent.z, 0.2)
    assert c.world.ground_projection(above, 100.0) is not None


@check
def boxes_of_the_level(c: Client) -> None:
    car = c.car()
    c.ticks(1)
    boxes = c.world.get_level_bbs(carla.CityObjectLabel.Car)
    assert len(boxes) == 1 and boxes[0].location.distance(car.get_location()) < 1.5
    things = c.world.get_environment_objects(carla.CityObjectLabel.GuardRail)
    assert len(things) == len(c.world.get_level_bbs(carla.CityObjectLabel.GuardRail)) > 100
    assert len({thing.id for thing in things}) == len(things)
    assert all(thing.transform.location.distance(thing.bounding_box.location) < 1.0 for thing in things)


@check
def debug_drawing_is_accepted(c: Client) -> None:
    here = carla.Location(z=1)
    c.world.debug.draw_point(here)
    c.world.debug.draw_line(here, carla.Location(z=2))
    c.world.debug.draw_arrow(here, carla.Location(z=2))
    c.world.debug.draw_box(carla.BoundingBox(here, carla.Vector3D(1, 1, 1)), carla.Rotation())
    c.world.debug.draw_string(here, "text")
    c.ticks(1)


@check
def map_layers_are_accepted(c: Client) -> None:
    c.world.unload_map_layer(carla.MapLayer.Buildings)
    c.world.load_map_layer(carla.MapLayer.Buildings)
    c.ticks(1)


@check
def light_manager_switches_street_lamps(c: Client) -> None:
    manager = c.world.get_lightmanager()
    lamps = manager.get_all_lights(carla.LightGroup.Street)
    assert len(lamps) > 10 and all(lamp.is_on for lamp in lamps)
    manager.turn_off(lamps[:3])
    c.ticks(2)
    off = [lamp.id for lamp in c.world.get_lightmanager().get_turned_off_lights(carla.LightGroup.Street)]
    assert off == [lamp.id for lamp in lamps[:3]]
    manager.turn_on(lamps[:3])
    c.ticks(2)


def main(port: int, wanted: list[str], checks: dict[str, Callable[[Any], None]]) -> None:
    global carla
    import carla as library

    carla = library
    client = Client(port)
    client.connect()
    client.client.set_files_base_folder(tempfile.mkdtemp(prefix="carla-cache-"))
    for name in wanted or checks:
        result: dict[str, Any] = {"name": name, "ok": True, "detail": ""}
        begun = time.perf_counter()
        try:
            client.begin()
            checks[name](client)
        except Exception:
            result |= {"ok": False, "detail": traceback.format_exc()}
        finally:
            client.end()
        print(json.dumps(result | {"seconds": time.perf_counter() - begun}), flush=True)


def ask(server: Any, program: str, checks: Iterable[str], python: str = sys.executable) -> dict[str, dict[str, Any]]:
    """What each check of `program` found, and how the client (`exit`) and the server (`server`) ended.

    One client process makes all checks. The client library sometimes takes it down when a world is replaced on a busy
    machine (`bad_weak_ptr`): a new process then begins with the check that fell, and a check that falls twice failed.
    """
    found: dict[str, dict[str, Any]] = {}
    left, fallen = list(checks), set[str]()
    while True:
        command = [python, program, str(server.port), *left]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        found |= {line["name"]: line for line in lines}
        left = [name for name in left if name not in found]
        if run.returncode >= 0 or not left or left[0] in fallen:
            break
        fallen.add(left[0])
    found["exit"] = {"ok": run.returncode == 0, "detail": f"exit code {run.returncode}\n{run.stderr}"}
    found["server"] = {"ok": server.alive and "Traceback" not in server.log(), "detail": server.log()}
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:], CHECKS)
