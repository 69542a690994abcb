"""Traffic lights, and the street lamps that there are none of."""

from __future__ import annotations

from typing import Any

from suites.carla.server.actors import GREEN, OFF, RED, YELLOW, TrafficLight
from suites.carla.server.rpc import CallError, remote
from suites.carla.server.service import Service


def light(service: Service, actor_id: int) -> TrafficLight:
    """The traffic light of that id. Raises CallError."""
    actor = service.world.actor(actor_id)
    if not isinstance(actor, TrafficLight):
        raise CallError(f"actor {actor_id} ({actor.type_id}) is not a traffic light")
    return actor


@remote
def set_traffic_light_state(service: Service, actor: int, state: int) -> None:
    if not RED <= state <= OFF:
        raise CallError(f"{state} is no state of a traffic light (0 red, 1 yellow, 2 green, 3 off)")
    service.world.signals.show(light(service, actor), state)


def _duration(service: Service, actor: int, state: int, seconds: float) -> None:
    if not 0.0 <= seconds <= 1e6:
        raise CallError(f"a traffic light cannot stay {seconds} s in one state")
    light(service, actor).durations[state] = seconds


@remote
def set_traffic_light_green_time(service: Service, actor: int, seconds: float) -> None:
    _duration(service, actor, GREEN, seconds)


@remote
def set_traffic_light_yellow_time(service: Service, actor: int, seconds: float) -> None:
    _duration(service, actor, YELLOW, seconds)


@remote
def set_traffic_light_red_time(service: Service, actor: int, seconds: float) -> None:
    _duration(service, actor, RED, seconds)


@remote
def freeze_traffic_light(service: Service, actor: int, frozen: bool) -> None:
    for member in service.world.signals.group_of(light(service, actor)):
        member.frozen = frozen


@remote
def freeze_all_traffic_lights(service: Service, frozen: bool) -> None:
    for found in service.world.of_kind(TrafficLight):
        found.frozen = frozen


@remote
def reset_traffic_light_group(service: Service, actor: int) -> None:
    service.world.signals.reset(light(service, actor))


@remote
def reset_all_traffic_lights(service: Service) -> None:
    service.world.signals.reset()


@remote
def get_group_traffic_lights(service: Service, actor: int) -> list[int]:
    return [member.id for member in service.world.signals.group_of(light(service, actor))]


@remote
def get_light_boxes(service: Service, actor: int) -> list[Any]:
    return [service.world.box_as_sent(light(service, actor).box)]


@remote
def query_lights_state(service: Service, client: str = "") -> list[Any]:
    return []


@remote
def update_lights_state(service: Service, client: str, lamps: Any, discard: bool = False) -> None:
    """There are no street lamps to switch."""


@remote
def update_day_night_cycle(service: Service, client: str, active: bool) -> None:
    """There are no street lamps to switch."""
