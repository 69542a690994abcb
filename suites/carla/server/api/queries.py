"""Questions about the scene; and debug drawing, which is accepted and not shown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.wire import BoundingBox, Vector
from suites.carla.server.sensors.clouds import labels
from suites.carla.server.things.actors import Actor, TrafficLight
from suites.carla.server.things.signals import head_of

METHODS = Methods()
ANY = 255
FARTHEST = 1e4  # metres of a ray


def _hits(server: Server, start: Vector, direction: Vector, reach: float) -> list[list[Any]]:
    """Labelled points along a ray, nearest first: [[location, label]...]."""
    size = math.sqrt(sum(part * part for part in direction))
    if size == 0.0:
        raise CallError("the ray has no direction")
    ray = np.array(direction) / size
    world, skip, begin = server.world, -1, 0.0
    found: list[list[Any]] = []
    while begin < reach and len(found) < 32:
        origin = np.array(start) + ray * begin
        hit = world.cast_all(origin, ray[None], reach - begin, skip)
        if hit[0, 1] == -1:
            break
        point = origin + ray * hit[0, 0]
        found.append([[float(part) for part in point], int(labels(world, hit)[1][0])])
        skip = int(hit[0, 1])
        begin += float(hit[0, 0]) + 0.01
    return found


@METHODS.add
def cast_ray(server: Server, start: Vector, end: Vector) -> list[Any]:
    direction = Vector(*(b - a for a, b in zip(start, end, strict=True)))
    return _hits(server, start, direction, min(FARTHEST, math.dist(start, end)))


@METHODS.add
def project_point(server: Server, start: Vector, direction: Vector, distance: float) -> list[Any]:
    hits = _hits(server, start, direction, min(FARTHEST, max(distance, 0.0)))
    return [True, hits[0]] if hits else [False, [[0.0, 0.0, 0.0], 0]]


@METHODS.add
def get_all_level_BBs(server: Server, label: int = ANY) -> list[Any]:
    """The boxes of what stands on the map and of the actors with that label, in the world."""
    world = server.world
    boxes = [thing.box for thing in world.things if label in (ANY, thing.tag)]
    boxes += [head_of(light) for light in world.of_kind(TrafficLight) if label in (ANY, light.tags[0])]
    boxes += [_placed(actor, server) for actor in world.bodied() if label in (ANY, actor.tags[0])]
    return [world.box_as_sent(box) for box in boxes]


def _placed(actor: Actor, server: Server) -> BoundingBox:
    location, rotation = actor.transform(server.world.bodies)
    up = actor.box.location.z
    return actor.box._replace(location=Vector(location.x, location.y, location.z + up), rotation=rotation)


@METHODS.add
def get_environment_objects(server: Server, label: int = ANY) -> list[Any]:
    """What stands on the map with that label, and its traffic lights; their ids do not change while the map stays."""
    world = server.world
    found = [thing for thing in world.things if label in (ANY, thing.tag)]
    objects = [
        [[thing.foot, thing.box.rotation], world.box_as_sent(thing.box), thing.id, thing.name, thing.tag]
        for thing in found
    ]
    for number, light in enumerate(world.of_kind(TrafficLight), len(world.things) + 1):
        if label in (ANY, light.tags[0]):
            name = f"TrafficLight_{light.sign_id}"
            objects.append([light.place, world.box_as_sent(head_of(light)), number, name, light.tags[0]])
    return objects


@METHODS.add
def enable_environment_objects(server: Server, ids: Any, enabled: bool) -> None:
    """Does nothing: what stands on the map stays in sight."""


@METHODS.add
def get_names_of_all_objects(server: Server) -> list[str]:
    return [thing.name for thing in server.world.things]


@METHODS.add
def draw_debug_shape(server: Server, shape: Any) -> None:
    """Accepted; pictures do not show it."""


@METHODS.add
def clear_debug_shape(server: Server) -> None:
    """Does nothing: nothing is drawn."""


@METHODS.add
def clear_debug_string(server: Server) -> None:
    """Does nothing: nothing is drawn."""
