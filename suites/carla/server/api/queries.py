"""Questions about the scene; and debug drawing, which is accepted and not shown."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.wire import BoundingBox, Rotation, Vector
from suites.carla.server.sensors.clouds import labels
from suites.carla.server.things.actors import Actor

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
    """The boxes of the map's obstacles and of the actors with that label, in the world."""
    world = server.world
    boxes = []
    for o in world.obstacles:
        if label in (ANY, o["tag"]):
            centre, extent = (Vector(*(float(o[name]) for name in names)) for names in (("x", "y", "z"), _HALF))
            boxes.append(world.box_as_sent(BoundingBox(centre, extent, Rotation(0.0, float(o["yaw"]), 0.0))))
    for actor in world.bodied():
        if label in (ANY, actor.tags[0]):
            boxes.append(world.box_as_sent(_placed(actor, server)))
    return boxes


_HALF = ("half_x", "half_y", "half_z")


def _placed(actor: Actor, server: Server) -> BoundingBox:
    location, rotation = actor.transform(server.world.bodies)
    up = actor.box.location.z
    return actor.box._replace(location=Vector(location.x, location.y, location.z + up), rotation=rotation)


@METHODS.add
def get_environment_objects(server: Server, label: int = ANY) -> list[Any]:
    return []


@METHODS.add
def enable_environment_objects(server: Server, ids: Any, enabled: bool) -> None:
    """Does nothing: there are none to switch."""


@METHODS.add
def get_names_of_all_objects(server: Server) -> list[str]:
    return []


@METHODS.add
def draw_debug_shape(server: Server, shape: Any) -> None:
    """Accepted; pictures do not show it."""


@METHODS.add
def clear_debug_shape(server: Server) -> None:
    """Does nothing: nothing is drawn."""


@METHODS.add
def clear_debug_string(server: Server) -> None:
    """Does nothing: nothing is drawn."""
