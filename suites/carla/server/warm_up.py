"""Compiles everything before the first client connects: on a new installation that takes longer than clients wait."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Iterator

from suites.carla.maps.jit import KERNELS
from suites.carla.server import pictures
from suites.carla.server.protocol.wire import ActorDescription, AttributeValue, Rotation, Transform, Vector
from suites.carla.server.sensors import SENSOR_CLASSES, Camera, Sensor
from suites.carla.server.spawning import spawn
from suites.carla.server.world import World

_DRIVEN = (AttributeValue("driver", 0, "server"), AttributeValue("driver_lane_changes", 0, "1000"))
PROGRESS_EVERY = 5.0  # seconds between lines of progress, the first of which a warm start does not live to see
_SMALL = (AttributeValue("image_size_x", 0, "8"), AttributeValue("image_size_y", 0, "8"))


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Says on standard error how far the compilation in the block has come, when it takes longer than a moment."""
    begun, done = time.monotonic(), threading.Event()

    def tell() -> None:
        while not done.wait(PROGRESS_EVERY):
            ready = sum(bool(kernel.signatures) for kernel in KERNELS)
            seconds = time.monotonic() - begun
            line = f"compiling, once for this version: {ready} of {len(KERNELS)} kernels after {seconds:.0f} s"
            print(line, file=sys.stderr, flush=True)

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def warm_up(world: World) -> None:
    """Runs a little of everything that is compiled, then begins the episode anew."""
    streams = itertools.count(1)

    def put(type_id: str, index: int, *attributes: AttributeValue) -> None:
        pose = world.map.spawn_points[index % len(world.map.spawn_points)]
        place = Transform(Vector(pose.x, pose.y, pose.z), Rotation(pose.pitch, pose.yaw, pose.roll))
        spawn(world, ActorDescription(0, type_id, attributes), place, None, lambda: next(streams))

    put("vehicle.tesla.model3", 0, *_DRIVEN)
    put("walker.pedestrian.0001", len(world.map.spawn_points) // 2)
    for type_id in (name for name in SENSOR_CLASSES if name not in world.version.lacks):
        put(type_id, 0, *(_SMALL if "camera" in type_id else ()))
    for _ in range(3):
        world.advance(0.05)
    for sensor in world.of_kind(Sensor):
        if not isinstance(sensor, Camera):
            list(sensor.measure(world))
    pictures.take(world, list(world.of_kind(Camera)))
    world.load("", reset_settings=True)
