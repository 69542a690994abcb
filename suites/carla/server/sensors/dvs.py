"""The dynamic vision sensor: an event for each step that a pixel's brightness rises or falls between two pictures.

Between two pictures the brightness is taken to change evenly, as CARLA's sensor does; an event's time is when it
crosses the threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.carla.server.protocol import versions
from suites.carla.server.protocol.streams import Part
from suites.carla.server.sensors.cameras import Camera
from suites.carla.server.world import World

Floats = NDArray[np.float64]
EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("pol", "?")])  # t in ns of simulated time
assert EVENT.itemsize == 13
LUMA = np.array([0.114, 0.587, 0.299])  # of blue, green, red
MOST = 20  # events of one pixel in one picture


class DvsCamera(Camera):
    """Events in the order of their times. The first picture has none."""

    number, picture = versions.DVS, "rgb"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._before: Floats | None = None  # brightness (H, W) up to which events were sent
        self._time = 0.0

    def message(self, world: World, pixels: NDArray[np.uint8] | None) -> list[Part]:
        events = np.empty(0, EVENT)
        if pixels is not None:
            now = self._brightness(pixels)
            if self._before is None:
                self._before = now
            events = self._events(now, self._time, world.time)
        self._time = world.time
        return [self.head(), events.tobytes()]

    def _brightness(self, pixels: NDArray[np.uint8]) -> Floats:
        grey: Floats = pixels[..., :3] @ LUMA / 255.0
        if self.attributes["use_log"].lower() in ("true", "1"):
            grey = np.log(grey + max(1e-9, self.number_of("log_eps")))
        return grey

    def _events(self, now: Floats, begin: float, end: float) -> NDArray[Any]:
        assert self._before is not None
        found = []
        for rises, name in ((True, "positive"), (False, "negative")):
            step = self._threshold(name, now.shape)
            change = (now - self._before) if rises else (self._before - now)
            count = np.minimum(np.maximum(change, 0.0) // step, MOST).astype(np.int64)
            found.append(self._crossings(count, step, change, rises, begin, end))
            self._before = self._before + (1.0 if rises else -1.0) * count * step
        events = np.concatenate(found)
        return events[np.argsort(events["t"], kind="stable")]

    def _threshold(self, name: str, shape: tuple[int, ...]) -> Floats:
        """(H, W): the contrast that makes an event, with the noise asked for."""
        mean, deviation = self.number_of(f"{name}_threshold"), self.number_of(f"sigma_{name}_threshold")
        noise = self.random.normal(0.0, deviation, shape) if deviation > 0.0 else np.zeros(shape)
        return np.maximum(mean + noise, 1e-3)

    def _crossings(
        self, count: NDArray[np.int64], step: Floats, change: Floats, rises: bool, begin: float, end: float
    ) -> NDArray[Any]:
        rows, columns = np.nonzero(count)
        times = count[rows, columns]
        number = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times) + 1  # 1, 2, ... of each pixel
        rows, columns = np.repeat(rows, times), np.repeat(columns, times)
        share = number * step[rows, columns] / change[rows, columns]
        events = np.empty(len(rows), EVENT)
        events["x"], events["y"], events["pol"] = columns, rows, rises
        events["t"] = np.rint((begin + share * (end - begin)) * 1e9)
        rest = int(self.attributes["refractory_period_ns"])
        spacing = step[rows, columns] / change[rows, columns] * (end - begin) * 1e9
        return events[(number == 1) | (spacing >= rest)] if rest > 0 else events
