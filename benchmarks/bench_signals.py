"""What the signals cost: the time a run spends on them, as a share of its own time.

Read by timers inside one run: a run with signals against a run without differs by less than two runs of the same kind do.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from covr_bench.config.experiment import design
from covr_bench.config.request import Request
from covr_bench.run.session import Session
from covr_bench.run.signals import Signals
from covr_bench.run.watch import Watch
from covr_bench.run.worker import work

STEPS = 1_500
WATCHED_STEPS = 100_000  # of a run as papers make it, which takes as many close looks as a short one
COUNTED = ("acted", "learned", "interval")
LOOKED = ("__enter__", "__exit__", "_before_step", "_before_forward")


class Clock:
    """Seconds inside the methods it has wrapped; a call within a call counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            begun = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self._depth -= 1
                self.seconds += 0 if self._depth else time.perf_counter() - begun

        return timed


def test_cost_of_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting, looking = Clock(), Clock()
    for kind, names, clock in ((Signals, COUNTED, counting), (Watch, LOOKED, looking)):
        for name in names:
            monkeypatch.setattr(kind, name, clock.wrap(getattr(kind, name)))
    request = Request("dmc6", ("drqv2",), ("cartpole_swingup",), budget="short", env_steps=STEPS, seeds=(0,), out=str(tmp_path))
    (config,) = design(request.resolved()).runs(device="cpu", threads=1, conv_kernel="winograd")
    said: list[dict[str, Any]] = []
    begun = time.perf_counter()
    code = work(config, Session("benchmark"), lambda: False, said.append)
    whole = time.perf_counter() - begun
    assert code == 0, said
    print(f"run {whole:.1f} s; every step and update {counting.seconds:.2f} s, {share(counting.seconds, whole)}")
    print(f"close looks {looking.seconds:.2f} s, {share(looking.seconds, whole)} of this run")
    long = whole * WATCHED_STEPS / STEPS
    print(f"a run of {WATCHED_STEPS:,} steps: {share(counting.seconds * WATCHED_STEPS / STEPS + looking.seconds, long)}")


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %"
