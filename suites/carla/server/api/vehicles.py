"""Driving, physics, lamps and doors of vehicles."""

from __future__ import annotations

import math
from typing import Any

from suites.carla.server.api.server import Server
from suites.carla.server.motion import physics
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.wire import (
    AckermannControl,
    AckermannSettings,
    LightFlags,
    PhysicsControl,
    Rotation,
    Transform,
    Vector,
    VehicleControl,
)
from suites.carla.server.things.actors import Vehicle
from suites.carla.server.things.geometry import compose

METHODS = Methods()


def vehicle(server: Server, actor_id: int) -> Vehicle:
    """The vehicle of that id. Raises CallError."""
    actor = server.world.actor(actor_id)
    if not isinstance(actor, Vehicle):
        raise CallError(f"actor {actor_id} ({actor.type_id}) is not a vehicle")
    return actor


@METHODS.add
def apply_control_to_vehicle(server: Server, actor: int, control: VehicleControl) -> None:
    """Holds until the next one. A vehicle that the server drove is the client's from now on."""
    found = vehicle(server, actor)
    server.world.traffic.leave(found)
    found.ackermann = None
    server.world.control(found, control)


@METHODS.add
def apply_ackermann_control_to_vehicle(server: Server, actor: int, control: AckermannControl) -> None:
    found = vehicle(server, actor)
    server.world.traffic.leave(found)
    found.ackermann = control


@METHODS.add
def get_ackermann_controller_settings(server: Server, actor: int) -> AckermannSettings:
    return vehicle(server, actor).ackermann_settings


@METHODS.add
def apply_ackermann_controller_settings(server: Server, actor: int, settings: AckermannSettings) -> None:
    """Kept and returned; the speed is held by the vehicle's own model, which needs no gains."""
    vehicle(server, actor).ackermann_settings = settings


@METHODS.add
def get_physics_control(server: Server, actor: int) -> PhysicsControl:
    """Wheel positions are in the world, in centimetres, as CARLA reports them."""
    found = vehicle(server, actor)
    place = found.transform(server.world.bodies)
    wheels = []
    for wheel in found.physics.wheels:
        local = Transform(Vector(*(part / 100.0 for part in wheel.position)), Rotation())
        at = compose(place, local).location
        wheels.append(wheel._replace(position=Vector(*(part * 100.0 for part in at))))
    return found.physics._replace(wheels=tuple(wheels))


@METHODS.add
def apply_physics_control(server: Server, actor: int, control: PhysicsControl) -> None:
    """Wheel positions are read-only."""
    found = vehicle(server, actor)
    if len(control.wheels) != len(found.physics.wheels):
        raise CallError(f"{found.type_id} has {len(found.physics.wheels)} wheels, not {len(control.wheels)}")
    physics.install(server.world.bodies.rows[found.row], control)
    wheels = (
        new._replace(position=old.position) for new, old in zip(control.wheels, found.physics.wheels, strict=True)
    )
    found.physics = control._replace(wheels=tuple(wheels))


@METHODS.add
def set_vehicle_light_state(server: Server, actor: int, state: LightFlags) -> None:
    vehicle(server, actor).lights = state.flags & 0xFFFFFFFF


@METHODS.add
def get_vehicle_light_state(server: Server, actor: int) -> LightFlags:
    return LightFlags(vehicle(server, actor).lights)


@METHODS.add
def get_vehicle_light_states(server: Server) -> list[Any]:
    return [[found.id, found.lights] for found in server.world.of_kind(Vehicle)]


@METHODS.add
def get_wheel_steer_angle(server: Server, actor: int, wheel: int) -> float:
    """Degrees; wheels 0 and 1 are the front ones."""
    found = vehicle(server, actor)
    front = wheel < max(1, len(found.physics.wheels) // 2)
    return math.degrees(server.world.bodies.rows[found.row]["wheel"]) if front else 0.0


@METHODS.add
def get_telemetry_data(server: Server, actor: int) -> list[Any]:
    """Speed in m/s, the pedals, rpm, gear and drag in N; per wheel, what the model knows: friction and turning."""
    found = vehicle(server, actor)
    b = server.world.bodies.rows[found.row]
    speed = math.hypot(b["vx"], b["vy"])
    turning = speed / float(b["radius"])
    wheels = [[wheel.tire_friction, 0.0, 0.0, turning, *[0.0] * 7] for wheel in found.physics.wheels]
    drag = float(b["drag"]) * speed * speed
    control = found.control
    return [speed, control.steer, control.throttle, control.brake, float(b["rpm"]), int(b["gear"]), drag, wheels]


@METHODS.add
def open_vehicle_door(server: Server, actor: int, door: int) -> None:
    """Accepted; doors do not move."""
    vehicle(server, actor)


@METHODS.add
def close_vehicle_door(server: Server, actor: int, door: int) -> None:
    """Accepted; doors do not move."""
    vehicle(server, actor)


@METHODS.add
def show_vehicle_debug_telemetry(server: Server, actor: int, enabled: bool) -> None:
    """Accepted; there is no screen to show it on."""
    vehicle(server, actor)
