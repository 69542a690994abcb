"""Sensors that cast rays: lidar, semantic lidar and radar."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.ground import SIDEWALK
from suites.carla.server.motion.rays import FIRST_OBSTACLE, GROUND, NOTHING
from suites.carla.server.protocol import versions
from suites.carla.server.protocol.streams import Part
from suites.carla.server.sensors.base import Sensor
from suites.carla.server.things.geometry import matrix
from suites.carla.server.world import World

MAX_RAYS = 200_000  # a tick
_ROADS, _SIDEWALKS, _TERRAIN = 1, 2, 10  # CARLA's semantic labels
_GRASS = 0  # the ground's code


class RayLidar(Sensor):
    """Turns at `rotation_frequency`; each tick sweeps the angle of that time with all channels."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._channels = int(self.attributes["channels"])
        if not 1 <= self._channels <= 1024 or not 1 <= self.number_of("points_per_second") <= 1e7:
            raise ValueError("a lidar has 1 to 1024 channels and 1 to 10,000,000 points per second")
        self._angle = 0.0

    def sweep(self, world: World) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """(unit rays in the sensor's frame (N, 3) channel by channel, hits (N, 4), rays per channel)."""
        upper, lower = self.number_of("upper_fov"), self.number_of("lower_fov")
        field = self.number_of("horizontal_fov")
        elapsed = max(world.delta, self._interval)
        rays = min(MAX_RAYS, round(self.number_of("points_per_second") * elapsed))
        each = max(1, rays // self._channels)
        turned = self.number_of("rotation_frequency") * field * elapsed
        azimuth = np.radians((self._angle + turned * np.arange(each) / each) % field - field / 2.0)
        self._angle = (self._angle + turned) % max(field, 1.0)
        altitude = np.radians(np.linspace(upper, lower, self._channels))
        cos = np.cos(altitude)[:, None]
        up = np.broadcast_to(np.sin(altitude)[:, None], (self._channels, each))
        local = np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), up], axis=-1).reshape(-1, 3)
        pose = self.transform(world.bodies)
        # The carrier is seen: a lidar inside a vehicle's box would be blind in CARLA too, where it sits on the roof.
        hits = world.cast_all(np.array(pose.location), local @ matrix(pose.rotation).T, self.number_of("range"), -1)
        return local, hits, each

    def head(self, counts: NDArray[np.int64]) -> bytes:
        """The lidar header: angle, channels and the number of points of each channel."""
        return struct.pack("<fI", math.radians(self._angle), self._channels) + counts.astype("<u4").tobytes()

    def count(self, kept: NDArray[np.bool_], each: int) -> NDArray[np.int64]:
        """Points kept per channel."""
        return np.asarray(kept.reshape(self._channels, each).sum(axis=1), np.int64)


class Lidar(RayLidar):
    """Points with intensity; some drop out at random, as the attributes say."""

    number = versions.LIDAR

    def measure(self, world: World) -> Iterable[list[Part]]:
        local, hits, each = self.sweep(world)
        distance = hits[:, 0]
        intensity = np.exp(-self.number_of("atmosphere_attenuation_rate") * distance)
        draw = self.random.random((2, len(hits)))
        kept = (hits[:, 1] != NOTHING) & (draw[0] >= self.number_of("dropoff_general_rate"))
        limit, zero = self.number_of("dropoff_intensity_limit"), self.number_of("dropoff_zero_intensity")
        dropped = zero * (1.0 - intensity / limit) if limit > 0.0 else np.zeros(len(hits))
        kept &= draw[1] >= dropped
        deviation = self.number_of("noise_stddev")
        if deviation > 0.0:
            distance = distance + self.random.normal(0.0, deviation, len(distance))
        points = np.column_stack([local * distance[:, None], intensity])[kept].astype("<f4")
        yield [self.head(self.count(kept, each)), points.tobytes()]


class SemanticLidar(RayLidar):
    """Points with the cosine of incidence, the actor hit and its label."""

    number = versions.SEMANTIC_LIDAR
    _POINT = np.dtype([("xyz", "<f4", (3,)), ("cos", "<f4"), ("actor", "<u4"), ("tag", "<u4")])

    def measure(self, world: World) -> Iterable[list[Part]]:
        local, hits, each = self.sweep(world)
        kept = hits[:, 1] != NOTHING
        points = np.zeros(int(kept.sum()), self._POINT)
        seen = hits[kept]
        points["xyz"] = local[kept] * seen[:, :1]
        points["cos"] = seen[:, 2]
        points["actor"], points["tag"] = labels(world, seen)
        yield [self.head(self.count(kept, each)), points.tobytes()]


class Radar(Sensor):
    """Rays at random in a cone; velocity is that of the thing hit, away from the sensor."""

    number = versions.RADAR

    def measure(self, world: World) -> Iterable[list[Part]]:
        elapsed = max(world.delta, self._interval)
        rays = min(MAX_RAYS, max(0, round(self.number_of("points_per_second") * elapsed)))
        spread = np.sqrt(self.random.random(rays)) / 2.0
        turn = 2.0 * math.pi * self.random.random(rays)
        azimuth = np.radians(self.number_of("horizontal_fov")) * spread * np.cos(turn)
        altitude = np.radians(self.number_of("vertical_fov")) * spread * np.sin(turn)
        local = np.stack(
            [np.cos(altitude) * np.cos(azimuth), np.cos(altitude) * np.sin(azimuth), np.sin(altitude)], axis=-1
        )
        pose = self.transform(world.bodies)
        ray = local @ matrix(pose.rotation).T
        hits = world.cast_all(np.array(pose.location), ray, self.number_of("range"), self.carrier_row)
        kept = hits[:, 1] != NOTHING
        rows = world.bodies.rows
        velocity = np.zeros((rays, 3))
        moving = hits[:, 1] >= 0
        struck = rows[hits[moving, 1].astype(int)]
        velocity[moving] = np.stack([struck["vx"], struck["vy"], struck["vz"]], axis=-1)
        if self.carrier_row >= 0:
            own = rows[self.carrier_row]
            velocity -= (own["vx"], own["vy"], own["vz"])
        away = (velocity * ray).sum(axis=1)
        yield [np.stack([away, azimuth, altitude, hits[:, 0]], axis=-1)[kept].astype("<f4").tobytes()]


def labels(world: World, hits: NDArray[np.float64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """(actor ids, semantic labels) of rays that hit something."""
    code = hits[:, 1].astype(int)
    ids, tags = np.zeros(len(hits), np.uint32), np.full(len(hits), _ROADS, np.uint32)
    ground = code == GROUND
    tags[ground & (hits[:, 3] == SIDEWALK)] = _SIDEWALKS
    tags[ground & (hits[:, 3] == _GRASS)] = _TERRAIN
    fixed = code <= FIRST_OBSTACLE
    tags[fixed] = world.obstacles["tag"][FIRST_OBSTACLE - code[fixed]]
    actors = world.bodied()
    if actors:
        bodies = code >= 0
        ids[bodies] = np.array([actor.id for actor in actors], np.uint32)[code[bodies]]
        tags[bodies] = np.array([actor.tags[0] for actor in actors], np.uint32)[code[bodies]]
    return ids, tags
