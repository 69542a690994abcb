"""Sensors of place and motion."""

from __future__ import annotations

import math
from collections.abc import Iterable

from suites.carla.server.motion.dynamics import GRAVITY
from suites.carla.server.protocol import versions
from suites.carla.server.protocol.codec import pack
from suites.carla.server.protocol.streams import Part
from suites.carla.server.protocol.wire import Transform, Vector
from suites.carla.server.sensors.base import Sensor
from suites.carla.server.things.geometry import into_frame
from suites.carla.server.world import World


class Gnss(Sensor):
    """Latitude, longitude (degrees) and height (metres)."""

    number = versions.GNSS

    def measure(self, world: World) -> Iterable[list[Part]]:
        place = self.transform(world.bodies).location
        latitude, longitude = world.version.geolocation(world.map_origin, place)
        values = [latitude, longitude, place.z]
        for i, name in enumerate(("lat", "lon", "alt")):
            values[i] += self.number_of(f"noise_{name}_bias") + self.noise(f"noise_{name}_stddev")
        yield [pack(values)]


class Imu(Sensor):
    """Acceleration with gravity (m/s2) and angular velocity (rad/s) in the sensor's frame; heading from north."""

    number = versions.IMU

    def measure(self, world: World) -> Iterable[list[Part]]:
        rotation = self.transform(world.bodies).rotation
        frame = Transform(Vector(), rotation)
        row = self.carrier_row
        b = world.bodies.rows[row] if row >= 0 else None
        pull = (
            Vector(0.0, 0.0, GRAVITY) if b is None else Vector(float(b["ax"]), float(b["ay"]), float(b["az"]) + GRAVITY)
        )
        turning = Vector() if b is None else Vector(0.0, 0.0, math.radians(float(b["yaw_rate"])))
        acceleration = [
            value + self.noise(f"noise_accel_stddev_{axis}")
            for value, axis in zip(into_frame(frame, pull), "xyz", strict=True)
        ]
        gyroscope = [
            value + self.number_of(f"noise_gyro_bias_{axis}") + self.noise(f"noise_gyro_stddev_{axis}")
            for value, axis in zip(into_frame(frame, turning), "xyz", strict=True)
        ]
        compass = math.radians(rotation.yaw + 90.0) % (2.0 * math.pi)  # north is -y
        yield [pack([acceleration, gyroscope, compass])]
