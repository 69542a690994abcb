"""The client side of `bench_carla`, a process of its own: `carla_client.py WHAT PORT ...`; prints one JSON object."""

from __future__ import annotations

import json
import queue
import sys
import time
from pathlib import Path
from typing import Any

import carla

DELTA = 0.05


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def connect(port: int, rendering: bool = True) -> tuple[Any, Any]:
    client = carla.Client("127.0.0.1", port)
    client.set_timeout(60.0)
    world = client.reload_world()  # without what an earlier client left
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, DELTA
    settings.no_rendering_mode = not rendering
    world.apply_settings(settings)
    return client, world


def populate(world: Any, count: int, moving: bool) -> tuple[Any, list[Any]]:
    """(the first vehicle, all vehicles), the others driven by the server if they are to move."""
    library, points = world.get_blueprint_library(), world.get_map().get_spawn_points()
    blueprints = [b for b in library.filter("vehicle.*") if b.get_attribute("base_type") == "car"]
    vehicles = [world.spawn_actor(library.find("vehicle.tesla.model3"), points[0])]
    for index in range(4, len(points), 4):
        if len(vehicles) == count:
            break
        blueprint = blueprints[index % len(blueprints)]
        blueprint.set_attribute("driver", "server" if moving else "client")
        blueprint.set_attribute("driver_seed", str(index))
        blueprint.set_attribute("driver_lane_changes", "2")
        actor = world.try_spawn_actor(blueprint, points[index])
        vehicles += [actor] if actor else []
    world.tick()
    for vehicle in vehicles if not moving else []:
        vehicle.set_simulate_physics(False)
    return vehicles[0], vehicles


def camera_of(world: Any, parent: Any, size: int, heard: queue.Queue[Any]) -> Any:
    blueprint = world.get_blueprint_library().find("sensor.camera.rgb")
    for name, value in (("image_size_x", size), ("image_size_y", size), ("fov", 60)):
        blueprint.set_attribute(name, str(value))
    camera = world.spawn_actor(blueprint, carla.Transform(carla.Location(x=1.5, z=1.9)), attach_to=parent)
    camera.listen(heard.put)
    return camera


def ticks(port: str, count: str, vehicles: str, cameras: str, size: str, moving: str) -> dict[str, Any]:
    """Seconds of each step: control, tick, all pictures of that frame, every vehicle's transform and velocity."""
    _, world = connect(int(port), rendering=moving == "1")
    ego, everyone = populate(world, int(vehicles), moving == "1")
    heard: queue.Queue[Any] = queue.Queue()
    sensors = [camera_of(world, ego, int(size), heard) for _ in range(int(cameras))]
    seconds, begin, cpu = [], 0.0, time.process_time()
    for step in range(int(count)):
        if step == min(500, int(count) // 4):
            begin = resident()
        started = time.perf_counter()
        ego.apply_control(carla.VehicleControl(throttle=0.4 + 0.2 * (step % 2)))
        frame = world.tick()
        for _ in sensors:
            image = heard.get(timeout=60.0)
            assert image.frame == frame
            memoryview(image.raw_data)
        for vehicle in everyone:
            vehicle.get_transform()
            vehicle.get_velocity()
        seconds.append(time.perf_counter() - started)
    cpu = time.process_time() - cpu
    for sensor in sensors:
        sensor.stop()
        sensor.destroy()
    return {"seconds": seconds, "grown_mib": resident() - begin, "cpu": cpu}


def first_frame(port: str) -> dict[str, Any]:
    """When the first picture arrived, on the wall clock."""
    _, world = connect(int(port))
    ego, _ = populate(world, 1, moving=False)
    heard: queue.Queue[Any] = queue.Queue()
    camera = camera_of(world, ego, 84, heard)
    world.tick()
    heard.get(timeout=60.0)
    at = time.time()
    camera.stop()
    return {"at": at}


def destroy(client: Any, world: Any, actors: list[Any]) -> None:
    """Destroys, then ticks: `apply_batch_sync(..., True)` would tick with Python's lock held.

    Pictures that wait for their callback then keep the client's threads from receiving the tick's state.
    """
    client.apply_batch_sync([carla.command.DestroyActor(actor) for actor in actors], False)
    world.tick()


def resets(port: str, count: str) -> dict[str, Any]:
    """Seconds of each episode's beginning: the last one's actors destroyed, twelve vehicles and a camera spawned."""
    client, world = connect(int(port))
    alive: list[Any] = []
    seconds = []
    for _ in range(int(count)):
        started = time.perf_counter()
        destroy(client, world, alive)
        ego, everyone = populate(world, 12, moving=True)
        heard: queue.Queue[Any] = queue.Queue()
        camera = camera_of(world, ego, 84, heard)
        world.tick()
        heard.get(timeout=60.0)
        seconds.append(time.perf_counter() - started)
        for _ in range(3):
            world.tick()
        camera.stop()
        alive = [*everyone, camera]
    destroy(client, world, alive)
    return {"seconds": seconds, "actors_left": len(world.get_actors()) - 1}  # less the spectator


if __name__ == "__main__":
    what = {function.__name__: function for function in (ticks, first_frame, resets)}[sys.argv[1]]
    print(json.dumps(what(*sys.argv[2:])))
