"""Blueprints, spawning, placing, pushing and destroying."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from suites.carla.server.api.server import Server
from suites.carla.server.protocol.codec import Packed, pack
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.versions import Version
from suites.carla.server.protocol.wire import ActorDescription, BoundingBox, Transform, Vector
from suites.carla.server.spawning import MAX_DISTANCE, spawn
from suites.carla.server.things.actors import Actor
from suites.carla.server.things.blueprints import BLUEPRINTS

METHODS = Methods()
MAX_ACTORS = 2000
MAX_SPEED = 200.0  # m/s


@cache
def _definitions(version: Version) -> Packed:
    known = (blueprint for blueprint in BLUEPRINTS.values() if blueprint.id not in version.lacks)
    return Packed(pack([blueprint.as_sent(version) for blueprint in known]))


@METHODS.add
def get_actor_definitions(server: Server) -> Packed:
    return _definitions(server.version)


@METHODS.add
def get_spectator(server: Server) -> list[Any]:
    return server.world.as_sent(server.world.spectator)


@METHODS.add
def get_actors_by_id(server: Server, ids: tuple[int, ...]) -> list[Any]:
    world = server.world
    return [world.as_sent(world.actors[i]) for i in ids if i in world.actors]


@METHODS.add
def spawn_actor(server: Server, description: ActorDescription, place: Transform) -> list[Any]:
    return server.world.as_sent(new_actor(server, description, place, None))


@METHODS.add
def spawn_actor_with_parent(
    server: Server,
    description: ActorDescription,
    place: Transform,
    parent: int,
    attachment: int = 0,
    socket: str = "",
) -> list[Any]:
    """All kinds of attachment are rigid: a camera on a spring arm does not swing."""
    return server.world.as_sent(new_actor(server, description, place, server.world.actor(parent)))


def new_actor(server: Server, description: ActorDescription, place: Transform, parent: Actor | None) -> Actor:
    """Spawns an actor. Raises CallError, also when there are `MAX_ACTORS` already."""
    if len(server.world.actors) >= MAX_ACTORS:
        raise CallError(f"Spawn failed: there are {MAX_ACTORS} actors already")
    return spawn(server.world, description, place, parent, server.hub.new_stream)


@METHODS.add
def destroy_actor(server: Server, actor: int) -> bool:
    server.world.destroy(actor)
    return True


@METHODS.add
def get_actor_bounding_box(server: Server, actor: int) -> list[Any]:
    """Returns an empty box for an unknown actor: an error would kill a client whose Traffic Manager asks."""
    found = server.world.actors.get(actor)
    return server.world.box_as_sent(found.box if found else BoundingBox())


def body(server: Server, actor_id: int) -> Any:
    """The row of an actor in the table of bodies. Raises CallError for an actor without one."""
    actor = server.world.actor(actor_id)
    if actor.row < 0:
        raise CallError(f"actor {actor_id} ({actor.type_id}) has no body")
    return server.world.bodies.rows[actor.row]


@METHODS.add
def set_actor_location(server: Server, actor: int, location: Vector) -> None:
    found = server.world.actor(actor)
    set_actor_transform(server, actor, Transform(location, found.transform(server.world.bodies).rotation))


@METHODS.add
def set_actor_transform(server: Server, actor: int, place: Transform) -> None:
    if max(map(abs, place.location)) > MAX_DISTANCE:
        raise CallError(f"{tuple(place.location)} lies more than {MAX_DISTANCE:.0f} m from the origin")
    found = server.world.actor(actor)
    if found.row >= 0:
        b = server.world.bodies.rows[found.row]
        (b["x"], b["y"], b["z"]), (b["pitch"], b["yaw"], b["roll"]) = place
        b["yaw"] = math.remainder(place.rotation.yaw, 360.0)
        server.world.moved(found)
    elif found.parent:
        found.offset = place
    else:
        found.place = place


@METHODS.add
def set_actor_target_velocity(server: Server, actor: int, velocity: Vector) -> None:
    b = body(server, actor)
    b["vx"], b["vy"], b["vz"] = _limited(velocity)


@METHODS.add
def set_actor_target_angular_velocity(server: Server, actor: int, velocity: Vector) -> None:
    body(server, actor)["yaw_rate"] = min(max(velocity.z, -3600.0), 3600.0)


@METHODS.add
def enable_actor_constant_velocity(server: Server, actor: int, velocity: Vector) -> None:
    b = body(server, actor)
    b["held"] = True
    b["held_x"], b["held_y"], b["held_z"] = _limited(velocity)


@METHODS.add
def disable_actor_constant_velocity(server: Server, actor: int) -> None:
    body(server, actor)["held"] = False


@METHODS.add
def add_actor_impulse(server: Server, actor: int, impulse: Vector) -> None:
    """Adds an impulse in N s."""
    b = body(server, actor)
    velocity = Vector(
        *(float(b[name]) + push / b["mass"] for name, push in zip(("vx", "vy", "vz"), impulse, strict=True))
    )
    b["vx"], b["vy"], b["vz"] = _limited(velocity)


@METHODS.add
def add_actor_force(server: Server, actor: int, force: Vector) -> None:
    """Applies a force in N for one tick."""
    delta = server.settings.fixed_delta or server.world.delta or 0.05
    add_actor_impulse(server, actor, Vector(*(part * delta for part in force)))


@METHODS.add
def add_actor_angular_impulse(server: Server, actor: int, impulse: Vector) -> None:
    """Adds an impulse in N m s; only its turn about the vertical axis moves a body."""
    b = body(server, actor)
    b["yaw_rate"] = min(max(b["yaw_rate"] + math.degrees(impulse.z / b["inertia"]), -3600.0), 3600.0)


@METHODS.add
def add_actor_torque(server: Server, actor: int, torque: Vector) -> None:
    """Applies a torque in N m for one tick."""
    delta = server.settings.fixed_delta or server.world.delta or 0.05
    add_actor_angular_impulse(server, actor, Vector(*(part * delta for part in torque)))


def _limited(velocity: Vector) -> Vector:
    speed = math.sqrt(sum(part * part for part in velocity))
    return Vector(*(part * MAX_SPEED / speed for part in velocity)) if speed > MAX_SPEED else velocity


@METHODS.add
def set_actor_simulate_physics(server: Server, actor: int, enabled: bool) -> None:
    b = body(server, actor)
    b["simulated"] = enabled
    if not enabled:
        b["vx"] = b["vy"] = b["vz"] = b["yaw_rate"] = 0.0


@METHODS.add
def set_actor_collisions(server: Server, actor: int, enabled: bool) -> None:
    body(server, actor)["collides"] = enabled


@METHODS.add
def set_actor_enable_gravity(server: Server, actor: int, enabled: bool) -> None:
    body(server, actor)["gravity"] = enabled


@METHODS.add
def get_actor_component_names(server: Server, actor: int) -> list[str]:
    server.world.actor(actor)
    return []
