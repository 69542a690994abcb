"""Driving, physics, lamps and doors of vehicles."""

from __future__ import annotations

import math
from typing import Any

from suites.carla.server import physics
from suites.carla.server.actors import Vehicle
from suites.carla.server.geometry import compose
from suites.carla.server.rpc import CallError, remote
from suites.carla.server.service import Service
from suites.carla.server.wire import (
    AckermannControl,
    AckermannSettings,
    LightFlags,
    PhysicsControl,
    Rotation,
    Transform,
    Vector,
    VehicleControl,
)


def vehicle(service: Service, actor_id: int) -> Vehicle:
    """The vehicle of that id. Raises CallError."""
    actor = service.world.actor(actor_id)
    if not isinstance(actor, Vehicle):
        raise CallError(f"actor {actor_id} ({actor.type_id}) is not a vehicle")
    return actor


@remote
def apply_control_to_vehicle(service: Service, actor: int, control: VehicleControl) -> None:
    """Keeps until the next one. A vehicle that the server drove is the client's from now on."""
    found = vehicle(service, actor)
    service.world.traffic.leave(found)
    found.ackermann = None
    service.world.control(found, control)


@remote
def apply_ackermann_control_to_vehicle(service: Service, actor: int, control: AckermannControl) -> None:
    found = vehicle(service, actor)
    service.world.traffic.leave(found)
    found.ackermann = control


@remote
def get_ackermann_controller_settings(service: Service, actor: int) -> AckermannSettings:
    return vehicle(service, actor).ackermann_settings


@remote
def apply_ackermann_controller_settings(service: Service, actor: int, settings: AckermannSettings) -> None:
    """Kept and returned; the speed is held by the vehicle's own model, which needs no gains."""
    vehicle(service, actor).ackermann_settings = settings


@remote
def get_physics_control(service: Service, actor: int) -> PhysicsControl:
    """Wheel positions are in the world, in centimetres, as CARLA reports them."""
    found = vehicle(service, actor)
    place = found.transform(service.world.bodies)
    wheels = []
    for wheel in found.physics.wheels:
        local = Transform(Vector(*(part / 100.0 for part in wheel.position)), Rotation())
        at = compose(place, local).location
        wheels.append(wheel._replace(position=Vector(*(part * 100.0 for part in at))))
    return found.physics._replace(wheels=tuple(wheels))


@remote
def apply_physics_control(service: Service, actor: int, control: PhysicsControl) -> None:
    """Wheel positions are read-only."""
    found = vehicle(service, actor)
    if len(control.wheels) != len(found.physics.wheels):
        raise CallError(f"{found.type_id} has {len(found.physics.wheels)} wheels, not {len(control.wheels)}")
    physics.install(service.world.bodies.rows[found.row], control)
    wheels = (
        new._replace(position=old.position) for new, old in zip(control.wheels, found.physics.wheels, strict=True)
    )
    found.physics = control._replace(wheels=tuple(wheels))


@remote
def set_vehicle_light_state(service: Service, actor: int, state: LightFlags) -> None:
    vehicle(service, actor).lights = state.flags & 0xFFFFFFFF


@remote
def get_vehicle_light_state(service: Service, actor: int) -> LightFlags:
    return LightFlags(vehicle(service, actor).lights)


@remote
def get_vehicle_light_states(service: Service) -> list[Any]:
    return [[found.id, found.lights] for found in service.world.of_kind(Vehicle)]


@remote
def get_wheel_steer_angle(service: Service, actor: int, wheel: int) -> float:
    """Degrees; wheels 0 and 1 are the front ones."""
    found = vehicle(service, actor)
    front = wheel < max(1, len(found.physics.wheels) // 2)
    return math.degrees(service.world.bodies.rows[found.row]["wheel"]) if front else 0.0


@remote
def get_telemetry_data(service: Service, actor: int) -> list[Any]:
    """Speed in m/s, the pedals, rpm, gear and drag in N; per wheel, what the model knows: friction and turning."""
    found = vehicle(service, actor)
    b = service.world.bodies.rows[found.row]
    speed = math.hypot(b["vx"], b["vy"])
    turning = speed / float(b["radius"])
    wheels = [[wheel.tire_friction, 0.0, 0.0, turning, *[0.0] * 7] for wheel in found.physics.wheels]
    drag = float(b["drag"]) * speed * speed
    control = found.control
    return [speed, control.steer, control.throttle, control.brake, float(b["rpm"]), int(b["gear"]), drag, wheels]


@remote
def open_vehicle_door(service: Service, actor: int, door: int) -> None:
    """Accepted; doors do not move."""
    vehicle(service, actor)


@remote
def close_vehicle_door(service: Service, actor: int, door: int) -> None:
    """Accepted; doors do not move."""
    vehicle(service, actor)


@remote
def show_vehicle_debug_telemetry(service: Service, actor: int, enabled: bool) -> None:
    """Accepted; there is no screen to show it on."""
    vehicle(service, actor)
