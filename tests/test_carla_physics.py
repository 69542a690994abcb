"""How vehicles and walkers of the embedded CARLA server move and collide, in figures that a driver would recognise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from carla_worlds import DELTA, drive, fresh, place, put, row, speed

from suites.carla.server.motion import physics
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.wire import AckermannControl, PhysicsControl, Vector, VehicleControl
from suites.carla.server.snapshot import actor_records
from suites.carla.server.things.catalogue import MODELS
from suites.carla.server.world import World

HUNDRED = 100 / 3.6
CARS = [model.id for model in MODELS if model.base_type == "car"]
# Seconds from 0 to 100 km/h, and metres from 100 km/h to a stop on a dry road, as such vehicles need.
SPRINT = {"car": (4.0, 14.0), "van": (7.0, 30.0), "truck": (5.0, 60.0), "bus": (12.0, 60.0), "motorcycle": (3.0, 12.0)}
STOP = (32.0, 50.0)


@pytest.fixture
def world() -> World:
    """A plain without obstacles: only the vehicle's own model counts."""
    found = fresh("highway")
    found.obstacles = found.obstacles[:0]
    return found


def sprint(world: World, type_id: str, limit: float = 70.0) -> float:
    car = put(world, type_id, place(world))
    seconds = 0.0
    while speed(world, car) < HUNDRED and seconds < limit:
        drive(world, car, 1, throttle=1.0)
        seconds += DELTA
    return seconds


@pytest.mark.parametrize("model", [m for m in MODELS if m.base_type != "bicycle"], ids=lambda m: m.id)
def test_acceleration_and_braking_are_plausible(world: World, model: object) -> None:
    low, high = SPRINT[model.base_type]  # type: ignore[attr-defined]
    seconds = sprint(world, model.id)  # type: ignore[attr-defined]
    assert low <= seconds <= high
    (car,) = world.bodied()
    b = row(world, car)
    if seconds < high:
        b["vx"], b["vy"] = (HUNDRED * part for part in heading(b))
        begin = float(b["x"]), float(b["y"])
        b = drive(world, car, 120, brake=1.0)
        assert speed(world, car) < 1e-3
        assert STOP[0] < math.dist(begin, (b["x"], b["y"])) < STOP[1]


def heading(b: object) -> tuple[float, float]:
    yaw = math.radians(b["yaw"])  # type: ignore[index]
    return math.cos(yaw), math.sin(yaw)


def test_top_speed_is_where_drag_meets_the_engine(world: World) -> None:
    car = put(world, "vehicle.toyota.prius", place(world))
    b = drive(world, car, 1600, throttle=1.0)
    assert 150 < speed(world, car) * 3.6 < 230
    assert math.hypot(b["ax"], b["ay"]) < 0.1


def test_a_bicycle_is_slow(world: World) -> None:
    bicycle = put(world, "vehicle.bh.crossbike", place(world))
    drive(world, bicycle, 600, throttle=1.0)
    assert 15 < speed(world, bicycle) * 3.6 < 35


def test_a_resting_vehicle_stays(world: World) -> None:
    car = put(world, "vehicle.tesla.model3", place(world))
    b = drive(world, car, 20)
    begin = float(b["x"]), float(b["y"]), float(b["yaw"])
    for control in ({"brake": 1.0}, {"hand_brake": True, "throttle": 1.0}, {"steer": 1.0}, {}):
        b = drive(world, car, 40, **control)
        assert (b["x"], b["y"], b["yaw"]) == pytest.approx(begin, abs=0.02)


def test_turning_circle_is_that_of_the_wheels(world: World) -> None:
    car = put(world, "vehicle.tesla.model3", place(world))
    put(world, "sensor.other.imu", place(world), car)
    b = drive(world, car, 100, throttle=0.12, steer=0.4)
    wheel, base = float(b["wheel"]), float(b["front"] + b["rear"])
    ideal = base / math.tan(wheel)  # of the rear axle
    measured = speed(world, car) / math.radians(b["yaw_rate"])
    assert measured == pytest.approx(ideal, rel=0.15)


def test_a_held_velocity_is_steered_as_ever(world: World) -> None:
    """A vehicle of constant velocity took no notice of its wheel, and one that turned spun for ever."""
    car = put(world, "vehicle.tesla.model3", place(world))
    b = row(world, car)
    b["held"], b["held_x"], b["yaw_rate"] = True, 5.0, 60.0
    for _ in range(40):
        b = drive(world, car, 1)
        assert speed(world, car) == pytest.approx(5.0)
    assert abs(b["yaw_rate"]) < 0.01
    b = drive(world, car, 60, steer=0.05)
    radius = 5.0 / math.radians(b["yaw_rate"])
    assert radius == pytest.approx((b["front"] + b["rear"]) / math.tan(b["wheel"]), rel=0.1)
    assert speed(world, car) == pytest.approx(5.0)


def test_sideways_acceleration_is_limited_by_the_tyres(world: World) -> None:
    car = put(world, "vehicle.tesla.model3", place(world))
    b = row(world, car)
    b["vx"], b["vy"] = (30.0 * part for part in heading(b))
    before = np.array([b["vx"], b["vy"]])
    hardest = 0.0
    for _ in range(20):
        b = drive(world, car, 1, steer=1.0)
        after = np.array([b["vx"], b["vy"]])
        hardest, before = max(hardest, float(np.linalg.norm(after - before)) / DELTA), after
    assert 6.0 < hardest < 1.2 * 9.81


def test_gears_shift_and_stay_manual(world: World) -> None:
    car = put(world, "vehicle.lincoln.mkz_2020", place(world))
    gears = {int(drive(world, car, 1, throttle=1.0)["gear"]) for _ in range(300)}
    assert gears >= {1, 2, 3}
    drive(world, car, 200, brake=1.0)
    b = drive(world, car, 300, throttle=1.0, manual_gear_shift=True, gear=1)
    top_in_first = 6500 / (3.8 * 3.7) * math.pi / 30 * float(b["radius"])
    assert b["gear"] == 1 and speed(world, car) == pytest.approx(top_in_first, rel=0.1)


def test_clients_are_told_the_gearbox_and_not_what_was_asked_for(world: World) -> None:
    car = put(world, "vehicle.lincoln.mkz_2020", place(world))
    drive(world, car, 300, throttle=1.0)
    told = sent_control(world, car)
    assert told.gear == int(row(world, car)["gear"]) >= 2 and not told.reverse
    drive(world, car, 300, brake=1.0)
    drive(world, car, 60, throttle=0.5, reverse=True)
    told = sent_control(world, car)
    assert (told.gear, told.reverse) == (-1, True)


def sent_control(world: World, car: Any) -> VehicleControl:
    actor_records([car], world.bodies)
    return car._sent[0]  # type: ignore[no-any-return]


def test_the_wheel_turns_as_fast_as_ackermann_control_says(world: World) -> None:
    car = put(world, "vehicle.lincoln.mkz_2020", place(world))
    for steer_speed, least, most in ((0.1, 0.08, 0.12), (0.0, 0.3, 0.6)):
        row(world, car)["steer"] = 0.0
        car.ackermann = AckermannControl(steer=0.5, steer_speed=steer_speed, speed=3.0)
        for _ in range(round(1.0 / DELTA)):
            world.advance(DELTA)
        b = row(world, car)
        assert least < float(b["steer"]) * float(b["max_steer"]) < most


def test_head_on_crash_conserves_momentum(world: World) -> None:
    left = put(world, "vehicle.tesla.model3", place(world))
    right = put(world, "vehicle.mini.cooper_s", place(world, ahead=10.0))
    a, b = row(world, left), row(world, right)
    ahead = heading(a)
    for body, velocity in ((a, 12.0), (b, -12.0)):
        body["vx"], body["vy"] = velocity * ahead[0], velocity * ahead[1]
    total = (a["mass"] * a["vx"] + b["mass"] * b["vx"], a["mass"] * a["vy"] + b["mass"] * b["vy"])
    while not world.collisions:
        world.advance(DELTA)
    mine, theirs = world.collisions[0], world.collisions[1]
    assert mine.actor is left and mine.other is right and theirs.impulse == pytest.approx([-p for p in mine.impulse])
    now = (a["mass"] * a["vx"] + b["mass"] * b["vx"], a["mass"] * a["vy"] + b["mass"] * b["vy"])
    assert now == pytest.approx(total, abs=0.03 * 12.0 * (a["mass"] + b["mass"]))
    shared = a["mass"] * b["mass"] / (a["mass"] + b["mass"])
    assert math.hypot(*mine.impulse[:2]) == pytest.approx(24.0 * shared * 1.1, rel=0.1)


def test_a_crash_off_centre_turns_both(world: World) -> None:
    left = put(world, "vehicle.tesla.model3", place(world))
    right = put(world, "vehicle.audi.tt", place(world, ahead=10.0))
    b = row(world, right)
    ahead = heading(b)
    b["x"], b["y"] = b["x"] - 1.2 * ahead[1], b["y"] + 1.2 * ahead[0]
    row(world, left)["vx"], row(world, left)["vy"] = 15.0 * ahead[0], 15.0 * ahead[1]
    while not world.collisions:
        world.advance(DELTA)
    assert abs(b["yaw_rate"]) > 5.0 and np.sign(b["yaw_rate"]) == np.sign(row(world, left)["yaw_rate"])


def test_obstacles_do_not_move() -> None:
    world = fresh("highway")
    rail = world.obstacles[world.obstacles["tag"] == 28][10]
    car = put(world, "vehicle.tesla.model3", place(world))
    b = row(world, car)
    aside = math.radians(rail["yaw"]) - math.pi / 2
    b["x"], b["y"] = rail["x"] + 6.0 * math.cos(aside), rail["y"] + 6.0 * math.sin(aside)
    b["yaw"] = math.degrees(aside) + 180.0
    b["vx"], b["vy"] = -12.0 * math.cos(aside), -12.0 * math.sin(aside)
    hits = []
    for _ in range(40):
        world.advance(DELTA)
        hits += [c for c in world.collisions if c.actor is car]
    assert hits and hits[0].other is None
    assert math.hypot(*hits[0].impulse[:2]) == pytest.approx(12.0 * b["mass"], rel=0.25)
    assert (b["x"] - rail["x"]) * math.cos(aside) + (b["y"] - rail["y"]) * math.sin(aside) > 2.0


@pytest.mark.parametrize("approach", [8.0, 20.0, 40.0])
def test_nothing_drives_through_a_walker(world: World, approach: float) -> None:
    car = put(world, "vehicle.tesla.model3", place(world))
    walker = put(world, "walker.pedestrian.0001", place(world, ahead=12.0))
    b = row(world, car)
    b["vx"], b["vy"] = (approach * part for part in heading(b))
    seen = []
    for _ in range(30):
        world.advance(DELTA)
        seen += world.collisions
    assert seen and {seen[0].actor, seen[0].other} == {car, walker}
    assert row(world, walker)["down"] > 0.0 or approach < 2.0
    slowed = approach - speed(world, car)
    assert 0.0 < slowed < 0.35 * approach  # a person weighs little against a car


def test_bodies_stay_finite_whatever_they_are_told(world: World) -> None:
    rng = np.random.default_rng(0)
    cars = [put(world, "vehicle.tesla.model3", place(world, ahead=8.0 * i)) for i in range(6)]
    for _ in range(60):
        for car in cars:
            throttle, steer, brake = rng.uniform(-2, 2, 3)
            control = {"throttle": throttle, "steer": steer, "brake": brake}
            drive(world, car, 0, **control, reverse=bool(rng.integers(2)), hand_brake=bool(rng.integers(2)))
        world.advance(float(rng.choice([0.001, 0.05, 0.3])))
    rows = world.bodies.rows
    assert all(np.isfinite(rows[name]).all() for name in ("x", "y", "z", "vx", "vy", "yaw", "yaw_rate", "rpm"))
    assert np.abs(rows["yaw"]).max() <= 180.0


def test_physics_control_is_refused_when_it_describes_no_vehicle(world: World) -> None:
    car = put(world, "vehicle.tesla.model3", place(world))
    b = row(world, car)
    good = car.physics
    for change, words in (
        ({"mass": -1.0}, "mass"),
        ({"wheels": ()}, "wheels"),
        ({"torque_curve": good.torque_curve * 5}, "torque_curve"),
        ({"wheels": tuple(w._replace(radius=0.0) for w in good.wheels)}, "radius"),
    ):
        with pytest.raises(CallError, match=words):
            physics.install(b, good._replace(**change))
    assert isinstance(good, PhysicsControl) and good.center_of_mass == Vector()
