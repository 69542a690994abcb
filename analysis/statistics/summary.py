"""Statistics of a comparison, each with its interval, as text and as CSV: the content of `covr-bench stats`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.grids import Grid
from analysis.grids import to_csv as csv_text
from analysis.statistics.bootstrap import CURVE_REPS, REPS, Estimate, aggregates, improvement, profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from analysis.statistics.comparison import Comparison

    Floats = npt.NDArray[np.float64]
    Line = tuple[tuple[str, ...], Sequence[float], int]

CSV_COLUMNS = (
    "suite", "budget", "setting", "statistic", "agent", "over", "task", "at", "value", "low", "high", "num_runs",
    "score",
)  # fmt: skip
METRIC_NAMES = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}
_MAX_PAIRED = 8  # with more agents only the best is paired with each
_SHOWN_TAUS = (0.1, 0.25, 0.5, 0.75, 0.9)
_SHOWN_STEPS = 5


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap replicates of a single number, replicates of each point of a curve, and the seed."""

    reps: int = REPS
    curve_reps: int = CURVE_REPS
    seed: int = 0


def over_tasks(comparison: Comparison, bootstrap: Bootstrap) -> dict[str, dict[str, Estimate]]:
    """Statistics over all tasks.

    Args:
        comparison: Agents under one protocol.
        bootstrap: Replicates and seed.

    Returns:
        By agent with a score on every task, then by metric, the estimate; empty if scores are not normalised. Low and
        high are NaN if a task has one run.
    """
    return {name: _aggregates(comparison.scores[name], bootstrap) for name in comparison.aggregated_agents}


def by_task(comparison: Comparison, bootstrap: Bootstrap) -> dict[tuple[str, str], dict[str, Estimate]]:
    """Statistics of single tasks: by agent and task, then by metric, as `over_tasks` gives them.

    Of a task whose scores are not normalised there is no optimality gap.
    """
    return {
        (name, task): {
            metric: estimate
            for metric, estimate in _aggregates(scores[:, [column]], bootstrap).items()
            if metric != "optimality_gap" or task not in comparison.unnormalised
        }
        for name, scores in comparison.scores.items()
        for column, task in enumerate(comparison.tasks)
        if np.isfinite(scores[:, column]).any()
    }


def improvements(comparison: Comparison, bootstrap: Bootstrap, over: str = "") -> dict[tuple[str, str], Estimate]:
    """Probability that a run of one agent scores higher than a run of another.

    Args:
        comparison: Agents under one protocol.
        bootstrap: Replicates and seed.
        over: Second agent of every pair. If empty: every pair of up to eight agents, else the best against each.

    Returns:
        By pair of agents, those with the highest IQM first, the estimate.

    Raises:
        ValueError: If `over` has no score on every task.
    """
    best_first = sorted(comparison.complete_agents, key=lambda name: -_iqm(comparison.scores[name]))
    if over and over not in best_first:
        raise ValueError(f"no agent {over!r} with a score on every task; there are: {', '.join(sorted(best_first))}")
    if over:
        pairs = [(name, over) for name in best_first if name != over]
    elif len(best_first) > _MAX_PAIRED:
        pairs = [(best_first[0], name) for name in best_first[1:]]
    else:
        pairs = [(x, y) for index, x in enumerate(best_first) for y in best_first[index + 1 :]]
    result = {}
    for x, y in pairs:
        estimate = improvement(comparison.scores[x], comparison.scores[y], reps=bootstrap.reps, seed=bootstrap.seed)
        result[x, y] = supported_interval(estimate, comparison.scores[x], comparison.scores[y])
    return result


def pairing(comparison: Comparison, over: str = "") -> list[str]:
    """Remarks on which pairs `improvements` takes."""
    if over or len(comparison.complete_agents) <= _MAX_PAIRED:
        return []
    best = f"more than {_MAX_PAIRED} agents: only the one with the highest IQM is compared with each"
    return [f"{best}; --over AGENT compares all with that one"]


def taus(comparison: Comparison, points: int = 101) -> Floats:
    """Scores at which a profile is evaluated, float64 `(points,)`: 0 to 1, and further to where runs are."""
    scores = [comparison.scores[name] for name in comparison.complete_agents]
    low = min([0.0, *(float(np.nanmin(each)) for each in scores)])
    high = max([1.0, *(float(np.nanmax(each)) for each in scores)])
    return np.linspace(low, high, points)


def profiles(comparison: Comparison, bootstrap: Bootstrap, at: npt.ArrayLike) -> dict[str, Floats]:
    """Performance profiles.

    Args:
        comparison: Agents under one protocol.
        bootstrap: Replicates and seed.
        at: Normalised scores `(num_scores,)`.

    Returns:
        By agent the share of runs above each score, float64 `(3, num_scores)`: value, low, high.
    """
    result = {}
    for name in comparison.aggregated_agents:
        result[name] = profile(comparison.scores[name], at, reps=bootstrap.curve_reps, seed=bootstrap.seed)
        if _single(comparison.scores[name]):
            result[name][1:] = np.nan
    return result


def efficiency(comparison: Comparison, bootstrap: Bootstrap) -> dict[str, tuple[npt.NDArray[np.int64], Floats]]:
    """Sample efficiency: the IQM over all tasks against environment steps.

    Args:
        comparison: Agents under one protocol.
        bootstrap: Replicates and seed.

    Returns:
        By agent the environment steps, int64 `(num_steps,)`, and value, low and high, float64 `(3, num_steps)`.
    """
    result = {}
    for name in comparison.aggregated_agents:
        steps, scores = comparison.curve(name)
        each = [_iqm_at(runs, bootstrap) for runs in scores]
        result[name] = steps, np.array(each).reshape(-1, 3).T
    return result


def to_grids(comparison: Comparison, bootstrap: Bootstrap, over: str = "") -> list[Grid]:
    """All statistics as text; remarks stand under the first grid. Args and Raises as `improvements`."""
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
    for (x, y), estimate in improvements(comparison, bootstrap, over).items():
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
    found = improvements(comparison, bootstrap, over)
    rows = tuple((x, y, _text(estimate)) for (x, y), estimate in found.items())
    header = ("X", "Y", "P(X > Y)")
    caption = "Probability that a run of X scores higher than a run of Y on the same task, averaged over tasks."
    grid = Grid(f"Probability of improvement: {where}", caption, header, rows, tuple(pairing(comparison, over)), 2)
    return [grid] if rows else []


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


def _aggregates(scores: Floats, bootstrap: Bootstrap) -> dict[str, Estimate]:
    found = aggregates(scores, reps=bootstrap.reps, seed=bootstrap.seed)
    return {metric: supported_interval(estimate, scores) for metric, estimate in found.items()}


def _iqm(scores: Floats) -> float:
    return aggregates(scores, ("iqm",), reps=1)["iqm"].value


def _iqm_at(scores: Floats, bootstrap: Bootstrap) -> Estimate:
    """IQM of scores `(num_runs, num_tasks)` at one step of a curve."""
    found = aggregates(scores, ("iqm",), reps=bootstrap.curve_reps, seed=bootstrap.seed)
    return supported_interval(found["iqm"], scores)


def supported_interval(estimate: Estimate, *scores: Floats) -> Estimate:
    """The estimate, without its interval if a task has one run: resampling one run says nothing about another."""
    return Estimate(estimate.value, math.nan, math.nan) if any(map(_single, scores)) else estimate


def _single(scores: Floats) -> bool:
    return bool((np.isfinite(scores).sum(axis=0) == 1).any())


def _text(estimate: Sequence[float] | Floats) -> str:
    """`0.62 [0.50, 0.73]`."""
    value, low, high = estimate
    value, low, high = (
        round(float(number), 9) + 0.0 for number in (value, low, high)
    )  # what differs by rounding reads alike
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _span(steps: tuple[int, int]) -> str:
    return f"{steps[0]:,}" if steps[0] == steps[1] else f"{steps[0]:,} to {steps[1]:,}"
