"""The base of all sensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from suites.carla.server.protocol.streams import Part
from suites.carla.server.things.actors import Actor
from suites.carla.server.world import World


class Sensor(Actor):
    """An actor with a stream. number: its sensor type on the wire."""

    number: ClassVar[int]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._interval = float(self.attributes.get("sensor_tick", 0.0))
        self._due = 0.0
        self.random = np.random.default_rng(abs(int(self.attributes.get("noise_seed", 0))))

    def due(self, now: float) -> bool:
        """Whether it measures at this tick."""
        if now < self._due - 1e-6:
            return False
        late = now - self._due
        self._due += self._interval if late < self._interval else late + self._interval
        return True

    def number_of(self, name: str) -> float:
        """The value of a numeric attribute."""
        return float(self.attributes[name])

    def noise(self, name: str) -> float:
        """A draw of normal noise whose standard deviation an attribute states."""
        deviation = self.number_of(name)
        return float(self.random.normal(0.0, deviation)) if deviation > 0.0 else 0.0

    @property
    def carrier_row(self) -> int:
        """The body that it is attached to, directly or through other sensors; -1 for none."""
        actor: Actor | None = self.parent
        while actor and actor.row < 0:
            actor = actor.parent
        return actor.row if actor else -1

    def measure(self, world: World) -> Iterable[list[Part]]:
        """The payloads of this tick: none, one, or (events) several."""
        raise NotImplementedError
