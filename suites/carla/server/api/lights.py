"""Traffic lights."""

from __future__ import annotations

from typing import Any

from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.things.actors import GREEN, OFF, RED, YELLOW, TrafficLight
from suites.carla.server.things.signals import head_of

METHODS = Methods()


def light(server: Server, actor_id: int) -> TrafficLight:
    """The traffic light of that id. Raises CallError."""
    actor = server.world.actor(actor_id)
    if not isinstance(actor, TrafficLight):
        raise CallError(f"actor {actor_id} ({actor.type_id}) is not a traffic light")
    return actor


@METHODS.add
def set_traffic_light_state(server: Server, actor: int, state: int) -> None:
    if not RED <= state <= OFF:
        raise CallError(f"{state} is no state of a traffic light (0 red, 1 yellow, 2 green, 3 off)")
    server.world.signals.show(light(server, actor), state)


def _duration(server: Server, actor: int, state: int, seconds: float) -> None:
    if not 0.0 <= seconds <= 1e6:
        raise CallError(f"a traffic light cannot stay {seconds} s in one state")
    light(server, actor).durations[state] = seconds


@METHODS.add
def set_traffic_light_green_time(server: Server, actor: int, seconds: float) -> None:
    _duration(server, actor, GREEN, seconds)


@METHODS.add
def set_traffic_light_yellow_time(server: Server, actor: int, seconds: float) -> None:
    _duration(server, actor, YELLOW, seconds)


@METHODS.add
def set_traffic_light_red_time(server: Server, actor: int, seconds: float) -> None:
    _duration(server, actor, RED, seconds)


@METHODS.add
def freeze_traffic_light(server: Server, actor: int, frozen: bool) -> None:
    for member in server.world.signals.group_of(light(server, actor)):
        member.frozen = frozen


@METHODS.add
def freeze_all_traffic_lights(server: Server, frozen: bool) -> None:
    for found in server.world.of_kind(TrafficLight):
        found.frozen = frozen


@METHODS.add
def reset_traffic_light_group(server: Server, actor: int) -> None:
    server.world.signals.reset(light(server, actor))


@METHODS.add
def reset_all_traffic_lights(server: Server) -> None:
    server.world.signals.reset()


@METHODS.add
def get_group_traffic_lights(server: Server, actor: int) -> list[int]:
    return [member.id for member in server.world.signals.group_of(light(server, actor))]


@METHODS.add
def get_light_boxes(server: Server, actor: int) -> list[Any]:
    """The box of the lamps, in the world."""
    return [server.world.box_as_sent(head_of(light(server, actor)))]
