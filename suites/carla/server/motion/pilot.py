"""What a server-driven vehicle sees and how it works its pedals and wheel: the compiled part of `traffic`."""

from __future__ import annotations

import math

from suites.carla.maps.jit import compiled
from suites.carla.server.motion.dynamics import EFFICIENCY, GRAVITY, ROLLING, curve
from suites.carla.server.things.bodies import WALKER, Row, Rows

MARGIN = 0.35  # metres kept beside other bodies
REACH = 120.0  # metres looked ahead
SIDE = 5.5  # metres to the side that belong to the next lane
COMFORT = 2.0  # m/s2 of braking for bends
MAX_ACCELERATION, DECELERATION, HARDEST = 2.0, 2.5, 8.0  # m/s2
STANDSTILL = 2.5  # metres between stopped vehicles
# Columns of a path.
X, Y, S, SPEED = range(4)


@compiled
def advance_on(path: Rows, at: int, x: float, y: float) -> int:
    """Index of the path point nearest to (x, y), from `at` onwards."""
    best, nearest = at, math.inf
    for i in range(at, min(at + 30, len(path))):
        d = (path[i, X] - x) ** 2 + (path[i, Y] - y) ** 2
        if d < nearest:
            best, nearest = i, d
    return best


@compiled
def leader(path: Rows, at: int, bodies: Rows, me: int) -> tuple[float, float]:
    """(gap in metres, speed along the path in m/s) of the nearest body in the way; the gap is inf when it is free."""
    b = bodies[me]
    gap, speed = math.inf, 0.0
    for j in range(len(bodies)):
        o = bodies[j]
        if j == me or not o.collides or (o.x - b.x) ** 2 + (o.y - b.y) ** 2 > REACH * REACH:
            continue
        best, nearest = -1, math.inf
        for i in range(at, len(path)):
            if path[i, S] - path[at, S] > REACH:
                break
            d = (path[i, X] - o.x) ** 2 + (path[i, Y] - o.y) ** 2
            if d < nearest:
                best, nearest = i, d
        if best <= at:
            continue
        i = min(best, len(path) - 2)
        along = math.atan2(path[i + 1, Y] - path[i, Y], path[i + 1, X] - path[i, X])
        turned = math.radians(o.yaw) - along
        cos, sin = abs(math.cos(turned)), abs(math.sin(turned))
        beside = abs(-(o.x - path[best, X]) * math.sin(along) + (o.y - path[best, Y]) * math.cos(along))
        room = 1.0 if o.kind == WALKER else MARGIN
        if beside > b.half_y + cos * o.half_y + sin * o.half_x + room:
            continue
        ahead = path[best, S] - path[at, S] - b.half_x - cos * o.half_x - sin * o.half_y
        if ahead < gap:
            gap, speed = ahead, o.vx * math.cos(along) + o.vy * math.sin(along)
    return gap, speed


@compiled
def free_beside(bodies: Rows, me: int, speed: float, right: bool) -> bool:
    """Whether the lane on one side is free beside a vehicle and far enough back for those who come from behind."""
    b = bodies[me]
    yaw = math.radians(b.yaw)
    cos, sin = math.cos(yaw), math.sin(yaw)
    for j in range(len(bodies)):
        o = bodies[j]
        if j == me or not o.collides:
            continue
        ahead = (o.x - b.x) * cos + (o.y - b.y) * sin
        aside = -(o.x - b.x) * sin + (o.y - b.y) * cos
        if not right:
            aside = -aside
        if aside < 0.5 or aside > SIDE or ahead > b.half_x + o.half_x + STANDSTILL:
            continue
        closing = o.vx * cos + o.vy * sin - speed
        if -ahead < b.half_x + o.half_x + STANDSTILL + 0.5 * speed + max(0.0, closing) * 3.0:
            return False
    return True


@compiled
def bend_speed(path: Rows, at: int, most: float) -> float:
    """The speed in m/s from which the advised speeds ahead can be reached by braking gently."""
    for i in range(at, len(path)):
        distance = path[i, S] - path[at, S]
        if distance > REACH:
            break
        most = min(most, math.sqrt(path[i, SPEED] ** 2 + 2.0 * COMFORT * distance))
    return most


@compiled
def follow(speed: float, wanted: float, gap: float, ahead: float, headway: float) -> float:
    """Acceleration in m/s2 of the intelligent driver model behind a body `gap` metres away at speed `ahead`."""
    free = 1.0 - (speed / max(wanted, 0.1)) ** 4
    approach = speed * (speed - ahead) / (2.0 * math.sqrt(MAX_ACCELERATION * DECELERATION))
    near = STANDSTILL + max(0.0, speed * headway + approach)
    return max(-HARDEST, MAX_ACCELERATION * (free - (near / max(gap, 0.1)) ** 2))


@compiled
def steer_towards(b: Row, path: Rows, at: int, speed: float) -> float:
    """Steering in [-1, 1] by pure pursuit of a point some 0.8 s ahead."""
    look = max(4.5, 0.8 * speed)
    i = at
    while i < len(path) - 1 and path[i, S] - path[at, S] < look:
        i += 1
    dx, dy = path[i, X] - b.x, path[i, Y] - b.y
    yaw = math.radians(b.yaw)
    right = -dx * math.sin(yaw) + dy * math.cos(yaw)
    angle = math.atan(2.0 * (b.front + b.rear) * right / max(dx * dx + dy * dy, 1.0))
    most = b.max_steer * curve(speed * 3.6, b.steering_speed, b.steering, b.steering_points)
    return float(min(max(angle / max(most, 1e-3), -1.0), 1.0))


@compiled
def pedals(b: Row, speed: float, acceleration: float) -> tuple[float, float]:
    """(throttle, brake) that give a vehicle about this acceleration."""
    ratio = b.ratios[max(b.gear, 1) - 1] * b.final_ratio
    engine_drag = b.engine_drag * (b.rpm / b.max_rpm) * ratio / b.radius
    yaw = math.radians(b.yaw)
    uphill = GRAVITY * (b.slope_x * math.cos(yaw) + b.slope_y * math.sin(yaw))
    force = b.mass * (acceleration + ROLLING * GRAVITY + uphill) + b.drag * speed * speed
    if force >= -engine_drag:
        most = curve(b.rpm, b.torque_rpm, b.torque, b.torque_points) * ratio * EFFICIENCY / b.radius
        return min(1.0, max(0.0, (force + engine_drag) / max(most + engine_drag, 1.0))), 0.0
    return 0.0, min(1.0, (-force - engine_drag) * b.radius / max(b.brake_torque, 1.0))


@compiled
def drive(
    bodies: Rows, me: int, path: Rows, at: int, wanted: float, headway: float, stop_at: float
) -> tuple[int, float, float, float]:
    """Sets the controls of vehicle `me`; returns (index on the path, gap, speed of the leader, own speed).

    wanted: m/s; stop_at: metres along the path that must not be passed (inf: none).
    """
    b = bodies[me]
    at = advance_on(path, at, b.x, b.y)
    yaw = math.radians(b.yaw)
    speed = max(0.0, b.vx * math.cos(yaw) + b.vy * math.sin(yaw))
    gap, ahead = leader(path, at, bodies, me)
    acceleration = follow(speed, bend_speed(path, at, wanted), gap, ahead, headway)
    line = min(stop_at, path[len(path) - 1, S]) - path[at, S] - b.half_x
    acceleration = min(acceleration, follow(speed, wanted, line + STANDSTILL - 1.0, 0.0, 0.5))
    b.steer = steer_towards(b, path, at, speed)
    if speed < 0.3 and acceleration < 0.0:
        b.throttle, b.brake = 0.0, 1.0
    else:
        b.throttle, b.brake = pedals(b, speed, acceleration)
    b.hand_brake, b.reverse, b.manual = False, False, False
    return at, gap, ahead, speed


@compiled
def hold(
    bodies: Rows, me: int, steer: float, steer_speed: float, wanted: float, most: float, jerk: float, delta: float
) -> None:
    """Ackermann control of vehicle `me` over `delta` seconds.

    steer: wheel angle (rad); steer_speed: of its change (rad/s; 0: at once); wanted: speed (m/s); most: acceleration
    (m/s2; 0: as it can).
    """
    b = bodies[me]
    yaw = math.radians(b.yaw)
    forward = b.vx * math.cos(yaw) + b.vy * math.sin(yaw)
    angle = b.max_steer * curve(abs(forward) * 3.6, b.steering_speed, b.steering, b.steering_points)
    turned = min(max(steer / max(angle, 1e-3), -1.0), 1.0)
    if steer_speed > 0.0:
        most_turn = steer_speed * delta / max(angle, 1e-3)
        turned = min(max(turned, b.steer - most_turn), b.steer + most_turn)
    b.steer = turned
    b.reverse = wanted < 0.0 and forward < 0.5
    limit = abs(most) if most != 0.0 else HARDEST
    direction = -1.0 if b.reverse else 1.0
    acceleration = min(max(direction * (wanted - forward) / 0.3, -limit), limit)
    b.hand_brake, b.manual = False, False
    if wanted == 0.0 and abs(forward) < 0.2:
        b.throttle, b.brake = 0.0, 1.0
    else:
        b.throttle, b.brake = pedals(b, abs(forward), acceleration)
