"""Frames per second of the suite's cameras against `physics.render`, 84x84, at the same states.

    MUJOCO_GL=egl LP_NUM_THREADS=0 python -m pytest benchmarks/bench_render.py --benchmark-json=render.json

The two sides alternate, A B A B, in one process. `extra_info["ratio"]` is plain / ours, medians of wall time over the
rounds; `cpu_ratio` the same of this process's CPU time, the steadier figure on a shared machine with LP_NUM_THREADS=0.
Everything goes through dm_control's context bookkeeping: a `mujoco.GLContext` beside it would make dm_control
draw into the wrong context.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from suites import dmc

if TYPE_CHECKING:
    from collections.abc import Callable

    from suites.base import Task

TASKS = {task.name: task for suite in dmc.SUITES for task in suite.tasks if suite.name != "dmc6-ar2"}
ROUNDS = 30


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


@pytest.mark.parametrize("render", ["exact", "fast"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_render(task: Task, render: str, benchmark: Any) -> None:
    env: Any = task.make(0, render=render)
    env.reset(seed=0)
    physics, rng = env.unwrapped.physics, np.random.default_rng(0)
    times: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
    largest, means = 0, []

    def one_round() -> None:
        env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))

    def both() -> None:
        nonlocal largest
        frames: dict[str, Any] = {}
        times["plain"].append(seconds(lambda: frames.update(plain=physics.render(84, 84, camera_id=0))))
        times["ours"].append(seconds(lambda: frames.update(ours=env.unwrapped.render())))
        difference = np.abs(frames["plain"].astype(int) - frames["ours"])
        largest = max(largest, int(difference.max()))
        means.append(float(difference.mean()))

    benchmark.pedantic(both, setup=one_round, rounds=ROUNDS, warmup_rounds=2)
    wall, cpu = ({side: median(rounds[clock] for rounds in times[side][2:]) for side in times} for clock in (0, 1))
    benchmark.extra_info.update(
        plain_ms=wall["plain"] * 1e3,
        ours_ms=wall["ours"] * 1e3,
        ratio=wall["plain"] / wall["ours"],
        plain_cpu_ms=cpu["plain"] * 1e3,
        ours_cpu_ms=cpu["ours"] * 1e3,
        cpu_ratio=cpu["plain"] / cpu["ours"],
        largest_difference=largest,
        mean_difference=float(np.mean(means)),
        mujoco_gl=os.environ.get("MUJOCO_GL", ""),
        lp_num_threads=os.environ.get("LP_NUM_THREADS", ""),
    )
    env.close()
    assert render == "fast" or largest == 0
