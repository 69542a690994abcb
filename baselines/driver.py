"""A careful driver by rules: keeps its lane and its distance, slows down for bends and for people beside the road.

It sees the driving suite's state: three tables of (25, 7) in one row, in the ego's frame (metres ahead, metres to the
right, radians clockwise): the road with the ego in its first row, vehicles, pedestrians. What it earns shows that a
task can be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, NeverLearns
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SPACING = 4.0  # metres between the points of the lane ahead
LOOK_S, LOOK_LEAST = 0.7, 5.5  # seconds and metres ahead that it steers for
SIDEWAYS = 2.5  # m/s2 in bends
COMFORT, HARDEST, PULL = 2.0, 8.0, 3.0  # m/s2: of planned braking, of the brakes, of acceleration
HEADWAY, STANDSTILL = 1.4, 4.0  # seconds and metres behind a vehicle
FORESIGHT = np.arange(0.0, 3.1, 0.25)  # seconds that others are thought on
WALKER_SPEED, WALKER_SIDE, WALKER_NEAR = 5.0, 3.4, 7.0  # m/s past people closer than metres beside, from metres before
STOP_BEFORE = 2.0  # metres
TIMELY = 1.0  # seconds within which meeting a crossing body counts


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    """observation: what the environment is asked for."""

    observation: Literal["state"] = "state"


class Driver(NeverLearns):
    def __init__(self, config: Config, context: Context) -> None:
        if context.obs_shape != (3 * 25 * 7,) or context.action_dim != 2:
            raise UserError(f"the driver drives only tasks of the suite carla; observations here: {context.obs_shape}")

    def act(self, obs: npt.NDArray[Any], step: int, explore: bool) -> npt.NDArray[np.float32]:
        road, vehicles, walkers = obs.astype(np.float64).reshape(3, 25, 7)
        ego, way = road[0], road[1:][np.any(road[1:] != 0.0, axis=1)]
        vehicles, walkers = (table[np.any(table != 0.0, axis=1)] for table in (vehicles, walkers))
        speed = float(ego[0])
        if len(way) < 2:
            return np.array([0.0, -1.0], np.float32)
        metres = _metres(way)
        acceleration = min(
            float(np.clip(_allowed(ego, way, metres, walkers) - speed, -HARDEST / 2, PULL)),
            _behind(ego, way, metres, vehicles),
            _yield_to(ego, way, metres, np.concatenate([walkers, _crossing(way, vehicles)])),
        )
        pedal = acceleration / PULL if acceleration > 0.0 else acceleration / HARDEST
        if acceleration > -0.5:
            pedal += 0.08 + 0.008 * speed  # what rolling costs
        if roll := float(ego[6]):
            pedal = pedal / (2 * roll if pedal > 0.0 else 2.0) - 0.5
        return np.array([_steer(ego, way, metres), pedal], np.float32).clip(-1.0, 1.0)


def _metres(way: Floats) -> Floats:
    """Metres along the way of its points; negative behind the ego."""
    return float(way[0, 0]) + np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(way[:, :2], axis=0).T))])


def _steer(ego: Floats, way: Floats, metres: Floats) -> float:
    """Pure pursuit of a point on the way."""
    look = max(LOOK_LEAST, LOOK_S * float(ego[0]))
    x, y = (float(np.interp(look, metres, way[:, axis])) for axis in (0, 1))
    return float(np.arctan(2.0 * ego[5] * y / max(x * x + y * y, 1.0)) / max(ego[4], 1e-3))


def _allowed(ego: Floats, way: Floats, metres: Floats, walkers: Floats) -> float:
    """m/s that the limit, the bends ahead and people beside the road allow."""
    bend = np.abs(np.diff(np.unwrap(way[:, 2]))) / np.maximum(np.diff(metres), 0.5)
    speeds = np.sqrt(SIDEWAYS / np.maximum(bend, 1e-4))
    limits = [float(ego[1]), float(np.sqrt(speeds**2 + 2 * COMFORT * np.maximum(metres[:-1], 0.0)).min())]
    for walker in walkers:
        ahead, aside = _on_way(way, metres, walker[None, :2])
        if ahead[0] > -1.0 and abs(aside[0]) < WALKER_SIDE:
            limits.append(float(np.sqrt(WALKER_SPEED**2 + 2 * COMFORT * max(ahead[0] - WALKER_NEAR, 0.0))))
    return min(limits)


def _behind(ego: Floats, way: Floats, metres: Floats, vehicles: Floats) -> float:
    """m/s2 that the nearest vehicle on the way allows (intelligent driver model)."""
    speed, allowed = float(ego[0]), PULL
    for vehicle in vehicles:
        ahead, aside = (float(part[0]) for part in _on_way(way, metres, vehicle[None, :2]))
        turned = vehicle[2] - float(np.interp(ahead, metres, np.unwrap(way[:, 2])))
        long, wide = (abs(np.cos(turned)), abs(np.sin(turned))) @ np.array([vehicle[5:7], vehicle[6:4:-1]])
        if ahead <= 0.0 or ahead >= metres[-1] or abs(aside) > ego[3] + wide + 0.35:
            continue
        gap = max(ahead - ego[2] - long, 0.1)
        its = float(vehicle[3] * np.cos(turned - vehicle[2]) - vehicle[4] * np.sin(turned - vehicle[2]))
        wanted = STANDSTILL + max(0.0, speed * HEADWAY + speed * (speed - its) / (2 * np.sqrt(PULL * COMFORT)))
        allowed = min(allowed, PULL * (1.0 - (wanted / gap) ** 2))
    return max(allowed, -HARDEST)


def _crossing(way: Floats, vehicles: Floats) -> Floats:
    """The vehicles that drive across the way, not along it."""
    if not len(vehicles):
        return vehicles
    away = np.hypot(vehicles[:, None, 0] - way[:, 0], vehicles[:, None, 1] - way[:, 1])
    turned = vehicles[:, 2] - way[away.argmin(axis=1), 2]
    crossing: Floats = vehicles[(np.abs(np.sin(turned)) > 0.4) & (np.hypot(vehicles[:, 3], vehicles[:, 4]) > 0.5)]
    return crossing


def _yield_to(ego: Floats, way: Floats, metres: Floats, others: Floats) -> float:
    """m/s2 that stops before those who are, or soon will be, on the way."""
    speed, allowed = float(ego[0]), PULL
    for other in others:
        ahead, aside = _on_way(way, metres, other[:2] + FORESIGHT[:, None] * other[3:5])
        size = float(max(other[5], other[6]))
        meets = (np.abs(aside) < ego[3] + size + 0.6) & (ahead > 0.0) & (ahead < metres[-1])
        gap = ahead - ego[2] - size
        meets &= np.maximum(gap, 0.0) / max(speed, 1.0) < FORESIGHT + TIMELY
        if meets.any():
            room = max(float(gap[meets].min()) - STOP_BEFORE, 0.1)
            needed = speed**2 / (2 * room)
            if needed > 1.0 or room < 3.0:
                allowed = min(allowed, -min(needed + 0.5, HARDEST))
    return allowed


def _on_way(way: Floats, metres: Floats, points: Floats) -> tuple[Floats, Floats]:
    """(metres along the way, metres to the right of it) of points (N, 2)."""
    nearest = np.hypot(points[:, None, 0] - way[:, 0], points[:, None, 1] - way[:, 1]).argmin(axis=1)
    apart = points - way[nearest, :2]
    cos, sin = np.cos(way[nearest, 2]), np.sin(way[nearest, 2])
    return metres[nearest] + apart[:, 0] * cos + apart[:, 1] * sin, apart[:, 1] * cos - apart[:, 0] * sin


AGENT = AgentSpec(name="driver", Config=Config, make=Driver, kind="control", replay_frames=0, sees="state")
