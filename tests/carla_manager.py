"""Vehicles under the client's Traffic Manager: run in a process of its own, for it can hang or end the process.

    carla_manager.py PORT COUNT SECONDS [mixed]

Prints one JSON object: `pairs` that collided (with the other 0 for a part of the map), mean `speed` in m/s, the longest
stand in seconds, and how many vehicles the manager `removed`, as it does with those that stand for 90 s.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any

import carla

DELTA = 0.05
LOOK = 10  # ticks between looks at the vehicles
SEED = 0
STANDING = 0.2  # metres moved between two looks, at most
START = 200  # the frame that vehicles appear in: at its own pace a server has made more or fewer by its load


def main(port: int, count: int, seconds: float, mixed: bool) -> dict[str, Any]:
    client = carla.Client("127.0.0.1", port)
    client.set_timeout(60.0)
    world = client.get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, DELTA
    world.apply_settings(settings)
    manager = client.get_trafficmanager(0)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(SEED)
    while world.get_snapshot().frame < START:
        world.tick()
    vehicles = spawn(world, count, mixed)
    world.tick()
    hits: list[tuple[int, int]] = []
    blueprint = world.get_blueprint_library().find("sensor.other.collision")
    sensors = [world.spawn_actor(blueprint, carla.Transform(), attach_to=vehicle) for vehicle in vehicles]
    for sensor in sensors:  # those that nothing refers to fall silent
        sensor.listen(lambda event: hits.append((event.actor.id, event.other_actor.id if event.other_actor else 0)))
    for vehicle in vehicles:
        vehicle.set_autopilot(True, manager.get_port())
    travelled, stood = watch(world, [vehicle.id for vehicle in vehicles], round(seconds / DELTA))
    time.sleep(0.3)  # for the last events
    kinds = {vehicle.id: vehicle.attributes["base_type"] for vehicle in vehicles} | {0: "map"}
    pairs = {(min(pair), max(pair)) for pair in hits}
    left = {actor.id for actor in world.get_actors()}
    return {
        "spawned": len(vehicles),
        "pairs": sorted(sorted(kinds[actor] for actor in pair) for pair in pairs),
        "speed": sum(travelled.values()) / seconds / len(vehicles),
        "stood": max(stood.values()),
        "removed": len(set(kinds) - {0} - left),
    }


def spawn(world: Any, count: int, mixed: bool) -> list[Any]:
    """Vehicles that the client drives, at spawn points drawn by chance."""
    chance = random.Random(SEED)
    points = world.get_map().get_spawn_points()
    chance.shuffle(points)
    blueprints = [
        blueprint
        for blueprint in world.get_blueprint_library().filter("vehicle.*")
        if mixed or blueprint.get_attribute("base_type").as_str() == "car"
    ]
    found: list[Any] = []
    for point in points:
        vehicle = world.try_spawn_actor(chance.choice(blueprints), point) if len(found) < count else None
        found += [vehicle] if vehicle else []
    return found


def watch(world: Any, ids: list[int], ticks: int) -> tuple[dict[int, float], dict[int, float]]:
    """(metres travelled, seconds of the longest stand) of each vehicle."""
    before: dict[int, Any] = {}
    travelled, standing, longest = (dict.fromkeys(ids, 0.0) for _ in range(3))
    for tick in range(ticks):
        time.sleep(0.001)  # leaves the manager's thread time to sleep: it may otherwise miss its wake-up
        world.tick()
        if tick % LOOK:
            continue
        snapshot = world.get_snapshot()
        for actor in ids:
            found = snapshot.find(actor)
            if not found:
                continue
            here = found.get_transform().location
            moved = here.distance(before.get(actor, here))
            before[actor] = here
            travelled[actor] += moved
            standing[actor] = standing[actor] + LOOK * DELTA if moved < STANDING else 0.0
            longest[actor] = max(longest[actor], standing[actor])
    return travelled, longest


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), "mixed" in sys.argv)), flush=True)
    os._exit(0)  # sensors and a manager that still live can hang an orderly end
