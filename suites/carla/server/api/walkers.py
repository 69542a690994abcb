"""Pedestrians."""

from __future__ import annotations

import math
from typing import Any

from suites.carla.server.api.actors import set_actor_transform
from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.wire import Rotation, Transform, Vector, WalkerControl
from suites.carla.server.skeleton import skeleton
from suites.carla.server.things.actors import Walker

METHODS = Methods()
MAX_SPEED = 15.0  # m/s
LED_SECONDS = 0.25  # of the world for which a walker goes on without word from its controller


def walker(server: Server, actor_id: int) -> Walker:
    """The walker of that id. Raises CallError."""
    actor = server.world.actor(actor_id)
    if not isinstance(actor, Walker):
        raise CallError(f"actor {actor_id} ({actor.type_id}) is not a walker")
    return actor


@METHODS.add
def apply_control_to_walker(server: Server, actor: int, control: WalkerControl) -> None:
    """Holds until the next one. The direction is horizontal; a walker faces where it goes."""
    found = walker(server, actor)
    found.control, found.led_until = control, math.inf
    b = server.world.bodies.rows[found.row]
    size = math.hypot(control.direction.x, control.direction.y)
    b["walk_x"], b["walk_y"] = (control.direction.x / size, control.direction.y / size) if size > 0.0 else (0.0, 0.0)
    b["walk_speed"] = min(max(control.speed, 0.0), MAX_SPEED) if size > 0.0 else 0.0
    b["jump"] = control.jump


@METHODS.add
def set_walker_state(server: Server, actor: int, place: Transform, speed: float) -> None:
    """Puts a walker where the client's controller says that its feet are; controllers send this every tick.

    Between two of these it walks on at that speed; when they end, it stops. One that lies on the ground stays there.
    """
    found = walker(server, actor)
    b = server.world.bodies.rows[found.row]
    if b["down"] > 0.0:
        return
    yaw = math.radians(place.rotation.yaw)
    ahead = Vector(math.cos(yaw), math.sin(yaw), 0.0)
    x, y, _ = place.location
    feet = server.world.map.height(x, y)
    standing = Vector(x, y, feet + b["stand"])
    set_actor_transform(server, actor, Transform(standing, Rotation(0.0, place.rotation.yaw, 0.0)))
    apply_control_to_walker(server, actor, WalkerControl(ahead, speed))
    found.led_until = server.world.time + LED_SECONDS


@METHODS.add
def set_actor_dead(server: Server, actor: int) -> None:
    """The walker falls and stays down."""
    found = walker(server, actor)
    server.world.bodies.rows[found.row]["down"] = math.inf


@METHODS.add
def get_bones_transform(server: Server, actor: int) -> list[Any]:
    """Bones that swing as it walks; one that lies on the ground keeps them upright."""
    found = walker(server, actor)
    b = server.world.bodies.rows[found.row]
    place = found.transform(server.world.bodies)
    return [skeleton(place, 2.0 * float(b["half_z"]), float(b["travelled"]))]


@METHODS.add
def set_bones_transform(server: Server, actor: int, bones: Any) -> None:
    """Accepted; walkers keep their own gait."""
    walker(server, actor)


@METHODS.add
def blend_pose(server: Server, actor: int, blend: float) -> None:
    """Accepted; walkers keep their own gait."""
    walker(server, actor)


@METHODS.add
def get_pose_from_animation(server: Server, actor: int) -> None:
    """Accepted; walkers keep their own gait."""
    walker(server, actor)
