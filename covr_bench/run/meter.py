"""Where a run's time goes, and what its launcher is told of it."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REPORT_EVERY_S = 1.0
REPORTED_SPEED_OVER = 180  # reports: the warm-up, which does not learn, would otherwise promise too much for long

Report = Callable[[dict[str, Any]], None]


class Meter:
    """The clock of one session of a run.

    Args:
        report: Told the phase, the steps, the speed and the last return, at most once a second.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seconds: dict[str, float] = defaultdict(float)
        self._recent: deque[tuple[float, int]] = deque(maxlen=REPORTED_SPEED_OVER)
        self.last_return = float("nan")
        self.start(0)

    def start(self, env_steps: int) -> None:
        """Begin to measure, at this step."""
        self._started = time.monotonic()
        self._first_step = env_steps
        self._reported = 0.0
        self._recent.clear()

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the seconds inside towards a phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[phase] += time.monotonic() - start

    def tell(self, phase: str, env_steps: int, *, now: bool = False) -> None:
        """Report, if a second has passed since the last report; with `now` in any case."""
        if not now and time.monotonic() - self._reported <= REPORT_EVERY_S:
            return
        self._reported = time.monotonic()
        self._recent.append((self._reported, env_steps))
        since, steps = self._recent[0]
        speed = (env_steps - steps) / max(self._reported - since, 1e-9)
        self._report(
            {"phase": phase, "env_steps": env_steps, "env_steps_per_s": speed, "last_return": self.last_return}
        )

    def throughput(self, env_steps: int) -> dict[str, float]:
        """Environment steps per second of this session and each phase's share of it; empty before the first step."""
        elapsed = time.monotonic() - self._started
        if env_steps <= self._first_step or elapsed <= 0:
            return {}
        shares = {f"{phase}_share": seconds / elapsed for phase, seconds in self._seconds.items()}
        other = max(0.0, 1.0 - sum(self._seconds.values()) / elapsed)
        return {"env_steps_per_s": (env_steps - self._first_step) / elapsed, **shares, "other_share": other}
