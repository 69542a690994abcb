"""What a picture is taken of: the actors, the weather, the time; and the camera that takes it.

Coordinates as in `suites.carla.maps.roads`: left-handed, metres, degrees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.roads import Pose


class Look(IntEnum):
    """The shape an actor is drawn with. Every shape fills the actor's oriented box exactly."""

    SEDAN = 0
    HATCHBACK = 1
    SUV = 2
    SPORTS = 3
    PICKUP = 4
    VAN = 5
    TRUCK = 6
    BUS = 7
    MOTORBIKE = 8
    BICYCLE = 9
    ADULT = 10
    CHILD = 11
    TRAFFIC_LIGHT = 12
    BOX = 13
    CONE = 14


@dataclass(frozen=True)
class Weather:
    """CARLA's `WeatherParameters`, in the order of the wire; the defaults are a clear noon."""

    cloudiness: float = 10.0
    precipitation: float = 0.0
    precipitation_deposits: float = 0.0
    wind_intensity: float = 5.0
    sun_azimuth_angle: float = 45.0
    sun_altitude_angle: float = 60.0
    fog_density: float = 0.0
    fog_distance: float = 0.0
    fog_falloff: float = 0.1
    wetness: float = 0.0
    scattering_intensity: float = 1.0
    mie_scattering_scale: float = 0.03
    rayleigh_scattering_scale: float = 0.0331
    dust_storm: float = 0.0


@dataclass
class Scene:
    """N actors and their surroundings at one moment. The renderer reads it and never writes.

    pose: float64 (N, 6), x, y, z, roll, pitch, yaw of the centre of each actor's oriented box.
    half_extents: float32 (N, 3) metres, forward, right, up.
    look: int32 (N,), values of `Look`. colour: uint8 (N, 3) RGB of the paint (of the clothes, for people).
    lights: uint32 (N,), CARLA's VehicleLightState flags; for `Look.TRAFFIC_LIGHT` its TrafficLightState.
    tag: uint8 (N,), CARLA's semantic tag. actor_id: uint32 (N,).
    steer: float32 (N,) degrees, the front wheels' angle, positive to the right.
    walked: float32 (N,) metres travelled so far: moves the legs of people and turns the wheels.
    time: seconds of simulation; rain falls and clouds drift by it.
    """

    pose: NDArray[np.float64]
    half_extents: NDArray[np.float32]
    look: NDArray[np.int32]
    colour: NDArray[np.uint8]
    lights: NDArray[np.uint32]
    tag: NDArray[np.uint8]
    actor_id: NDArray[np.uint32]
    steer: NDArray[np.float32]
    walked: NDArray[np.float32]
    weather: Weather = field(default_factory=Weather)
    time: float = 0.0

    @classmethod
    def empty(cls, actors: int = 0, weather: Weather | None = None, time: float = 0.0) -> Scene:
        """A scene of `actors` grey sedans of 4.5 x 1.8 x 1.5 m at the origin, for the caller to fill in."""
        scene = cls(
            pose=np.zeros((actors, 6)),
            half_extents=np.full((actors, 3), (2.25, 0.9, 0.75), np.float32),
            look=np.zeros(actors, np.int32),
            colour=np.full((actors, 3), 128, np.uint8),
            lights=np.zeros(actors, np.uint32),
            tag=np.full(actors, 14, np.uint8),
            actor_id=np.arange(1, actors + 1, dtype=np.uint32),
            steer=np.zeros(actors, np.float32),
            walked=np.zeros(actors, np.float32),
            weather=weather or Weather(),
            time=time,
        )
        scene.pose[:, 2] = 0.75
        return scene


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; `fov` is the horizontal field of view in degrees, as CARLA's.

    textured: whether its colour pictures have textures.
    """

    pose: Pose
    width: int = 84
    height: int = 84
    fov: float = 60.0
    textured: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a camera of {self.width} x {self.height} pixels; each side must be at least 1")
        if not 1.0 <= self.fov <= 170.0:
            raise ValueError(f"a field of view of {self.fov} degrees; it must lie between 1 and 170")
