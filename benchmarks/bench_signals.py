"""What the signals cost: a run with them against the same run without, A B A B in CPU time."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from covr_bench.config.experiment import design
from covr_bench.config.request import Request
from covr_bench.run.signals import Signals

STEPS = 1_500
ROUNDS = 3


def seconds(folder: Path, number: int) -> float:
    from covr_bench.config import registry
    from covr_bench.run.session import Session
    from covr_bench.run.worker import work

    request = Request("catch", ("drqv2",), ("catch",), budget="short", env_steps=STEPS, seeds=(0,), out=str(folder))
    (config,) = design(request.resolved()).runs(device="cpu", threads=1, conv_kernel="winograd")
    registry.agent(config.agent)
    from dataclasses import replace

    begun = time.process_time()
    said: list[dict[str, Any]] = []
    code = work(replace(config, out=str(folder / str(number))), Session("benchmark"), lambda: False, said.append)
    assert code == 0, said
    return time.process_time() - begun


class Silent(Signals):
    """Watches nothing."""

    def acted(self, *_: Any, **__: Any) -> None: ...

    def update(self, step: int) -> Any:
        return nullcontext()

    def learned(self, metrics: Any) -> None: ...

    def interval(self, step: int) -> dict[str, float]:
        return {}


def test_cost_of_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(2 * ROUNDS):
        name, kind = (("without", Silent), ("with", Signals))[number % 2]
        monkeypatch.setattr("covr_bench.run.run_state.Signals", kind)
        times[name].append(seconds(tmp_path, number))
    print({name: [round(each, 2) for each in found] for name, found in times.items()})
    print(f"signals: {100 * (min(times['with']) / min(times['without']) - 1):.2f} % of a run")
