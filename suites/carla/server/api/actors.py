"""Blueprints, spawning, placing, pushing and destroying."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from suites.carla.server.actors import Actor
from suites.carla.server.blueprints import BLUEPRINTS
from suites.carla.server.codec import Packed, pack
from suites.carla.server.rpc import CallError, remote
from suites.carla.server.service import Service
from suites.carla.server.spawning import MAX_DISTANCE
from suites.carla.server.versions import Version
from suites.carla.server.wire import ActorDescription, BoundingBox, Transform, Vector

MAX_ACTORS = 2000
MAX_SPEED = 200.0  # m/s


@cache
def _definitions(version: Version) -> Packed:
    return Packed(pack([blueprint.as_sent(version) for blueprint in BLUEPRINTS.values()]))


@remote
def get_actor_definitions(service: Service) -> Packed:
    return _definitions(service.version)


@remote
def get_spectator(service: Service) -> list[Any]:
    return service.world.as_sent(service.world.spectator)


@remote
def get_actors_by_id(service: Service, ids: tuple[int, ...]) -> list[Any]:
    world = service.world
    return [world.as_sent(world.actors[i]) for i in ids if i in world.actors]


@remote
def spawn_actor(service: Service, description: ActorDescription, place: Transform) -> list[Any]:
    return service.world.as_sent(new_actor(service, description, place, None))


@remote
def spawn_actor_with_parent(
    service: Service,
    description: ActorDescription,
    place: Transform,
    parent: int,
    attachment: int = 0,
    socket: str = "",
) -> list[Any]:
    """All kinds of attachment are rigid: a camera on a spring arm does not swing."""
    return service.world.as_sent(new_actor(service, description, place, service.world.actor(parent)))


def new_actor(service: Service, description: ActorDescription, place: Transform, parent: Actor | None) -> Actor:
    """Spawns. Raises CallError."""
    if len(service.world.actors) >= MAX_ACTORS:
        raise CallError(f"Spawn failed: there are {MAX_ACTORS} actors already")
    return service.world.spawn(description, place, parent, service.hub.new_stream)


@remote
def destroy_actor(service: Service, actor: int) -> bool:
    service.world.destroy(actor)
    return True


@remote
def get_actor_bounding_box(service: Service, actor: int) -> list[Any]:
    """A box of no size for an unknown actor: an error would kill a client whose Traffic Manager asks."""
    found = service.world.actors.get(actor)
    return service.world.box_as_sent(found.box if found else BoundingBox())


def body(service: Service, actor_id: int) -> Any:
    """The row of an actor in the table of bodies. Raises CallError for an actor without."""
    actor = service.world.actor(actor_id)
    if actor.row < 0:
        raise CallError(f"actor {actor_id} ({actor.type_id}) has no body")
    return service.world.bodies.rows[actor.row]


@remote
def set_actor_location(service: Service, actor: int, location: Vector) -> None:
    found = service.world.actor(actor)
    set_actor_transform(service, actor, Transform(location, found.transform(service.world.bodies).rotation))


@remote
def set_actor_transform(service: Service, actor: int, place: Transform) -> None:
    if max(map(abs, place.location)) > MAX_DISTANCE:
        raise CallError(f"{tuple(place.location)} lies more than {MAX_DISTANCE:.0f} m from the origin")
    found = service.world.actor(actor)
    if found.row >= 0:
        b = service.world.bodies.rows[found.row]
        (b["x"], b["y"], b["z"]), (b["pitch"], b["yaw"], b["roll"]) = place
        b["yaw"] = math.remainder(place.rotation.yaw, 360.0)
        service.world.moved(found)
    elif found.parent:
        found.offset = place
    else:
        found.place = place


@remote
def set_actor_target_velocity(service: Service, actor: int, velocity: Vector) -> None:
    b = body(service, actor)
    b["vx"], b["vy"], b["vz"] = _limited(velocity)


@remote
def set_actor_target_angular_velocity(service: Service, actor: int, velocity: Vector) -> None:
    body(service, actor)["yaw_rate"] = min(max(velocity.z, -3600.0), 3600.0)


@remote
def enable_actor_constant_velocity(service: Service, actor: int, velocity: Vector) -> None:
    b = body(service, actor)
    b["held"] = True
    b["held_x"], b["held_y"], b["held_z"] = _limited(velocity)


@remote
def disable_actor_constant_velocity(service: Service, actor: int) -> None:
    body(service, actor)["held"] = False


@remote
def add_actor_impulse(service: Service, actor: int, impulse: Vector) -> None:
    """impulse: N s."""
    b = body(service, actor)
    velocity = Vector(
        *(float(b[name]) + push / b["mass"] for name, push in zip(("vx", "vy", "vz"), impulse, strict=True))
    )
    b["vx"], b["vy"], b["vz"] = _limited(velocity)


@remote
def add_actor_force(service: Service, actor: int, force: Vector) -> None:
    """force: N, for one tick."""
    delta = service.settings.fixed_delta or service.world.delta or 0.05
    add_actor_impulse(service, actor, Vector(*(part * delta for part in force)))


@remote
def add_actor_angular_impulse(service: Service, actor: int, impulse: Vector) -> None:
    """impulse: N m s; only the turn about the vertical axis moves a body."""
    b = body(service, actor)
    b["yaw_rate"] = min(max(b["yaw_rate"] + math.degrees(impulse.z / b["inertia"]), -3600.0), 3600.0)


@remote
def add_actor_torque(service: Service, actor: int, torque: Vector) -> None:
    """torque: N m, for one tick."""
    delta = service.settings.fixed_delta or service.world.delta or 0.05
    add_actor_angular_impulse(service, actor, Vector(*(part * delta for part in torque)))


def _limited(velocity: Vector) -> Vector:
    speed = math.sqrt(sum(part * part for part in velocity))
    return Vector(*(part * MAX_SPEED / speed for part in velocity)) if speed > MAX_SPEED else velocity


@remote
def set_actor_simulate_physics(service: Service, actor: int, enabled: bool) -> None:
    b = body(service, actor)
    b["simulated"] = enabled
    if not enabled:
        b["vx"] = b["vy"] = b["vz"] = b["yaw_rate"] = 0.0


@remote
def set_actor_collisions(service: Service, actor: int, enabled: bool) -> None:
    body(service, actor)["collides"] = enabled


@remote
def set_actor_enable_gravity(service: Service, actor: int, enabled: bool) -> None:
    body(service, actor)["gravity"] = enabled


@remote
def get_actor_component_names(service: Service, actor: int) -> list[str]:
    service.world.actor(actor)
    return []
