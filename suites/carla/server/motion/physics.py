"""The physical model of a vehicle as CARLA states it, and how a body takes it over."""

from __future__ import annotations

import math
from typing import Any

from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.wire import Gear, PhysicsControl, Point2, Vector, Wheel
from suites.carla.server.things.bodies import CURVE_POINTS, GEARS
from suites.carla.server.things.catalogue import Model

# CARLA's wheels come with a tire_friction of 3.5, which is a coefficient of about 1.05 on its roads.
GRIP_PER_FRICTION = 0.3
NO_GRIP = 1e-6  # the coefficient of a tyre without friction, by which the tyre's forces are divided
WHEELS = 4  # of every vehicle's model: as in CARLA, what has two runs on two close pairs
NARROW = 0.1  # half the distance between the two of a pair, over the half width
AIR = 1.2  # kg/m3
FRONTAL = 0.85  # frontal area over width times height
AXLE = 0.6  # distance of the axles from the middle, over the half length
ENGINE_DRAG = 0.12  # of the peak torque, at the highest rpm with the throttle closed

_STEERING = (Point2(0.0, 1.0), Point2(20.0, 0.9), Point2(60.0, 0.8), Point2(120.0, 0.7))


def _gears(ratios: tuple[float, ...], up: float, down: float) -> tuple[Gear, ...]:
    return tuple(Gear(ratio, down, up) for ratio in ratios)


# engine: (rpm share, torque share) points, highest rpm, gears, final ratio
_ENGINES: dict[str, tuple[tuple[tuple[float, float], ...], float, tuple[Gear, ...], float]] = {
    "petrol": (
        ((0.0, 0.5), (0.15, 0.72), (0.35, 1.0), (0.75, 0.95), (1.0, 0.75)),
        6500.0, _gears((3.8, 2.2, 1.5, 1.1, 0.88, 0.72), 0.9, 0.4), 3.7,
    ),
    "diesel": (
        ((0.0, 0.5), (0.25, 0.9), (0.4, 1.0), (0.7, 0.95), (1.0, 0.7)),
        4000.0, _gears((4.6, 2.8, 1.8, 1.25, 0.95, 0.75), 0.85, 0.45), 4.1,
    ),
    "electric": (((0.0, 1.0), (0.35, 1.0), (0.7, 0.5), (1.0, 0.3)), 16000.0, _gears((1.0,), 1.0, 0.0), 9.0),
    "motorbike": (
        ((0.0, 0.5), (0.3, 0.9), (0.55, 1.0), (1.0, 0.8)),
        6000.0, _gears((3.3, 2.2, 1.7, 1.35, 1.1), 0.9, 0.45), 3.0,
    ),
    "pedals": (((0.0, 1.0), (0.5, 0.8), (1.0, 0.0)), 1500.0, _gears((1.0,), 1.0, 0.0), 8.0),
}  # fmt: skip


def factory_physics(model: Model) -> PhysicsControl:
    """The physical model of a blueprint."""
    points, max_rpm, gears, final_ratio = _ENGINES[model.engine]
    length, width, height = model.hull or model.extent
    radius = min(52.0, max(31.0, 100 * height * 0.45))
    braking = 1.15 * model.mass * 9.81 * radius / 100 / WHEELS  # Nm, a little more than the tyres can take
    axle, track = AXLE * length * 100, (0.8 if model.wheels == WHEELS else NARROW) * width * 100
    wheels = []
    for front, side in ((1, -1), (1, 1), (-1, -1), (-1, 1)):
        wheels.append(
            Wheel(
                tire_friction=3.5,
                max_steer_angle=70.0 if front > 0 else 0.0,
                radius=radius,
                max_brake_torque=braking,
                max_handbrake_torque=0.0 if front > 0 else 2 * braking,
                position=Vector(front * axle, side * track, radius),
            )
        )
    return PhysicsControl(
        torque_curve=tuple(Point2(rpm * max_rpm, share * model.torque) for rpm, share in points),
        max_rpm=max_rpm,
        final_ratio=final_ratio,
        forward_gears=gears,
        gear_switch_time=0.0 if len(gears) == 1 else 0.2,
        mass=float(model.mass),
        drag_coefficient=model.drag,
        steering_curve=_STEERING,
        wheels=tuple(wheels),
    )


def install(row: Any, control: PhysicsControl) -> None:
    """Makes a body move as `control` says. Raises CallError when it describes no vehicle."""
    half = len(control.wheels) // 2  # front wheels come first; their positions are read-only, as in CARLA
    front, rear = control.wheels[:half], control.wheels[half:]
    limits = {"torque_curve": CURVE_POINTS, "steering_curve": CURVE_POINTS, "forward_gears": GEARS}
    for name, most in limits.items():
        if len(getattr(control, name)) > most:
            raise CallError(f"{name} has {len(getattr(control, name))} entries; at most {most} are supported")
    if not front or not rear:
        raise CallError(f"a vehicle has {WHEELS} wheels, front wheels first, not {len(control.wheels)}")
    positive = {"mass": control.mass, "max_rpm": control.max_rpm, "final_ratio": control.final_ratio}
    positive |= {"wheel radius": min(w.radius for w in control.wheels)}
    for name, value in positive.items():
        if value <= 0.0:
            raise CallError(f"{name} is {value}; it must be positive")
    if min(w.tire_friction for w in control.wheels) < 0.0:
        raise CallError("tire_friction must not be negative")

    row["mass"], row["max_rpm"], row["final_ratio"] = control.mass, control.max_rpm, control.final_ratio
    row["inertia"] = control.mass * ((2 * row["half_x"]) ** 2 + (2 * row["half_y"]) ** 2) / 12.0
    axle = AXLE * row["half_x"]
    row["front"] = max(0.1, axle - control.center_of_mass.x)
    row["rear"] = max(0.1, axle + control.center_of_mass.x)
    row["grip_front"] = max(NO_GRIP, GRIP_PER_FRICTION * sum(w.tire_friction for w in front) / len(front))
    row["grip_rear"] = max(NO_GRIP, GRIP_PER_FRICTION * sum(w.tire_friction for w in rear) / len(rear))
    row["max_steer"] = math.radians(max(w.max_steer_angle for w in front))
    row["radius"] = sum(w.radius for w in control.wheels) / len(control.wheels) / 100.0
    row["brake_torque"] = sum(max(w.max_brake_torque, 0.0) for w in control.wheels)
    row["hand_brake_torque"] = sum(max(w.max_handbrake_torque, 0.0) for w in control.wheels)
    area = FRONTAL * 4 * row["half_y"] * row["half_z"]
    row["drag"] = 0.5 * AIR * max(control.drag_coefficient, 0.0) * area
    row["gear_time"], row["autobox"] = max(control.gear_switch_time, 0.0), control.use_gear_autobox

    row["torque_points"], row["steering_points"] = len(control.torque_curve), len(control.steering_curve)
    row["gears"] = len(control.forward_gears)
    for i, point in enumerate(control.torque_curve):
        row["torque_rpm"][i], row["torque"][i] = point
    for i, point in enumerate(control.steering_curve):
        row["steering_speed"][i], row["steering"][i] = point
    for i, gear in enumerate(control.forward_gears):
        row["ratios"][i], row["down_shift"][i], row["up"][i] = gear
    row["engine_drag"] = ENGINE_DRAG * max((torque for _, torque in control.torque_curve), default=0.0)
