"""Puts what a stage planned into the world: on an embedded server by itself, on a real one with a Traffic Manager."""

from __future__ import annotations

from typing import Any

import carla

from suites.carla.task.stages import Stage, Walk

MANAGER_PORT = 8000
DEFAULT_SPEED = 30.0  # km/h of a vehicle without a wish, under the Traffic Manager
LEFTOVERS = ("sensor.*", "controller.*", "vehicle.*", "walker.*", "static.prop.*")


def populate(client: Any, world: Any, stage: Stage) -> tuple[list[Any], list[Walk]]:
    """Spawns the stage's vehicles and pedestrians in one batch; what finds no room is left out.

    Returns the actors, vehicles first, and the ways of the pedestrians.
    """
    manager = None if stage.embedded else _manager(client, stage)
    commands = [carla.command.SpawnActor(_blueprint(stage, number), v.place) for number, v in enumerate(stage.vehicles)]
    commands += [carla.command.SpawnActor(walker.blueprint, walker.stands) for walker in stage.walkers]
    answers = batch(client, world, commands)
    ids = [0 if answer.error else answer.actor_id for answer in answers]
    actors = {actor.id: actor for actor in world.get_actors([i for i in ids if i])}
    if manager:
        _hand_over(manager, stage, [actors.get(i) for i in ids])
    walking = zip(stage.walkers, ids[len(stage.vehicles) :], strict=True)
    walks = [walker.begin(actors[actor_id]) for walker, actor_id in walking if actor_id]
    return [actors[i] for i in ids if i], walks


def _manager(client: Any, stage: Stage) -> Any:
    manager = client.get_trafficmanager(MANAGER_PORT)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(int(stage.rng.integers(2**31)))
    return manager


def _blueprint(stage: Stage, number: int) -> Any:
    """The blueprint of a planned vehicle; on an embedded server its attributes ask the server to drive it."""
    planned = stage.vehicles[number]
    if stage.embedded and planned.drives:
        planned.blueprint.set_attribute("driver", "server")
        planned.blueprint.set_attribute("driver_speed", f"{planned.kph:.2f}")
        planned.blueprint.set_attribute("driver_lane_changes", f"{planned.changes:.2f}")
        planned.blueprint.set_attribute("driver_seed", str(number))
    return planned.blueprint


def _hand_over(manager: Any, stage: Stage, actors: list[Any]) -> None:
    """Lets the Traffic Manager drive. actors: one for each plan, None where it found no room."""
    for planned, actor in zip(stage.vehicles, actors, strict=False):
        if planned.drives and actor:
            actor.set_autopilot(True, MANAGER_PORT)
            manager.set_desired_speed(actor, planned.kph or DEFAULT_SPEED)
            manager.random_left_lanechange_percentage(actor, planned.changes)
            manager.random_right_lanechange_percentage(actor, planned.changes)


def clear(client: Any, world: Any) -> None:
    """Destroys every vehicle, pedestrian and sensor, those of earlier clients too; sensors are stopped first."""
    left = world.get_actors()
    actors = [actor for kind in LEFTOVERS for actor in left.filter(kind)]
    for actor in actors:
        if isinstance(actor, carla.Sensor) and actor.is_listening():
            actor.stop()
    if actors:
        batch(client, world, [carla.command.DestroyActor(actor) for actor in actors])


def batch(client: Any, world: Any, commands: list[Any]) -> Any:
    """Carries out commands and ticks. The library's own tick would keep Python's lock and starve the sensors."""
    answers = client.apply_batch_sync(commands, False)
    world.tick()
    return answers
