"""Statistics as text and as CSV: the content of `covr-bench stats`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.grids import Grid
from analysis.grids import to_csv as csv_text
from analysis.numbers import decimals
from analysis.statistics.summary import (
    METRIC_NAMES,
    by_task,
    efficiency,
    improvements,
    over_tasks,
    pairing,
    profiles,
    taus,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from analysis.statistics.bootstrap import Estimate
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap

    Floats = npt.NDArray[np.float64]
    Line = tuple[tuple[str, ...], Sequence[float], int]

CSV_COLUMNS = (
    "suite", "budget", "setting", "statistic", "agent", "over", "task", "at", "value", "low", "high", "num_runs",
    "score",
)  # fmt: skip
_SHOWN_TAUS = (0.1, 0.25, 0.5, 0.75, 0.9)
_SHOWN_STEPS = 5


def to_grids(comparison: Comparison, bootstrap: Bootstrap, over: str = "") -> list[Grid]:
    """All statistics as text; remarks stand under the first grid. Args as `improvements`."""
    where = f"{comparison.title}, {comparison.score_name}at {_span(comparison.steps)} environment steps"
    interval = f"95 % stratified bootstrap intervals, {bootstrap.reps:,} replicates"
    caption = f"Normalisation: {comparison.normalisation}; {interval}."
    return [
        _over_tasks_grid(comparison, bootstrap, where, caption),
        _by_task_grid(comparison, bootstrap, where),
        *_improvement_grid(comparison, bootstrap, where, over),
        *_profile_grid(comparison, bootstrap, where),
        *_efficiency_grid(comparison, bootstrap),
    ]


def to_csv(comparisons: Sequence[Comparison], bootstrap: Bootstrap, over: str = "") -> str:
    """All statistics in full precision: columns `CSV_COLUMNS`, an unknown interval empty."""
    lines: list[Sequence[object]] = []
    for comparison in comparisons:
        for key, estimate, num_runs in _lines(comparison, bootstrap, over):
            numbers = ["" if math.isnan(number) else repr(float(number)) for number in estimate]
            protocol = (comparison.suite, comparison.budget, comparison.setting)
            lines.append([*protocol, *key, *numbers, num_runs, comparison.score])
    return csv_text(CSV_COLUMNS, lines)


def _lines(comparison: Comparison, bootstrap: Bootstrap, over: str) -> Iterator[Line]:
    """Yield the key (statistic, agent, over, task, at), the estimate, and the number of runs behind it."""
    runs = {name: int(np.isfinite(scores).sum()) for name, scores in comparison.scores.items()}
    for name, metrics in over_tasks(comparison, bootstrap).items():
        for metric, estimate in metrics.items():
            yield (metric, name, "", "", ""), estimate, runs[name]
    for (name, task), metrics in by_task(comparison, bootstrap).items():
        count = int(np.isfinite(comparison.scores[name][:, comparison.tasks.index(task)]).sum())
        for metric, estimate in metrics.items():
            yield (metric, name, "", task, ""), estimate, count
    for (x, y), estimate in _improvements(comparison, bootstrap, over).items():
        yield ("probability_of_improvement", x, y, "", ""), estimate, runs[x] + runs[y]
    at = taus(comparison)
    for name, values in profiles(comparison, bootstrap, at).items():
        for tau, column in zip(at, values.T, strict=True):
            yield ("profile", name, "", "", f"{tau:.6g}"), column.tolist(), runs[name]
    for name, (steps, values) in efficiency(comparison, bootstrap).items():
        for step, column in zip(steps, values.T, strict=True):
            yield ("iqm_at_env_steps", name, "", "", str(step)), column.tolist(), runs[name]


def _over_tasks_grid(comparison: Comparison, bootstrap: Bootstrap, where: str, caption: str) -> Grid:
    header = ("agent", "runs", *METRIC_NAMES.values())
    rows = []
    found = over_tasks(comparison, bootstrap)
    for name, scores in comparison.scores.items():
        cells = [_text(found[name][metric]) if name in found else "-" for metric in METRIC_NAMES]
        rows.append((name, str(np.isfinite(scores).sum()), *cells))
    tasks = f"{len(comparison.tasks)} tasks" if len(comparison.tasks) > 1 else comparison.tasks[0]
    return Grid(f"Scores over {tasks}: {where}", caption, header, tuple(rows), comparison.remarks)


def _by_task_grid(comparison: Comparison, bootstrap: Bootstrap, where: str) -> Grid:
    found = by_task(comparison, bootstrap)
    rows = [
        (task, *(_text(found[name, task]["iqm"]) if (name, task) in found else "-" for name in comparison.scores))
        for task in comparison.tasks
    ]
    caption = "IQM of the runs on each task (of up to three runs, their mean)."
    return Grid(f"Scores by task: {where}", caption, ("task", *comparison.scores), tuple(rows))


def _improvement_grid(comparison: Comparison, bootstrap: Bootstrap, where: str, over: str) -> list[Grid]:
    found = _improvements(comparison, bootstrap, over)
    rows = tuple((x, y, _text(estimate)) for (x, y), estimate in found.items())
    header = ("X", "Y", "P(X > Y)")
    caption = "Probability that a run of X scores higher than a run of Y on the same task, averaged over tasks."
    grid = Grid(f"Probability of improvement: {where}", caption, header, rows, tuple(pairing(comparison, over)), 2)
    return [grid] if rows else []


def _improvements(comparison: Comparison, bootstrap: Bootstrap, over: str) -> dict[tuple[str, str], Estimate]:
    """None where `over` has no score; see `compared_with`."""
    return {} if over and over not in comparison.complete_agents else improvements(comparison, bootstrap, over)


def _profile_grid(comparison: Comparison, bootstrap: Bootstrap, where: str) -> list[Grid]:
    found = profiles(comparison, bootstrap, _SHOWN_TAUS)
    rows = tuple((name, *(_text(column) for column in values.T)) for name, values in found.items())
    header = ("agent", *(f"> {tau:g}" for tau in _SHOWN_TAUS))
    caption = f"Share of runs with a higher score than stated ({bootstrap.curve_reps:,} replicates)."
    return [Grid(f"Performance profile: {where}", caption, header, rows)] if rows else []


def _efficiency_grid(comparison: Comparison, bootstrap: Bootstrap) -> list[Grid]:
    found = efficiency(comparison, bootstrap)
    grid = sorted({int(step) for steps, _ in found.values() for step in steps})
    if not grid:
        return []
    shown = sorted({grid[round(index)] for index in np.linspace(0, len(grid) - 1, min(len(grid), _SHOWN_STEPS))})
    rows = []
    for name, (steps, values) in found.items():
        inside = [len(steps) > 0 and steps[0] <= step <= steps[-1] for step in shown]
        place = np.searchsorted(steps, shown, side="right") - 1
        cells = [_text(values[:, i]) if known else "-" for i, known in zip(place, inside, strict=True)]
        rows.append((name, *cells))
    caption = (
        "IQM over all tasks at environment steps, from a run's last evaluation so far, to where the shortest run ends "
        f"({bootstrap.curve_reps:,} replicates)."
    )
    return [Grid(f"Sample efficiency: {comparison.title}", caption, ("agent", *(f"{s:,}" for s in shown)), tuple(rows))]


def _text(estimate: Sequence[float] | Floats) -> str:
    """`0.62 [0.50, 0.73]`."""
    value, low, high = estimate
    value, low, high = (
        round(float(number), 9) + 0.0 for number in (value, low, high)
    )  # what differs by rounding reads alike
    shown = decimals(value, 2)
    return shown if math.isnan(low) else f"{shown} [{decimals(low, 2)}, {decimals(high, 2)}]"


def _span(steps: tuple[int, int]) -> str:
    return f"{steps[0]:,}" if steps[0] == steps[1] else f"{steps[0]:,} to {steps[1]:,}"
