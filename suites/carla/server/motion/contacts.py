"""Collisions of upright oriented boxes: separating axes, one contact point, an impulse with friction."""

from __future__ import annotations

import math

from suites.carla.maps.jit import compiled
from suites.carla.server.things.bodies import WALKER, Row, Rows

RESTITUTION = 0.1
FRICTION = 0.4
CORRECTION = 0.6  # share of the overlap resolved per substep
SLOP = 0.005  # metres of overlap left alone, so that resting contacts do not tremble
KNOCK_SPEED = 1.5  # m/s of change in velocity that makes a walker fall
DOWN_TIME = 3.0  # seconds it stays down
FLAT = 0.05  # metres within which two corners count as one side


@compiled
def box_centre(b: Row) -> tuple[float, float, float]:
    """Middle of a body's box and its yaw in radians."""
    yaw = math.radians(b.yaw)
    return b.x + b.box_x * math.cos(yaw), b.y + b.box_x * math.sin(yaw), yaw


@compiled
def reach_along(yaw: float, half_x: float, half_y: float, nx: float, ny: float) -> float:
    """Half the length of a box's shadow on the axis (nx, ny)."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return half_x * abs(cos * nx + sin * ny) + half_y * abs(cos * ny - sin * nx)


@compiled
def overlap(a: Row, b: Row) -> tuple[float, float, float]:
    """(depth, normal x, normal y) of two bodies or obstacles; depth <= 0 when apart. The normal leads from a to b."""
    best, normal_x, normal_y = math.inf, 1.0, 0.0
    ax, ay, yaw_a = box_centre(a)
    bx, by, yaw_b = box_centre(b)
    for k in range(4):
        angle = (yaw_a if k < 2 else yaw_b) + (math.pi / 2.0 if k % 2 else 0.0)
        nx, ny = math.cos(angle), math.sin(angle)
        apart = (bx - ax) * nx + (by - ay) * ny
        shadows = reach_along(yaw_a, a.half_x, a.half_y, nx, ny) + reach_along(yaw_b, b.half_x, b.half_y, nx, ny)
        depth = shadows - abs(apart)
        if depth < best:
            sign = 1.0 if apart >= 0.0 else -1.0
            best, normal_x, normal_y = depth, sign * nx, sign * ny
            if depth <= 0.0:
                break
    return best, normal_x, normal_y


@compiled
def facing_side(b: Row, nx: float, ny: float) -> tuple[float, float, float]:
    """(distance of a box's foremost corner along (nx, ny), and the stretch across it of the corners that far out)."""
    x, y, yaw = box_centre(b)
    cos, sin = math.cos(yaw), math.sin(yaw)
    foremost = x * nx + y * ny + reach_along(yaw, b.half_x, b.half_y, nx, ny)
    low, high = math.inf, -math.inf
    for i in range(4):
        u = b.half_x if i in (0, 3) else -b.half_x
        v = b.half_y if i < 2 else -b.half_y
        corner_x, corner_y = x + u * cos - v * sin, y + u * sin + v * cos
        if corner_x * nx + corner_y * ny > foremost - FLAT:
            across = corner_y * nx - corner_x * ny
            low, high = min(low, across), max(high, across)
    return foremost, low, high


@compiled
def contact_point(a: Row, b: Row, nx: float, ny: float) -> tuple[float, float]:
    """Where two overlapping boxes push: the middle of the stretch that their facing sides share."""
    ahead, low_a, high_a = facing_side(a, nx, ny)
    behind, low_b, high_b = facing_side(b, -nx, -ny)
    across = (max(low_a, -high_b) + min(high_a, -low_b)) / 2.0
    depth = (ahead - behind) / 2.0
    return nx * depth - ny * across, ny * depth + nx * across


@compiled
def push(b: Row, x: float, y: float, impulse_x: float, impulse_y: float) -> None:
    """Applies an impulse in N s at a point to a body that can move."""
    b.vx += impulse_x / b.mass
    b.vy += impulse_y / b.mass
    if b.kind == WALKER:
        if math.hypot(impulse_x, impulse_y) / b.mass > KNOCK_SPEED:
            b.down = DOWN_TIME
    else:
        torque = (x - b.x) * impulse_y - (y - b.y) * impulse_x
        b.yaw_rate += math.degrees(torque / b.inertia)


@compiled
def point_mass(b: Row, x: float, y: float, nx: float, ny: float) -> float:
    """Inverse of the mass that a body presents at a point in a direction."""
    turning = 0.0 if b.kind == WALKER else ((x - b.x) * ny - (y - b.y) * nx) ** 2 / b.inertia
    return float(1.0 / b.mass + turning)


@compiled
def impulse_at(
    a: Row, b: Row, moves_a: bool, moves_b: bool, x: float, y: float, nx: float, ny: float
) -> tuple[float, float]:
    """The impulse on `b` that ends the approach along the normal (nx, ny) from a to b, with friction across it."""
    rate_a, rate_b = math.radians(a.yaw_rate), math.radians(b.yaw_rate)
    dvx = (b.vx - rate_b * (y - b.y)) - (a.vx - rate_a * (y - a.y))
    dvy = (b.vy + rate_b * (x - b.x)) - (a.vy + rate_a * (x - a.x))
    approach = dvx * nx + dvy * ny
    if approach >= 0.0:
        return 0.0, 0.0
    tx, ty = -ny, nx
    normal_mass = tangent_mass = 0.0
    if moves_a:
        normal_mass += point_mass(a, x, y, nx, ny)
        tangent_mass += point_mass(a, x, y, tx, ty)
    if moves_b:
        normal_mass += point_mass(b, x, y, nx, ny)
        tangent_mass += point_mass(b, x, y, tx, ty)
    along = -(1.0 + RESTITUTION) * approach / normal_mass
    across = -(dvx * tx + dvy * ty) / tangent_mass
    across = min(max(across, -FRICTION * along), FRICTION * along)
    return along * nx + across * tx, along * ny + across * ty


@compiled
def record(contacts: Rows, found: int, a: int, b: int, impulse_x: float, impulse_y: float) -> int:
    """Adds an impulse on row `a` to the tick's list; returns the list's new length."""
    for i in range(found):
        if contacts[i].a == a and contacts[i].b == b:
            contacts[i].x += impulse_x
            contacts[i].y += impulse_y
            return found
    if found < len(contacts):
        contacts[found].a, contacts[found].b = a, b
        contacts[found].x, contacts[found].y, contacts[found].z = impulse_x, impulse_y, 0.0
        return found + 1
    return found


@compiled
def obstacles_near(bodies: Rows, obstacles: Rows, near: Rows, dt: float) -> int:
    """Writes the indices of the obstacles that a body may reach within `dt` seconds; returns how many there are."""
    count = 0
    for k in range(len(obstacles)):
        o = obstacles[k]
        for i in range(len(bodies)):
            a = bodies[i]
            far = a.half_x + a.half_y + o.half_x + o.half_y + 1.0 + dt * (abs(a.vx) + abs(a.vy))
            if a.simulated and abs(a.x - o.x) < far and abs(a.y - o.y) < far:
                near[count] = k
                count += 1
                break
    return count


@compiled
def collide(bodies: Rows, obstacles: Rows, near: Rows, count: int, contacts: Rows, found: int) -> int:
    """Resolves every overlap once, with the `count` obstacles listed in `near`; returns the new number of contacts."""
    for i in range(len(bodies)):
        a = bodies[i]
        if not a.collides:
            continue
        ax, ay, _ = box_centre(a)
        reach = math.hypot(a.half_x, a.half_y)
        for j in range(i + 1, len(bodies)):
            b = bodies[j]
            if not b.collides or not (a.simulated or b.simulated):
                continue
            bx, by, _ = box_centre(b)
            far = reach + math.hypot(b.half_x, b.half_y)
            if (ax - bx) ** 2 + (ay - by) ** 2 < far * far:
                found = collide_pair(bodies, i, j, contacts, found)
        if a.simulated:
            for n in range(count):
                k = near[n]
                o = obstacles[k]
                far = reach + math.hypot(o.half_x, o.half_y)
                if (ax - o.x) ** 2 + (ay - o.y) ** 2 < far * far:
                    found = collide_obstacle(bodies, i, obstacles, k, contacts, found)
    return found


@compiled
def collide_pair(bodies: Rows, i: int, j: int, contacts: Rows, found: int) -> int:
    a, b = bodies[i], bodies[j]
    if abs((a.z + a.box_z) - (b.z + b.box_z)) > a.half_z + b.half_z:
        return found
    depth, nx, ny = overlap(a, b)
    if depth <= 0.0:
        return found
    x, y = contact_point(a, b, nx, ny)
    impulse_x, impulse_y = impulse_at(a, b, a.simulated, b.simulated, x, y, nx, ny)
    share_a = 1.0 / a.mass if a.simulated else 0.0
    share_b = 1.0 / b.mass if b.simulated else 0.0
    shift = CORRECTION * max(depth - SLOP, 0.0) / (share_a + share_b)
    a.x, a.y = a.x - nx * shift * share_a, a.y - ny * shift * share_a
    b.x, b.y = b.x + nx * shift * share_b, b.y + ny * shift * share_b
    if a.simulated:
        push(a, x, y, -impulse_x, -impulse_y)
    if b.simulated:
        push(b, x, y, impulse_x, impulse_y)
    return record(contacts, found, i, j, -impulse_x, -impulse_y)


@compiled
def collide_obstacle(bodies: Rows, i: int, obstacles: Rows, k: int, contacts: Rows, found: int) -> int:
    a, o = bodies[i], obstacles[k]
    if abs((a.z + a.box_z) - (o.z + o.box_z)) > a.half_z + o.half_z:
        return found
    depth, nx, ny = overlap(a, o)
    if depth <= 0.0:
        return found
    x, y = contact_point(a, o, nx, ny)
    rate = math.radians(a.yaw_rate)
    vx, vy = a.vx - rate * (y - a.y), a.vy + rate * (x - a.x)
    approach = vx * nx + vy * ny
    a.x, a.y = a.x - nx * CORRECTION * max(depth - SLOP, 0.0), a.y - ny * CORRECTION * max(depth - SLOP, 0.0)
    if approach <= 0.0:
        return record(contacts, found, i, -1 - k, 0.0, 0.0)
    along = (1.0 + RESTITUTION) * approach / point_mass(a, x, y, nx, ny)
    across = (-vx * ny + vy * nx) / point_mass(a, x, y, -ny, nx)
    across = min(max(across, -FRICTION * along), FRICTION * along)
    impulse_x, impulse_y = -along * nx + across * ny, -along * ny - across * nx
    push(a, x, y, impulse_x, impulse_y)
    return record(contacts, found, i, -1 - k, impulse_x, impulse_y)


@compiled
def touches(bodies: Rows, obstacles: Rows, i: int) -> bool:
    """Whether body `i` overlaps another body or an obstacle."""
    a = bodies[i]
    for j in range(len(bodies)):
        b = bodies[j]
        near = j != i and b.collides and abs((a.z + a.box_z) - (b.z + b.box_z)) < a.half_z + b.half_z
        if near and overlap(a, b)[0] > 0.0:
            return True
    for k in range(len(obstacles)):
        o = obstacles[k]
        if abs((a.z + a.box_z) - (o.z + o.box_z)) < a.half_z + o.half_z and overlap(a, o)[0] > 0.0:
            return True
    return False
