"""Pedestrians."""

from __future__ import annotations

import math

from suites.carla.server.actors import Walker
from suites.carla.server.api.actors import set_actor_transform
from suites.carla.server.rpc import CallError, remote
from suites.carla.server.service import Service
from suites.carla.server.wire import Rotation, Transform, Vector, WalkerControl

MAX_SPEED = 15.0  # m/s
LED_SECONDS = 0.25  # of the world for which a walker goes on without word from its controller


def walker(service: Service, actor_id: int) -> Walker:
    """The walker of that id. Raises CallError."""
    actor = service.world.actor(actor_id)
    if not isinstance(actor, Walker):
        raise CallError(f"actor {actor_id} ({actor.type_id}) is not a walker")
    return actor


@remote
def apply_control_to_walker(service: Service, actor: int, control: WalkerControl) -> None:
    """Keeps until the next one. The direction is horizontal; a walker faces where it goes."""
    found = walker(service, actor)
    found.control, found.led_until = control, math.inf
    b = service.world.bodies.rows[found.row]
    size = math.hypot(control.direction.x, control.direction.y)
    b["walk_x"], b["walk_y"] = (control.direction.x / size, control.direction.y / size) if size > 0.0 else (0.0, 0.0)
    b["walk_speed"] = min(max(control.speed, 0.0), MAX_SPEED) if size > 0.0 else 0.0
    b["jump"] = control.jump


@remote
def set_walker_state(service: Service, actor: int, place: Transform, speed: float) -> None:
    """The client's own controllers lead a walker so, every tick: where its feet are and how fast it goes.

    Between two of these it walks on; when they end, it stops. Who lies on the ground is not led.
    """
    found = walker(service, actor)
    b = service.world.bodies.rows[found.row]
    if b["down"] > 0.0:
        return
    yaw = math.radians(place.rotation.yaw)
    ahead = Vector(math.cos(yaw), math.sin(yaw), 0.0)
    x, y, _ = place.location
    feet = service.world.map.height(x, y)
    standing = Vector(x, y, feet + b["stand"])
    set_actor_transform(service, actor, Transform(standing, Rotation(0.0, place.rotation.yaw, 0.0)))
    apply_control_to_walker(service, actor, WalkerControl(ahead, speed))
    found.led_until = service.world.time + LED_SECONDS


@remote
def set_actor_dead(service: Service, actor: int) -> None:
    """The walker falls and stays down."""
    found = walker(service, actor)
    service.world.bodies.rows[found.row]["down"] = math.inf
