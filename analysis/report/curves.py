"""Learning curves as numbers for the page: by task and agent the mean over seeds, its interval, and each seed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures import style
from analysis.rows.held import by_run, held, shared_grid
from analysis.rows.scores import PROTOCOL, agent_names, counted, returns
from analysis.statistics.bootstrap import CONFIDENCE
from analysis.statistics.summary import efficiency

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd

    from analysis.rows.held import Steps
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap

    Floats = npt.NDArray[np.float64]

MAX_POINTS = 200  # of a curve; a screen cannot show more
MAX_SEED_LINES = 1000  # of all curves; a page with more would open slowly
_DIGITS = 6


def panels(frame: pd.DataFrame, comparison: Comparison, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """The panels of learning curves, as JSON values.

    Args:
        frame: Rows as `results.store.read` returns them, up to the step at which scores are taken.
        comparison: The agents of one protocol.
        bootstrap: Replicates and seed.

    Returns:
        One panel per task with a finite evaluation; for several tasks also one with the IQM over them. A panel has
        `title`, `unit`, `xs` (lists of environment steps) and `series`, each with `agent` (its index in the sorted
        names), `x` (its index in xs), `mean`, `low`, `high` (null if unknown), `n`, and `seeds`, each with `seed`, `x`
        and `y`.
    """
    rows = counted(returns(frame))
    rows = rows[(rows[PROTOCOL] == [comparison.suite, comparison.budget, comparison.setting]).all(axis=1)]
    rows = rows.assign(name=agent_names(rows)).sort_values("env_steps", kind="stable")
    names = sorted(comparison.scores)
    with_seeds = rows["run_id"].nunique() <= MAX_SEED_LINES
    result = []
    for task in comparison.tasks:
        name, _, repeat = task.partition(" (action repeat ")
        on_task = rows[rows["task"] == name]
        on_task = on_task[on_task["action_repeat"] == int(repeat[:-1])] if repeat else on_task
        if np.isfinite(on_task["value"]).any():
            result.append(_panel(task, on_task, names, bootstrap, with_seeds))
    return result + (_over_tasks(comparison, names, bootstrap) if len(comparison.tasks) > 1 else [])


def agents(comparison: Comparison) -> list[dict[str, Any]]:
    """Name, colour and dash pattern (in line widths, empty for a solid line) of each agent, as in the figures."""
    known = style.styles(sorted(comparison.scores))
    dashes = {name: each["linestyle"] for name, each in known.items()}
    return [
        {"name": name, "color": each["color"], "dash": [] if dashes[name] == "-" else list(dashes[name][1])}
        for name, each in known.items()
    ]


def mean_and_interval(steps: Steps, values: Sequence[Floats], bootstrap: Bootstrap) -> tuple[Floats, Floats]:
    """Mean over runs against environment steps, with its bootstrap interval.

    At each step a run has the value of its last evaluation so far. The grid reaches from the first step at which every
    run has one to the end of the shortest run. The interval's draws are those of `analysis.statistics.bootstrap`.

    Args:
        steps: Per run the environment steps of its evaluations, increasing.
        values: Per run its returns.
        bootstrap: Replicates and seed.

    Returns:
        Grid `(num_steps,)`, and mean, low and high, float64 `(3, num_steps)`. If a run is NaN, so are all three; with
        one run low and high are NaN.
    """
    grid = _thinned(shared_grid(steps))
    runs = held(steps, values, grid)
    count = len(runs)
    if count == 1 or not len(grid):
        return grid, np.vstack([runs.mean(axis=0), np.full((2, len(grid)), np.nan)])
    weights = _weights(count, bootstrap.curve_reps, bootstrap.seed)
    tail = 50 * (1 - CONFIDENCE)
    return grid, np.vstack([runs.mean(axis=0), np.percentile(weights @ runs, (tail, 100 - tail), axis=0)])


@lru_cache(maxsize=8)  # a store has most agents with as many seeds
def _weights(count: int, reps: int, seed: int) -> Floats:
    """The share of each of `count` runs in each replicate, float64 `(reps, count)`."""
    drawn = np.random.RandomState(seed).randint(0, count, (reps, count), np.int32)
    place = drawn + count * np.arange(reps)[:, None]
    weights: Floats = np.bincount(place.ravel(), minlength=reps * count).reshape(reps, count) / count
    weights.setflags(write=False)
    return weights


def _panel(
    title: str, rows: pd.DataFrame, names: Sequence[str], bootstrap: Bootstrap, with_seeds: bool
) -> dict[str, Any]:
    xs: dict[tuple[int, ...], int] = {}
    series = []
    for name, agent_rows in rows.groupby("name", sort=True):
        agent_rows = agent_rows.sort_values(["seed", "run_id", "env_steps"], kind="stable")
        steps, values = by_run(agent_rows)
        grid, estimate = mean_and_interval(steps, values, bootstrap)
        seeds = [
            {"seed": seed, "x": _place(xs, _thinned(x)), "y": _numbers(_thinned(y))}
            for seed, x, y in zip(agent_rows.drop_duplicates("run_id")["seed"].tolist(), steps, values, strict=True)
            if with_seeds
        ]
        series.append(_series(names.index(str(name)), _place(xs, grid), estimate, len(steps), seeds))
    return {"title": title, "unit": "return", "xs": list(map(list, xs)), "series": series}


def _over_tasks(comparison: Comparison, names: Sequence[str], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    xs: dict[tuple[int, ...], int] = {}
    series = []
    for name, (steps, estimate) in efficiency(comparison, bootstrap).items():
        if len(steps):
            runs = int(np.isfinite(comparison.scores[name]).sum())
            series.append(_series(names.index(name), _place(xs, steps), estimate, runs, []))
    panel = {"title": "all tasks", "unit": "IQM of normalised scores", "xs": list(map(list, xs)), "series": series}
    return [panel] if series else []


def _series(agent: int, x: int, estimate: Floats, n: int, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    mean, low, high = map(_numbers, estimate)
    return {"agent": agent, "x": x, "mean": mean, "low": low, "high": high, "n": n, "seeds": seeds}


def _place(xs: dict[tuple[int, ...], int], steps: npt.NDArray[Any]) -> int:
    return xs.setdefault(tuple(int(step) for step in steps), len(xs))


def _thinned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """At most MAX_POINTS of the values, ends included."""
    if len(array) <= MAX_POINTS:
        return array
    kept: npt.NDArray[Any] = array[np.linspace(0, len(array) - 1, MAX_POINTS).round().astype(int)]
    return kept


def _numbers(values: Floats) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None for value in values]
