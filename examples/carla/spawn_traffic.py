"""Fill a CARLA map with vehicles and pedestrians, let them go for a while, and tidy up.

    covr-bench carla serve --map street &
    python examples/carla/spawn_traffic.py --vehicles 12 --walkers 8 --seconds 20

Runs unchanged against a real server. There the client's Traffic Manager drives the vehicles; the embedded server
drives them itself (its vehicle blueprints have the attribute `driver`).
"""

from __future__ import annotations

import argparse
import random

import carla

MANAGER_PORT = 8000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2000)
    parser.add_argument("--vehicles", type=int, default=12)
    parser.add_argument("--walkers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of simulated time")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    client = carla.Client(arguments.host, arguments.port)
    client.set_timeout(20.0)
    world = client.get_world()
    before = world.get_settings()
    rng = random.Random(arguments.seed)
    spawned: list[int] = []
    try:
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        spawned += spawn_vehicles(client, world, arguments.vehicles, rng)
        walkers = spawn_walkers(client, world, arguments.walkers, rng)
        spawned += walkers
        for step in range(int(arguments.seconds / 0.05)):
            if step % 60 == 0:
                send_walkers_off(client, walkers, rng)
            world.tick()
        speeds = [actor.get_velocity().length() for actor in world.get_actors(spawned)]
        print(f"{len(spawned) - len(walkers)} vehicles, {len(walkers)} walkers, {sum(v > 0.1 for v in speeds)} moving")
    finally:
        client.apply_batch_sync([carla.command.DestroyActor(actor) for actor in spawned], True)
        world.apply_settings(before)


def spawn_vehicles(client: carla.Client, world: carla.World, count: int, rng: random.Random) -> list[int]:
    """Ids of up to `count` vehicles at random spawn points, each driven by itself."""
    points = world.get_map().get_spawn_points()
    rng.shuffle(points)
    blueprints = [
        b for b in world.get_blueprint_library().filter("vehicle.*") if int(b.get_attribute("number_of_wheels")) == 4
    ]
    commands = []
    for number, point in enumerate(points[:count]):
        blueprint = rng.choice(blueprints)
        if blueprint.has_attribute("color"):
            blueprint.set_attribute("color", rng.choice(blueprint.get_attribute("color").recommended_values))
        command = carla.command.SpawnActor(blueprint, point)
        if blueprint.has_attribute("driver"):
            blueprint.set_attribute("driver", "server")
            blueprint.set_attribute("driver_seed", str(number))
            command = carla.command.SpawnActor(blueprint, point)
        else:
            client.get_trafficmanager(MANAGER_PORT).set_synchronous_mode(True)
            command = command.then(carla.command.SetAutopilot(carla.command.FutureActor, True, MANAGER_PORT))
        commands.append(command)
    return [answer.actor_id for answer in client.apply_batch_sync(commands, True) if not answer.error]


def spawn_walkers(client: carla.Client, world: carla.World, count: int, rng: random.Random) -> list[int]:
    """Ids of up to `count` walkers beside the roads."""
    blueprints = world.get_blueprint_library().filter("walker.pedestrian.*")
    points = world.get_map().get_spawn_points()
    commands = []
    for point in rng.sample(points, min(count, len(points))):
        blueprint = rng.choice(blueprints)
        if blueprint.has_attribute("is_invincible"):
            blueprint.set_attribute("is_invincible", "false")
        place = point.location + carla.Location(z=1.0) + 6.0 * point.get_right_vector()
        commands.append(carla.command.SpawnActor(blueprint, carla.Transform(place, point.rotation)))
    return [answer.actor_id for answer in client.apply_batch_sync(commands, True) if not answer.error]


def send_walkers_off(client: carla.Client, walkers: list[int], rng: random.Random) -> None:
    """A new direction for everyone."""
    controls = []
    for walker in walkers:
        direction = carla.Vector3D(rng.uniform(-1, 1), rng.uniform(-1, 1), 0.0)
        controls.append(carla.command.ApplyWalkerControl(walker, carla.WalkerControl(direction, rng.uniform(0.8, 1.8))))
    client.apply_batch(controls)


if __name__ == "__main__":
    main()
