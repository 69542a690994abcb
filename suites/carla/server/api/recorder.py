"""Recording, reports on recordings, and replaying them."""

from __future__ import annotations

from typing import Any

from suites.carla.server import recording
from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.recording import Recorder
from suites.carla.server.replay import Replayer

METHODS = Methods()


@METHODS.add
def start_recorder(server: Server, name: str, additional_data: bool = False) -> str:
    stop_recorder(server)
    server.recorder = Recorder(name, server.world)
    return f'Recording on file: "{name}"'


@METHODS.add
def stop_recorder(server: Server) -> None:
    if server.recorder:
        server.recorder.close()
        server.recorder = None


@METHODS.add
def show_recorder_file_info(server: Server, name: str, show_all: bool = False) -> str:
    return recording.info(name, show_all)


@METHODS.add
def show_recorder_collisions(server: Server, name: str, first: int, second: int) -> str:
    """first, second: CARLA's letters of kinds of actors, as numbers."""
    return recording.collisions(name, chr(first & 127), chr(second & 127))


@METHODS.add
def show_recorder_actors_blocked(server: Server, name: str, min_time: float, min_distance: float) -> str:
    """min_distance: in centimetres, as CARLA has it."""
    return recording.blocked(name, min_time, min_distance / 100.0)


@METHODS.add
def replay_file(
    server: Server, name: str, start: float, duration: float, follow: int, sensors: bool = False, offset: Any = None
) -> str:
    """Sensors are not played. What was recorded begins at the next tick."""
    stop_replayer(server, False)
    episode = server.world.episode
    server.replayer = Replayer(name, server.world, start, duration, follow, server.replay_settings)
    if server.world.episode != episode:  # it was recorded on another map
        stop_recorder(server)
    head, begin, end = server.replayer.head, server.replayer.time, server.replayer.end
    return f"Replaying {name}\nMap: {head.map}\nDate: {head.date}\nFrom {begin:g} to {end:g} seconds"


@METHODS.add
def stop_replayer(server: Server, keep_actors: bool = False) -> None:
    if server.replayer:
        server.replayer.stop(server.world, keep_actors)
        server.replayer = None


@METHODS.add
def set_replayer_time_factor(server: Server, factor: float) -> None:
    if not 0.0 <= factor <= 1000.0:
        raise CallError(f"a time factor of {factor}; it must lie between 0 and 1000")
    _set(server, time_factor=factor)


@METHODS.add
def set_replayer_ignore_hero(server: Server, ignore: bool) -> None:
    _set(server, ignore_hero=ignore)


@METHODS.add
def set_replayer_ignore_spectator(server: Server, ignore: bool) -> None:
    _set(server, ignore_spectator=ignore)


def _set(server: Server, **changes: Any) -> None:
    """Changes the settings, also of a recording that is being played."""
    server.replay_settings = server.replay_settings._replace(**changes)
    if server.replayer:
        server.replayer.settings = server.replay_settings
