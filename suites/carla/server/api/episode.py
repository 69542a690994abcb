"""Version, episode, settings, ticks, maps and weather."""

from __future__ import annotations

from typing import Any

from suites.carla.maps import MAPS, parse
from suites.carla.server import navmesh, wire
from suites.carla.server.rpc import LATER, CallError, remote
from suites.carla.server.service import Service
from suites.carla.server.streams import WORLD_STREAM
from suites.carla.server.wire import EpisodeSettings, OpendriveParameters, Weather
from suites.carla.server.world import MAX_DELTA, site_of

MAP_FOLDER = "Carla/Maps/"


@remote
def version(service: Service) -> str:
    return service.version.name


@remote
def get_episode_info(service: Service) -> list[Any]:
    return [service.world.episode, [service.hub.token(WORLD_STREAM)]]


@remote
def get_sensor_token(service: Service, stream: int) -> list[bytes]:
    if not 0 <= stream < 2**32:
        raise CallError(f"{stream} is no stream id")
    service.hub.expect(stream)
    return [service.hub.token(stream)]


@remote
def get_episode_settings(service: Service) -> list[Any]:
    service.answered_settings()
    return wire.settings_as_sent(service.settings)


@remote
def set_episode_settings(service: Service, settings: EpisodeSettings) -> int:
    delta = settings.fixed_delta
    if delta is not None and not 0.0 <= delta <= MAX_DELTA:
        raise CallError(f"fixed_delta_seconds is {delta}; it must lie between 0 (variable) and {MAX_DELTA}")
    if settings.max_substeps < 1 or settings.max_substep_delta <= 0.0:
        raise CallError("max_substeps and max_substep_delta_time must be positive")
    service.world.settings = settings._replace(fixed_delta=delta or None)
    return service.world.frame


@remote
def tick_cue(service: Service) -> Any:
    if not service.settings.synchronous:
        return service.world.frame
    assert service.session
    service.request_tick(service.session, service.session.message_id)
    return LATER


@remote
def get_map_info(service: Service) -> list[Any]:
    points = [[[p.x, p.y, p.z], [p.pitch, p.yaw, p.roll]] for p in service.world.map.spawn_points]
    return [MAP_FOLDER + service.world.map.name, points]


@remote
def get_map_data(service: Service) -> str:
    return service.world.map.opendrive


@remote
def get_available_maps(service: Service) -> list[str]:
    return [f"/Game/{MAP_FOLDER}{name}" for name in MAPS]


@remote
def load_new_episode(service: Service, name: str, reset_settings: bool = True, layers: int = 65535) -> None:
    service.world.load(name, reset_settings)


@remote
def copy_opendrive_to_file(service: Service, opendrive: str, parameters: OpendriveParameters) -> None:
    try:
        service.world.custom_map = site_of(parse(opendrive))
    except ValueError as error:
        raise CallError(f"this OpenDRIVE cannot be read: {error}") from error


@remote
def load_map_layer(service: Service, layers: int) -> None:
    """Maps have one layer."""


@remote
def unload_map_layer(service: Service, layers: int) -> None:
    """Maps have one layer."""


@remote
def get_weather_parameters(service: Service) -> Weather:
    return service.world.weather


@remote
def set_weather_parameters(service: Service, weather: Weather) -> None:
    service.world.weather = weather


@remote
def get_required_files(service: Service, folder: str = "", download: bool = True) -> list[str]:
    """What a client downloads and keeps in its cache folder: the mesh that its walkers' controllers walk on."""
    name = navmesh.file_name(service.world.map)
    return [name] if name and folder == "Nav" and service.walker_navigation else []


@remote
def request_file(service: Service, name: str) -> bytes:
    if name != navmesh.file_name(service.world.map):
        raise CallError(f"{name[:80]!r} is not a file of this server")
    return navmesh.navigation_mesh(service.world.map)


@remote
def get_navigation_mesh(service: Service) -> bytes:
    return navmesh.navigation_mesh(service.world.map)


@remote
def get_imui_gravity(service: Service) -> float:
    return 9.81
