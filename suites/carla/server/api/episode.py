"""Version, episode, settings, ticks, maps and weather."""

from __future__ import annotations

from typing import Any

from suites.carla.maps import parse
from suites.carla.server.api.recorder import stop_recorder, stop_replayer
from suites.carla.server.api.server import Server
from suites.carla.server.motion import navmesh
from suites.carla.server.protocol import wire
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import LATER, Methods
from suites.carla.server.protocol.streams import WORLD_STREAM
from suites.carla.server.protocol.wire import EpisodeSettings, OpendriveParameters, Weather
from suites.carla.server.sites import site_of
from suites.carla.server.world import MAX_DELTA

METHODS = Methods()
MAP_FOLDER = "Carla/Maps/"


@METHODS.add
def version(server: Server) -> str:
    return server.version.name


@METHODS.add
def get_episode_info(server: Server) -> list[Any]:
    return [server.world.episode, [server.hub.token(WORLD_STREAM)]]


@METHODS.add
def get_sensor_token(server: Server, stream: int) -> list[bytes]:
    if not 0 <= stream < 2**32:
        raise CallError(f"{stream} is no stream id")
    server.hub.expect(stream)
    return [server.hub.token(stream)]


@METHODS.add
def get_episode_settings(server: Server) -> list[Any]:
    server.answered_settings()
    return wire.settings_as_sent(server.settings)


@METHODS.add
def set_episode_settings(server: Server, settings: EpisodeSettings) -> int:
    delta = settings.fixed_delta
    if delta is not None and not 0.0 <= delta <= MAX_DELTA:
        raise CallError(f"fixed_delta_seconds is {delta}; it must lie between 0 (variable) and {MAX_DELTA}")
    if settings.max_substeps < 1 or settings.max_substep_delta <= 0.0:
        raise CallError("max_substeps and max_substep_delta_time must be positive")
    server.world.settings = settings._replace(fixed_delta=delta or None)
    return server.world.frame


@METHODS.add
def tick_cue(server: Server) -> Any:
    assert server.session
    server.request_tick(server.session, server.session.message_id)
    return LATER


@METHODS.add
def get_map_info(server: Server) -> list[Any]:
    points = [[[p.x, p.y, p.z], [p.pitch, p.yaw, p.roll]] for p in server.world.map.spawn_points]
    return [MAP_FOLDER + server.world.map_name, points]


@METHODS.add
def get_map_data(server: Server) -> str:
    return server.world.map.opendrive


@METHODS.add
def get_available_maps(server: Server) -> list[str]:
    return [f"/Game/{MAP_FOLDER}{name}" for name in server.world.sites.names()]


@METHODS.add
def load_new_episode(server: Server, name: str, reset_settings: bool = True, layers: int = 65535) -> None:
    """A recording ends with its episode, and so does the playing of one."""
    server.world.load(name, reset_settings)
    stop_recorder(server)
    stop_replayer(server)


@METHODS.add
def copy_opendrive_to_file(server: Server, opendrive: str, parameters: OpendriveParameters) -> None:
    try:
        server.world.sites.generated = site_of(parse(opendrive))
    except ValueError as error:
        raise CallError(f"this OpenDRIVE cannot be read: {error}") from error


@METHODS.add
def load_map_layer(server: Server, layers: int) -> None:
    """Does nothing: maps have one layer."""


@METHODS.add
def unload_map_layer(server: Server, layers: int) -> None:
    """Does nothing: maps have one layer."""


@METHODS.add
def get_weather_parameters(server: Server) -> Weather:
    return server.world.weather


@METHODS.add
def set_weather_parameters(server: Server, weather: Weather) -> None:
    server.world.weather = weather


@METHODS.add
def get_required_files(server: Server, folder: str = "", download: bool = True) -> list[str]:
    """Names what a client keeps in its cache folder: the mesh that its walkers' controllers walk on."""
    name = navmesh.file_name(server.world.map)
    return [name] if name and folder == "Nav" and server.walker_navigation else []


@METHODS.add
def request_file(server: Server, name: str) -> bytes:
    if name != navmesh.file_name(server.world.map):
        raise CallError(f"{name[:80]!r} is not a file of this server")
    return navmesh.navigation_mesh(server.world.map)


@METHODS.add
def get_navigation_mesh(server: Server) -> bytes:
    return navmesh.navigation_mesh(server.world.map)


@METHODS.add
def get_imui_gravity(server: Server) -> float:
    return 9.81
