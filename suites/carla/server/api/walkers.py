"""Pedestrians."""

from __future__ import annotations

import math

from suites.carla.server.actors import Walker
from suites.carla.server.api.actors import set_actor_transform
from suites.carla.server.rpc import CallError, remote
from suites.carla.server.service import Service
from suites.carla.server.wire import Transform, WalkerControl

MAX_SPEED = 15.0  # m/s


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
    found.control = control
    b = service.world.bodies.rows[found.row]
    size = math.hypot(control.direction.x, control.direction.y)
    b["walk_x"], b["walk_y"] = (control.direction.x / size, control.direction.y / size) if size > 0.0 else (0.0, 0.0)
    b["walk_speed"] = min(max(control.speed, 0.0), MAX_SPEED) if size > 0.0 else 0.0
    b["jump"] = control.jump


@remote
def set_walker_state(service: Service, actor: int, place: Transform, speed: float) -> None:
    """Used by the client's own walker controllers: they place a walker and say how fast it seems to go."""
    walker(service, actor)
    set_actor_transform(service, actor, place)


@remote
def set_actor_dead(service: Service, actor: int) -> None:
    """The walker falls and stays down."""
    found = walker(service, actor)
    service.world.bodies.rows[found.row]["down"] = math.inf
