"""Worlds without a server, for tests of what happens in them."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

from suites.carla.server.protocol.versions import version
from suites.carla.server.protocol.wire import (
    ActorDescription,
    AttributeValue,
    Rotation,
    Transform,
    Vector,
    VehicleControl,
)
from suites.carla.server.spawning import spawn
from suites.carla.server.things.geometry import compose
from suites.carla.server.world import World

DELTA = 0.05
_streams = itertools.count(2)


@cache
def _world(map_name: str) -> World:
    return World(version("0.9.16"), map_name, lambda stream: bytes(24))


def fresh(map_name: str = "highway") -> World:
    """A new episode on a map; the map itself is shared."""
    world = _world(map_name)
    world.load("", reset_settings=True)
    return world


def place(world: World, index: int = 0, ahead: float = 0.0) -> Transform:
    """A spawn point, some metres further on."""
    pose = world.map.spawn_points[index]
    transform = Transform(Vector(pose.x, pose.y, pose.z), Rotation(pose.pitch, pose.yaw, pose.roll))
    return compose(transform, Transform(Vector(ahead, 0.0, 0.0)))


def put(world: World, type_id: str, at: Transform, parent: Any = None, **attributes: object) -> Any:
    """Spawns an actor."""
    values = tuple(AttributeValue(name, 0, str(value)) for name, value in attributes.items())
    return spawn(world, ActorDescription(0, type_id, values), at, parent, lambda: next(_streams))


def drive(world: World, vehicle: Any, ticks: int, **control: Any) -> Any:
    """Applies a control for some ticks; returns the vehicle's row."""
    world.control(vehicle, VehicleControl(**control))
    for _ in range(ticks):
        world.advance(DELTA)
    return row(world, vehicle)


def row(world: World, actor: Any) -> Any:
    return world.bodies.rows[actor.row]


def speed(world: World, actor: Any) -> float:
    b = row(world, actor)
    return float((b["vx"] ** 2 + b["vy"] ** 2) ** 0.5)
