"""CARLA's structs as they travel: arrays in the order of declaration, read with checks and written as tuples.

Metres, seconds, degrees; left-handed, z up. A missing tail keeps its defaults, a longer array loses its tail, as in
CARLA's own decoder.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

MAX_FLOAT = 3.4e38  # snapshots carry single precision
Reader = Callable[[Any], Any]


class BadArgumentError(ValueError):
    """A value of another shape than the method takes."""


class Vector(NamedTuple):
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


class Rotation(NamedTuple):
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0


class Transform(NamedTuple):
    location: Vector = Vector()
    rotation: Rotation = Rotation()


class BoundingBox(NamedTuple):
    """extent: half sizes."""

    location: Vector = Vector()
    extent: Vector = Vector()
    rotation: Rotation = Rotation()
    actor_id: int = 0


class EpisodeSettings(NamedTuple):
    synchronous: bool = False
    no_rendering: bool = False
    fixed_delta: float | None = None
    substepping: bool = True
    max_substep_delta: float = 0.01
    max_substeps: int = 10
    max_culling_distance: float = 0.0
    deterministic_ragdolls: bool = True
    tile_stream_distance: float = 3000.0
    actor_active_distance: float = 2000.0
    spectator_as_ego: bool = True


class AttributeValue(NamedTuple):
    id: str
    type: int
    value: str


class ActorDescription(NamedTuple):
    uid: int
    id: str
    attributes: tuple[AttributeValue, ...] = ()


class VehicleControl(NamedTuple):
    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    hand_brake: bool = False
    reverse: bool = False
    manual_gear_shift: bool = False
    gear: int = 0


class AckermannControl(NamedTuple):
    steer: float = 0.0
    steer_speed: float = 0.0
    speed: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0


class AckermannSettings(NamedTuple):
    speed_kp: float = 0.15
    speed_ki: float = 0.0
    speed_kd: float = 0.25
    accel_kp: float = 0.01
    accel_ki: float = 0.0
    accel_kd: float = 0.01


class WalkerControl(NamedTuple):
    direction: Vector = Vector(1.0, 0.0, 0.0)
    speed: float = 0.0
    jump: bool = False


class Weather(NamedTuple):
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


class Point2(NamedTuple):
    x: float = 0.0
    y: float = 0.0


class Gear(NamedTuple):
    ratio: float = 1.0
    down_ratio: float = 0.5
    up_ratio: float = 0.65


class Wheel(NamedTuple):
    tire_friction: float = 3.0
    damping_rate: float = 0.25
    max_steer_angle: float = 70.0
    radius: float = 34.0
    max_brake_torque: float = 700.0
    max_handbrake_torque: float = 1400.0
    lat_stiff_max_load: float = 2.0
    lat_stiff_value: float = 17.0
    long_stiff_value: float = 1000.0
    position: Vector = Vector()


class PhysicsControl(NamedTuple):
    torque_curve: tuple[Point2, ...] = ()
    max_rpm: float = 6000.0
    moi: float = 1.0
    damping_rate_full_throttle: float = 0.15
    damping_rate_zero_throttle_clutch_engaged: float = 2.0
    damping_rate_zero_throttle_clutch_disengaged: float = 0.35
    use_gear_autobox: bool = True
    gear_switch_time: float = 0.3
    clutch_strength: float = 10.0
    final_ratio: float = 4.0
    forward_gears: tuple[Gear, ...] = ()
    mass: float = 1500.0
    drag_coefficient: float = 0.3
    center_of_mass: Vector = Vector()
    steering_curve: tuple[Point2, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    use_sweep_wheel_collision: bool = False


class LightFlags(NamedTuple):
    flags: int = 0


class OpendriveParameters(NamedTuple):
    vertex_distance: float = 2.0
    max_road_length: float = 50.0
    wall_height: float = 1.0
    additional_width: float = 0.6
    smooth_junctions: bool = True
    enable_mesh_visibility: bool = True
    enable_pedestrian_navigation: bool = True


class ManagerAddress(NamedTuple):
    host: str = ""
    port: int = 0


def _number(value: Any) -> float:
    if type(value) not in (float, int) or not math.isfinite(value) or abs(value) > MAX_FLOAT:
        raise BadArgumentError(f"a finite number was expected, not {_shown(value)}")
    return float(value)


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise BadArgumentError(f"an integer was expected, not {_shown(value)}")
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise BadArgumentError(f"a boolean was expected, not {_shown(value)}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise BadArgumentError(f"a string was expected, not {_shown(value)}")
    return value


def _anything(value: Any) -> Any:
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


@cache
def reader(kind: Any) -> Reader:
    """The function that turns an unpacked value into `kind`: a scalar type, `T | None`, `tuple[T, ...]` or a struct.

    The function raises BadArgumentError.
    """
    scalars: dict[Any, Reader] = {float: _number, int: _integer, bool: _boolean, str: _text, Any: _anything}
    if kind in scalars:
        return scalars[kind]
    if get_origin(kind) in (Union, types.UnionType):
        return _optional(reader(get_args(kind)[0]))
    if get_origin(kind) is tuple:
        return _list(reader(get_args(kind)[0]))
    return _struct(kind)


def _optional(inner: Reader) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not list or not value:
            raise BadArgumentError(f"an optional ([false] or [true, value]) was expected, not {_shown(value)}")
        return inner(value[1]) if len(value) > 1 else None

    return read


def _list(inner: Reader) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise BadArgumentError(f"an array was expected, not {_shown(value)}")
        return tuple([inner(item) for item in value])

    return read


def _struct(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = [reader(hints[field]) for field in kind._fields]
    required = len(readers) - len(kind._field_defaults)

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) < required:
            raise BadArgumentError(f"{kind.__name__} ({', '.join(kind._fields)}) was expected, not {_shown(value)}")
        return kind(*[inner(item) for inner, item in zip(readers, value, strict=False)])

    return read


def optional(value: Any) -> list[Any]:
    """`value` as CARLA's optional."""
    return [False] if value is None else [True, value]


def settings_as_sent(settings: EpisodeSettings) -> list[Any]:
    """The settings with their optional in CARLA's form."""
    fields: list[Any] = list(settings)
    fields[2] = optional(settings.fixed_delta)
    return fields
