"""What differs between the client versions that the server speaks to.

The client never names its version, so the server is told; it also answers `version()` with it, which keeps the
client from warning about a mismatch. Layouts change again after 0.9.16, hence unknown versions are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suites.carla.server.protocol.geodesy import mercator, transverse_mercator
from suites.carla.server.protocol.wire import Vector


@dataclass(frozen=True)
class Version:
    """One client release.

    world_observer: the sensor-type number of the world snapshot stream. A wrong one crashes the client.
    attribute_base: the number of the first attribute type (Bool).
    spawn_has_socket: whether a batched SpawnActor carries the attachment type and the socket name.
    box_has_actor: whether a BoundingBox ends with rotation and actor id, or with the rotation.
    geolocation: (map origin, place) -> (latitude, longitude).
    lacks: the blueprints of later releases.
    """

    name: str
    world_observer: int
    attribute_base: int
    spawn_has_socket: bool
    box_has_actor: bool
    geolocation: Callable[[tuple[float, float], Vector], tuple[float, float]]
    lacks: tuple[str, ...] = ()


# Sensor-type numbers below the world observer's are the same in both.
COLLISION, DEPTH, NORMALS, DVS, GNSS, IMU, LANE_INVASION, OBSTACLE, OPTICAL_FLOW, RADAR = range(10)
SEMANTIC_LIDAR, LIDAR, RSS, RGB, SEMANTIC, INSTANCE = range(10, 16)
COSMOS = 16  # not in 0.9.15, where it is the world observer's

VERSIONS = {
    version.name: version
    for version in (
        Version(
            "0.9.15",
            world_observer=16,
            attribute_base=0,
            spawn_has_socket=False,
            box_has_actor=False,
            geolocation=mercator,
            lacks=(
                "sensor.camera.cosmos_visualization",
                "walker.pedestrian.0052",
                *(f"static.prop.{tree}" for tree in ("aporosatree", "coconutpalm", "cypresstree")),
            ),
        ),
        Version(
            "0.9.16",
            world_observer=17,
            attribute_base=1,
            spawn_has_socket=True,
            box_has_actor=True,
            geolocation=transverse_mercator,
        ),
    )
}


def version(name: str) -> Version:
    """The release of that name. Raises ValueError naming the supported ones."""
    try:
        return VERSIONS[name]
    except KeyError:
        known = ", ".join(VERSIONS)
        raise ValueError(f"CARLA client {name!r} is not supported; install one of: {known}") from None
