"""How bodies move: a bicycle model with an engine, gears, brakes, drag and tyres that slide; walkers; falling.

Plane motion in the world frame (x forward, y right, yaw clockwise), radians inside, substeps of at most 10 ms.
Per axle the tyre force is saturated by the load times the friction coefficient, in both directions together, so a
vehicle that brakes hard turns less and one that turns hard brakes less. Anti-lock and traction control are implied:
the limit of the longitudinal force is the tyre's, and only the hand brake locks wheels.
"""

from __future__ import annotations

import math

import numpy as np

from suites.carla.maps.jit import compiled
from suites.carla.server.motion.contacts import collide, obstacles_near
from suites.carla.server.things.bodies import PROP, VEHICLE, WALKER, Row, Rows

SUBSTEP = 0.01  # s
GRAVITY = 9.81
CORNERING = 14.0  # tyre slip stiffness: lateral force per load and radian of slip
CREEP = 2.0  # m/s below which slip is counted as if this fast: at rest the tyre damps sideways motion
WHEEL_RATE = 3.5  # rad/s of the front wheels
FRONT_BRAKES = 0.6  # share of the braking force
ROLLING = 0.012  # rolling resistance per load
# The slipping clutch lets the engine turn at the launch speed from a standstill; both at most a share of the top speed.
IDLE_RPM, LAUNCH_RPM, LAUNCH_SHARE = 800.0, 1500.0, 0.25
EFFICIENCY = 0.9  # of the drive train
SLIDING = 0.6  # friction coefficient of a body that lies on the ground
SUSPENSION_TIME, PITCH_PER_ACCELERATION, ROLL_PER_ACCELERATION = 0.2, 0.3, 0.25  # s, degrees per m/s2
JUMP_SPEED = 4.2  # m/s
STEP_UP = 2.0  # m/s at which a kerb lifts a body


@compiled
def curve(x: float, xs: Rows, ys: Rows, points: int) -> float:
    """Linear interpolation with constant ends."""
    if points == 0:
        return 1.0
    if x <= xs[0]:
        return float(ys[0])
    for i in range(1, points):
        if x <= xs[i]:
            return float(ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / max(xs[i] - xs[i - 1], 1e-9))
    return float(ys[points - 1])


@compiled
def shift_gear(b: Row, wheel_speed: float, dt: float) -> None:
    """Chooses the gear (-1 reverse, 1...) and the engine's rpm for a wheel speed in rad/s."""
    if b.shift > 0.0:
        b.shift -= dt
    if b.manual:
        wanted = min(max(b.wanted_gear, -1), b.gears)
    elif b.reverse:
        wanted = -1
    else:
        wanted = max(b.gear, 1)
        if b.autobox and b.shift <= 0.0:
            rpm = wheel_speed * b.ratios[wanted - 1] * b.final_ratio * 30.0 / math.pi
            if rpm > b.up[wanted - 1] * b.max_rpm and wanted < b.gears and b.throttle > 0.0:
                wanted += 1
            elif wanted > 1 and rpm < b.down_shift[wanted - 1] * b.max_rpm:
                wanted -= 1
    if wanted != b.gear:
        b.shift = b.gear_time if b.gear > 0 and wanted > 0 else 0.0
        b.gear = wanted
    ratio = b.ratios[max(abs(b.gear), 1) - 1] * b.final_ratio
    idle = min(IDLE_RPM + b.throttle * (LAUNCH_RPM - IDLE_RPM), LAUNCH_SHARE * b.max_rpm)
    b.rpm = min(max(wheel_speed * ratio * 30.0 / math.pi, idle), b.max_rpm)


@compiled
def drive_force(b: Row, forward: float, dt: float) -> float:
    """Newtons at the driven wheels, along the vehicle; `forward` is its speed in m/s."""
    wheel_speed = abs(forward) / b.radius
    shift_gear(b, wheel_speed, dt)
    if b.gear == 0 or b.shift > 0.0:
        return 0.0
    direction = 1.0 if b.gear > 0 else -1.0
    ratio = b.ratios[abs(b.gear) - 1] * b.final_ratio
    at_limit = wheel_speed * ratio * 30.0 / math.pi >= b.max_rpm
    engine = 0.0 if at_limit else b.throttle * curve(b.rpm, b.torque_rpm, b.torque, b.torque_points)
    force = direction * engine * ratio * EFFICIENCY / b.radius
    drag = (1.0 - b.throttle) * b.engine_drag * (b.rpm / b.max_rpm) * ratio / b.radius
    return float(force - math.copysign(min(drag, b.mass * abs(forward) / dt), forward))


@compiled
def axle_force(along: float, load: float, grip: float, speed: float, slip: float) -> tuple[float, float]:
    """Saturates one axle's force: `along` is asked for, the lateral one follows from the slip velocity `slip`."""
    limit = grip * load
    across = -limit * math.tanh(CORNERING / grip * slip / max(abs(speed), CREEP))
    size = math.hypot(along, across)
    if size > limit:
        along, across = along * limit / size, across * limit / size
    return along, across


@compiled
def vehicle_force(b: Row, yaw: float, dt: float) -> tuple[float, float, float]:
    """(force x, force y, torque) on a vehicle on its wheels, in the world frame."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    forward, right = b.vx * cos + b.vy * sin, -b.vx * sin + b.vy * cos
    rate = math.radians(b.yaw_rate)
    target = b.steer * b.max_steer * curve(abs(forward) * 3.6, b.steering_speed, b.steering, b.steering_points)
    b.wheel += min(max(target - b.wheel, -WHEEL_RATE * dt), WHEEL_RATE * dt)

    length = b.front + b.rear
    load_front, load_rear = b.mass * GRAVITY * b.rear / length, b.mass * GRAVITY * b.front / length
    drive = drive_force(b, forward, dt)
    # Resistances stop a vehicle and hold it, but never push it backwards.
    if abs(forward) > 1e-4:
        against, most = forward, b.mass * abs(forward) / dt + drive * math.copysign(1.0, forward)
    else:
        against, most = drive, abs(drive)
    brake = b.brake * b.brake_torque / b.radius + ROLLING * b.mass * GRAVITY
    hand = b.hand_brake_torque / b.radius if b.hand_brake else 0.0
    share = math.copysign(min(1.0, max(most, 0.0) / (brake + hand)), -against)
    front_brake, rear_brake = share * brake * FRONT_BRAKES, share * (brake * (1.0 - FRONT_BRAKES) + hand)

    cos_wheel, sin_wheel = math.cos(b.wheel), math.sin(b.wheel)
    front_right = right + rate * b.front
    front_along = forward * cos_wheel + front_right * sin_wheel
    front_slip = front_right * cos_wheel - forward * sin_wheel
    fx, fy = axle_force(drive * 0.5 + front_brake, load_front, b.grip_front, front_along, front_slip)
    locked = b.hand_brake and abs(forward) > 0.5
    rear_grip = b.grip_rear * (0.7 if locked else 1.0)
    rear_x, rear_y = axle_force(drive * 0.5 + rear_brake, load_rear, rear_grip, forward, right - rate * b.rear)
    front_x, front_y = fx * cos_wheel - fy * sin_wheel, fx * sin_wheel + fy * cos_wheel

    speed = math.hypot(b.vx, b.vy)
    ahead, aside = front_x + rear_x, front_y + rear_y
    force_x = ahead * cos - aside * sin - b.drag * speed * b.vx
    force_y = ahead * sin + aside * cos - b.drag * speed * b.vy
    return force_x, force_y, front_y * b.front - rear_y * b.rear


@compiled
def slide(b: Row, dt: float) -> None:
    """Slows a body that slides over the ground."""
    speed = math.hypot(b.vx, b.vy)
    keep = max(0.0, speed - SLIDING * GRAVITY * dt) / speed if speed > 0.0 else 0.0
    b.vx, b.vy = b.vx * keep, b.vy * keep
    b.yaw_rate *= max(0.0, 1.0 - 4.0 * dt)


@compiled
def move(b: Row, dt: float) -> None:
    """Moves one body by one substep, without its contacts."""
    yaw = math.radians(b.yaw)
    grounded = b.z <= b.ground + b.stand + 0.1
    if b.kind == VEHICLE and b.simulated and grounded:
        roll_down(b, dt)
        force_x, force_y, torque = vehicle_force(b, yaw, dt)
        b.vx += force_x / b.mass * dt
        b.vy += force_y / b.mass * dt
        b.yaw_rate += math.degrees(torque / b.inertia * dt)
    elif b.kind == WALKER and not b.held:
        if b.down > 0.0:
            b.down -= dt
            slide(b, dt)
        elif grounded:
            b.vx, b.vy, b.yaw_rate = b.walk_x * b.walk_speed, b.walk_y * b.walk_speed, 0.0
            if b.jump:
                b.vz, b.jump = JUMP_SPEED, False
            if b.walk_speed > 0.0:
                b.yaw = math.degrees(math.atan2(b.walk_y, b.walk_x))
    elif b.kind == PROP and b.simulated and grounded:
        roll_down(b, dt)
        slide(b, dt)
    if b.held:  # only its velocity: forces turn it as ever
        b.vx = b.held_x * math.cos(yaw) - b.held_y * math.sin(yaw)
        b.vy = b.held_x * math.sin(yaw) + b.held_y * math.cos(yaw)
    b.x += b.vx * dt
    b.y += b.vy * dt
    b.yaw += b.yaw_rate * dt
    if b.simulated and b.gravity:
        fall(b, dt)


@compiled
def roll_down(b: Row, dt: float) -> None:
    """Gravity along the slope that a body stands on."""
    steep = 1.0 + b.slope_x * b.slope_x + b.slope_y * b.slope_y
    b.vx -= GRAVITY * b.slope_x / steep * dt
    b.vy -= GRAVITY * b.slope_y / steep * dt


@compiled
def fall(b: Row, dt: float) -> None:
    """Lets a body fall to the ground, which rises or falls as it moves over it, or lifts it up a step in it."""
    rise = b.slope_x * b.vx + b.slope_y * b.vy + 0.0  # m/s; the sum turns -0 into 0
    b.ground += rise * dt
    floor = b.ground + b.stand
    b.vz -= GRAVITY * dt
    b.z += b.vz * dt
    if b.z <= floor:
        b.z = min(floor, b.z - b.vz * dt + rise * dt + STEP_UP * dt) if b.z < floor - 0.001 else floor
        b.vz = rise


@compiled
def step(bodies: Rows, obstacles: Rows, near: Rows, contacts: Rows, dt: float) -> int:
    """Advances all bodies by `dt` seconds; returns how many rows of `contacts` hold this tick's collisions.

    What finds no room in `contacts` is dropped; `near` is scratch space, as long as `obstacles`.
    """
    substeps = max(1, math.ceil(dt / SUBSTEP - 1e-6))
    h = dt / substeps
    for i in range(len(bodies)):
        b = bodies[i]
        b.vx_before, b.vy_before, b.vz_before = b.vx, b.vy, b.vz
    count = obstacles_near(bodies, obstacles, near, dt)
    found = np.int64(0)  # a bare 0 has a type of its own, for which everything below would be compiled once more
    for _ in range(substeps):
        for i in range(len(bodies)):
            move(bodies[i], h)
        found = collide(bodies, obstacles, near, count, contacts, found)
    for i in range(len(bodies)):
        b = bodies[i]
        b.yaw = (b.yaw + 180.0) % 360.0 - 180.0
        b.travelled += math.hypot(b.vx, b.vy) * dt
        b.ax, b.ay, b.az = (b.vx - b.vx_before) / dt, (b.vy - b.vy_before) / dt, (b.vz - b.vz_before) / dt
        if b.kind == VEHICLE and b.simulated:
            lean(b, dt)
    return int(found)


@compiled
def lean(b: Row, dt: float) -> None:
    """Pitches and rolls a body on its springs and with the slope below it, which changes its looks only."""
    yaw = math.radians(b.yaw)
    ahead = b.ax * math.cos(yaw) + b.ay * math.sin(yaw)
    aside = -b.ax * math.sin(yaw) + b.ay * math.cos(yaw)
    up, over = 0.0, 0.0
    if b.slope_x != 0.0 or b.slope_y != 0.0:
        up = math.degrees(math.atan(b.slope_x * math.cos(yaw) + b.slope_y * math.sin(yaw)))
        over = math.degrees(math.atan(-b.slope_x * math.sin(yaw) + b.slope_y * math.cos(yaw)))
    share = min(1.0, dt / SUSPENSION_TIME)
    b.pitch += (min(max(ahead, -8.0), 8.0) * PITCH_PER_ACCELERATION + up - b.pitch) * share
    b.roll += (-min(max(aside, -8.0), 8.0) * ROLL_PER_ACCELERATION - over - b.roll) * share
