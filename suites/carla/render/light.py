"""Weather into light: the sun, the sky's colours, fog, rain and what they do to surfaces."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.render.scene import Weather

Colour = NDArray[np.float32]  # (3,) RGB, 1 = white

ZENITH = np.array([(0.018, 0.024, 0.060), (0.20, 0.27, 0.46), (0.24, 0.46, 0.80)])  # night, dusk, day
HORIZON = np.array([(0.060, 0.070, 0.115), (0.86, 0.58, 0.42), (0.74, 0.84, 0.92)])
SUN = np.array([(0.0, 0.0, 0.0), (0.62, 0.34, 0.16), (0.70, 0.65, 0.56)])
AMBIENT = np.array([(0.12, 0.13, 0.18), (0.36, 0.34, 0.38), (0.48, 0.52, 0.58)])
OVERCAST = np.array([(0.050, 0.054, 0.070), (0.40, 0.38, 0.38), (0.66, 0.69, 0.73)])
DUST = np.array((0.72, 0.55, 0.36))
CLEAR_AIR = 1.0 / 3500.0  # per metre: even clean air pales what is far away
FULL_FOG = 0.07  # per metre at fog_density 100
RAIN_FOG = 0.004  # per metre at precipitation 100


class Light(NamedTuple):
    """What the shading kernels know of the weather.

    Colours are float32 (3,), 1 = white; (sun_x, sun_y, sun_z) points to the sun.
    """

    sun_x: float
    sun_y: float
    sun_z: float
    sun: Colour
    ambient: Colour
    zenith: Colour
    horizon: Colour
    overcast: Colour
    cloud: float  # 0 to 1
    day: float  # 0 at night, 1 by day
    fog: float  # per metre
    fog_start: float  # metres
    fog_sky: float  # 0 to 1: how much of the sky the fog hides at the horizon
    fog_colour: Colour
    wet: float  # 0 to 1
    puddles: float  # 0 to 1
    rain: float  # 0 to 1
    wind: float  # 0 to 1
    glow: float  # 0 to 1: how far lamps outshine the daylight


def light_of(weather: Weather) -> Light:
    """The light of a weather; values outside CARLA's ranges (0 to 100, -90 to 90) are clipped."""
    altitude, azimuth = (
        math.radians(_clip(weather.sun_altitude_angle, -90, 90)),
        math.radians(weather.sun_azimuth_angle),
    )
    day = _ramp(math.degrees(altitude), -6.0, 14.0)
    cloud, rain = _share(weather.cloudiness), _share(weather.precipitation)
    cover = cloud * cloud
    dust = _share(weather.dust_storm)
    sun = _at(SUN, day) * (1.0 - 0.92 * cover) * (1.0 - 0.6 * rain)
    ambient = _at(AMBIENT, day) * (1.0 + 0.18 * cover * day) * (1.0 - 0.12 * rain)
    overcast = _at(OVERCAST, day) * (1.0 - 0.18 * rain)
    zenith = _mix(_at(ZENITH, day), overcast * 0.9, cover)
    horizon = _mix(_at(HORIZON, day), overcast, cover)
    fog_share = _share(weather.fog_density)
    fog_colour = _mix(_mix(horizon, np.full(3, horizon.mean()), 0.6 * fog_share), DUST * max(day, 0.06), dust)
    fog = FULL_FOG * fog_share**1.6 + RAIN_FOG * rain + 0.02 * dust + CLEAR_AIR
    start = max(0.0, weather.fog_distance) if fog_share > 0.0 else 0.0
    return Light(
        sun_x=math.cos(altitude) * math.cos(azimuth),
        sun_y=math.cos(altitude) * math.sin(azimuth),
        sun_z=math.sin(altitude),
        sun=_colour(sun * _ramp(math.degrees(altitude), -1.0, 6.0)),
        ambient=_colour(ambient),
        zenith=_colour(_mix(zenith, fog_colour, 0.75 * dust)),
        horizon=_colour(_mix(horizon, fog_colour, dust)),
        overcast=_colour(overcast),
        cloud=cloud,
        day=day,
        fog=fog,
        fog_start=start,
        fog_sky=min(1.0, 1.3 * fog_share**0.7 + 0.5 * rain + dust),
        fog_colour=_colour(fog_colour),
        wet=max(_share(weather.wetness), 0.6 * rain),
        puddles=_share(weather.precipitation_deposits),
        rain=rain,
        wind=_share(weather.wind_intensity),
        glow=_clip(1.0 - 1.1 * day + 0.25 * fog_share + 0.15 * rain, 0.12, 1.0),
    )


def _at(stops: NDArray[np.float64], day: float) -> NDArray[np.float64]:
    """Between night (0), dusk (0.5) and day (1)."""
    return np.array([np.interp(day, (0.0, 0.5, 1.0), stops[:, channel]) for channel in range(3)])


def _mix(a: NDArray[np.float64], b: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    return a + (b - a) * share


def _colour(values: NDArray[np.float64]) -> Colour:
    return np.clip(values, 0.0, 2.0).astype(np.float32)


def _ramp(value: float, low: float, high: float) -> float:
    return _clip((value - low) / (high - low), 0.0, 1.0)


def _share(percent: float) -> float:
    return _clip(percent / 100.0, 0.0, 1.0)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(float(value), low), high)
