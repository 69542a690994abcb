"""What one control step of a driving episode tells, and what an episode makes of it: reward, ends, measures."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DT = 0.05  # seconds of a control step
EPISODE_STEPS = 1000
COLLISION_WEIGHT = 1e-4  # reward lost per N s
STUCK_METRES, STUCK_STEPS = 2.0, 100  # a car that moves less than so far in so many steps (five seconds) is stuck
APART = 20  # control steps, a second, between contacts with the same thing that make the later one a new collision
KINDS = ("vehicle", "walker", "static")
ENDS = ("collision", "off_road", "stuck", "horizon")


class Contact(NamedTuple):
    """The ego touched something. kind: one of `KINDS`; other: the actor's id, 0 for a part of the map; impulse: N s."""

    kind: str
    other: int
    impulse: float


class Tick(NamedTuple):
    """The world after a control step.

    picture: uint8 (H, W, 3), the cameras side by side. state: float32 (3, 25, 7), see `privileged`; None if not wanted.
    lane_speed: m/s along the lane's direction; speed: m/s; moved: metres since the last tick; on_road: whether the
    ego's middle is on a driving lane.
    """

    picture: NDArray[np.uint8]
    state: NDArray[np.float32] | None
    lane_speed: float
    speed: float
    moved: float
    on_road: bool
    contacts: tuple[Contact, ...]


class Episode:
    """Adds up an episode. end_on_collision: whether the first collision is the end."""

    def __init__(self, end_on_collision: bool) -> None:
        self._end_on_collision = end_on_collision
        self.steps = 0
        self.reason = ""  # one of `ENDS`, once the episode is over
        self._distance = self._impulse = self._speed = self._steer = self._brake = 0.0
        self._collisions = dict.fromkeys(KINDS, 0)
        self._touched: dict[tuple[str, int], int] = {}  # the step of the last contact
        self._moved: deque[float] = deque(maxlen=STUCK_STEPS)

    def add(self, tick: Tick, steer: float, pedal: float) -> float:
        """Counts a control step; returns its reward: `lane_speed * DT - 1e-4 * impulse - |steer|`."""
        self.steps += 1
        impulse = sum(contact.impulse for contact in tick.contacts)
        for contact in tick.contacts:
            key = contact.kind, contact.other
            self._collisions[contact.kind] += self.steps - self._touched.get(key, -APART) >= APART
            self._touched[key] = self.steps
        self._moved.append(tick.moved)
        self._distance += tick.moved
        self._impulse += impulse
        self._speed += tick.speed
        self._steer += abs(steer)
        self._brake += max(-pedal, 0.0)
        self.reason = self._reason(tick)
        return tick.lane_speed * DT - COLLISION_WEIGHT * impulse - abs(steer)

    def _reason(self, tick: Tick) -> str:
        if self._end_on_collision and tick.contacts:
            return "collision"
        if not tick.on_road:
            return "off_road"
        if len(self._moved) == STUCK_STEPS and sum(self._moved) < STUCK_METRES:
            return "stuck"
        return "horizon" if self.steps >= EPISODE_STEPS else ""

    def metrics(self) -> dict[str, float]:
        """The measures of the episode so far, by name; see docs/driving.md."""
        collisions = sum(self._collisions.values())
        return {
            "driving_distance_m": self._distance,
            "collisions": float(collisions),
            "collision_impulse_ns": self._impulse,
            **{f"collisions_{kind}": float(count) for kind, count in self._collisions.items()},
            "collided": float(collisions > 0),
            "off_road": float(self.reason == "off_road"),
            "stuck": float(self.reason == "stuck"),
            "mean_speed_mps": self._speed / max(self.steps, 1),
            "mean_abs_steer": self._steer / max(self.steps, 1),
            "brake_use": self._brake / max(self.steps, 1),
            **{f"end_{reason}": float(self.reason == reason) for reason in ENDS},
        }
