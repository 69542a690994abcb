"""Questions about the scene, and drawing that nobody sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from suites.carla.server.actors import Actor
from suites.carla.server.rpc import CallError, remote
from suites.carla.server.sensors.clouds import labels
from suites.carla.server.service import Service
from suites.carla.server.wire import BoundingBox, Rotation, Vector

ANY = 255
FARTHEST = 1e4  # metres of a ray


def _hits(service: Service, start: Vector, direction: Vector, reach: float) -> list[list[Any]]:
    """Labelled points along a ray, nearest first: [[location, label]...]."""
    size = math.sqrt(sum(part * part for part in direction))
    if size == 0.0:
        raise CallError("the ray has no direction")
    ray = np.array(direction) / size
    world, skip, begin = service.world, -1, 0.0
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


@remote
def cast_ray(service: Service, start: Vector, end: Vector) -> list[Any]:
    direction = Vector(*(b - a for a, b in zip(start, end, strict=True)))
    return _hits(service, start, direction, min(FARTHEST, math.dist(start, end)))


@remote
def project_point(service: Service, start: Vector, direction: Vector, distance: float) -> list[Any]:
    hits = _hits(service, start, direction, min(FARTHEST, max(distance, 0.0)))
    return [True, hits[0]] if hits else [False, [[0.0, 0.0, 0.0], 0]]


@remote
def get_all_level_BBs(service: Service, label: int = ANY) -> list[Any]:
    """The boxes of the map's obstacles and of the actors with that label, in the world."""
    world = service.world
    boxes = []
    for o in world.obstacles:
        if label in (ANY, o["tag"]):
            centre, extent = (Vector(*(float(o[name]) for name in names)) for names in (("x", "y", "z"), _HALF))
            boxes.append(world.box_as_sent(BoundingBox(centre, extent, Rotation(0.0, float(o["yaw"]), 0.0))))
    for actor in world.bodied():
        if label in (ANY, actor.tags[0]):
            boxes.append(world.box_as_sent(_placed(actor, service)))
    return boxes


_HALF = ("half_x", "half_y", "half_z")


def _placed(actor: Actor, service: Service) -> BoundingBox:
    location, rotation = actor.transform(service.world.bodies)
    up = actor.box.location.z
    return actor.box._replace(location=Vector(location.x, location.y, location.z + up), rotation=rotation)


@remote
def get_environment_objects(service: Service, label: int = ANY) -> list[Any]:
    return []


@remote
def enable_environment_objects(service: Service, ids: Any, enabled: bool) -> None:
    """There are none to switch."""


@remote
def get_names_of_all_objects(service: Service) -> list[str]:
    return []


@remote
def draw_debug_shape(service: Service, shape: Any) -> None:
    """Accepted; pictures do not show it."""


@remote
def clear_debug_shape(service: Service) -> None:
    """Nothing is drawn."""


@remote
def clear_debug_string(service: Service) -> None:
    """Nothing is drawn."""
