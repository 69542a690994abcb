"""What the signals cost: the time a run spends on them, as a share of its own time.

Read by timers inside one run: what two runs differ by is more than what signals cost.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covr_bench.config.experiment import design
from covr_bench.config.request import Request
from covr_bench.run.session import Session
from covr_bench.run.signals import Signals
from covr_bench.run.watch import Watch
from covr_bench.run.worker import work

STEPS = 4_000
LONG = 100_000  # steps of a paper's run, which takes no more close looks than a short one
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
    task = ("dmc6-ar2", ("drqv2",), ("cartpole_swingup",))
    request = Request(*task, budget="short", env_steps=STEPS, seeds=(0,), out=str(tmp_path))
    (config,) = design(request.resolved()).runs(device="cpu", threads=1, conv_kernel="winograd")
    said: list[dict[str, Any]] = []
    begun = time.perf_counter()
    code = work(config, Session("benchmark"), lambda: False, said.append)
    whole = time.perf_counter() - begun
    assert code == 0, said
    print(f"run {whole:.1f} s; every step and update {counting.seconds:.2f} s, {share(counting.seconds, whole)}")
    print(f"close looks {looking.seconds:.2f} s, {share(looking.seconds, whole)} of this run")
    longer = LONG / STEPS
    print(f"a run of {LONG:,} steps: {share(counting.seconds * longer + looking.seconds, whole * longer)}")


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %"
