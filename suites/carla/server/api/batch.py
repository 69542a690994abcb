"""Several commands in one request; each has a result of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from suites.carla.server.api import actors, lights, vehicles, walkers
from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Method, Methods, Raw, failure, success
from suites.carla.server.protocol.wire import (
    ActorDescription,
    BadArgumentError,
    Transform,
    reader,
)

METHODS = Methods()
MAX_COMMANDS = 20_000
SPAWN = 0  # the command that carries others with it


def set_light_flags(server: Server, actor: int, flags: int) -> None:
    """Switches a vehicle's lamps; in a batch the flags come without their struct."""
    vehicles.vehicle(server, actor).lights = flags & 0xFFFFFFFF


def accept(server: Server, actor: int) -> None:
    """Accepts a command whose effect is the client's own."""
    server.world.actor(actor)


_FUNCTIONS: dict[int, Callable[..., Any]] = {
    1: actors.destroy_actor,
    2: vehicles.apply_control_to_vehicle,
    3: vehicles.apply_ackermann_control_to_vehicle,
    4: walkers.apply_control_to_walker,
    5: vehicles.apply_physics_control,
    6: actors.set_actor_transform,
    7: walkers.set_walker_state,
    8: actors.set_actor_target_velocity,
    9: actors.set_actor_target_angular_velocity,
    10: actors.add_actor_impulse,
    11: actors.add_actor_force,
    12: actors.add_actor_angular_impulse,
    13: actors.add_actor_torque,
    14: actors.set_actor_simulate_physics,
    15: actors.set_actor_enable_gravity,
    16: accept,  # SetAutopilot
    17: accept,  # ShowDebugTelemetry
    18: set_light_flags,
    19: actors.set_actor_location,
    21: lights.set_traffic_light_state,
}
COMMANDS = {index: Method(function) for index, function in _FUNCTIONS.items()}


@METHODS.add
def apply_batch(server: Server, commands: Any, do_tick: bool = False) -> Raw:
    if not isinstance(commands, list) or len(commands) > MAX_COMMANDS:
        raise CallError(f"a batch is an array of at most {MAX_COMMANDS} commands")
    results = Raw(_run(server, command) for command in commands)
    if do_tick and server.settings.synchronous:
        server.request_tick(None)
    return results


def _run(server: Server, command: Any) -> Any:
    try:
        index, body = command[0]
        if index == SPAWN:
            return success(_spawn(server, body))
        if index not in COMMANDS:
            raise CallError(f"command {index} is not supported by this server")
        COMMANDS[index](server, body)
        return success(body[0])
    except (CallError, BadArgumentError) as error:
        return failure(str(error))
    except (TypeError, ValueError, IndexError) as error:
        return failure(f"a malformed command: {error}")


def _spawn(server: Server, body: list[Any]) -> int:
    """0.9.16 sends [description, place, parent, attachment, socket, commands], 0.9.15 leaves out the middle two."""
    description, place = reader(ActorDescription)(body[0]), reader(Transform)(body[1])
    parent_id = reader(int | None)(body[2])
    parent = None if parent_id is None else server.world.actor(parent_id)
    actor = actors.new_actor(server, description, place, parent)
    follow_up = body[5] if server.version.spawn_has_socket else body[3]
    for command in follow_up:
        _index, arguments = command[0]
        arguments[0] = actor.id  # the client could not know it yet
        _run(server, command)
    return actor.id
