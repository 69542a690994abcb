"""What `covr-bench stats` says: statistics of a comparison, each with its interval, as text and as CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.grids import Grid
from analysis.statistics import bootstrap as stats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from analysis.statistics.bootstrap import Estimate
    from analysis.statistics.comparison import Comparison

    Floats = npt.NDArray[np.float64]

CSV_COLUMNS = (
    "suite", "budget", "setting", "statistic", "agent", "over", "task", "at", "value", "low", "high", "num_runs"
)  # fmt: skip
METRIC_NAMES = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}
_MAX_PAIRED = 8  # agents up to which every pair is compared
_SHOWN_TAUS = (0.1, 0.25, 0.5, 0.75, 0.9)
_SHOWN_STEPS = 5


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: replicates, of single numbers and of each point of a curve, and the seed."""

    reps: int = stats.REPS
    curve_reps: int = stats.CURVE_REPS
    seed: int = 0


def over_tasks(made: Comparison, how: Bootstrap) -> dict[str, dict[str, Estimate]]:
    """Statistics over all tasks by agent and metric; an interval is NaN where a task has one run only."""
    return {name: _aggregates(made.scores[name], how) for name in made.whole}


def by_task(made: Comparison, how: Bootstrap) -> dict[tuple[str, str], dict[str, Estimate]]:
    """The same of each agent and task by itself."""
    return {
        (name, task): _aggregates(scores[:, [column]], how)
        for name, scores in made.scores.items()
        for column, task in enumerate(made.tasks)
        if np.isfinite(scores[:, column]).any()
    }


def improvements(made: Comparison, how: Bootstrap, over: str = "") -> dict[tuple[str, str], Estimate]:
    """Probability that a run of the first agent beats one of the second, agents with the highest IQM first.

    over: the second agent of every pair. If not given, every pair; of more than eight agents, the best against each.
    Raises ValueError for an `over` without a score on every task.
    """
    best_first = sorted(made.whole, key=lambda name: -_iqm(made.scores[name]))
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
        estimate = stats.improvement(made.scores[x], made.scores[y], reps=how.reps, seed=how.seed)
        result[x, y] = honest(estimate, made.scores[x], made.scores[y])
    return result


def pairing(made: Comparison, over: str = "") -> list[str]:
    """What there is to say about which pairs `improvements` takes."""
    if over or len(made.whole) <= _MAX_PAIRED:
        return []
    best = f"more than {_MAX_PAIRED} agents: only the one with the highest IQM is compared with each"
    return [f"{best}; --over AGENT compares all with that one"]


def taus(made: Comparison, points: int = 101) -> Floats:
    """Scores to evaluate a profile at: 0 to 1, further where runs are."""
    scores = [made.scores[name] for name in made.whole]
    low = min([0.0, *(float(np.nanmin(each)) for each in scores)])
    high = max([1.0, *(float(np.nanmax(each)) for each in scores)])
    return np.linspace(low, high, points)


def profiles(made: Comparison, how: Bootstrap, at: npt.ArrayLike) -> dict[str, Floats]:
    """Share of runs above each of `at`, by agent `(3, len(at))`: value, low, high."""
    result = {}
    for name in made.whole:
        result[name] = stats.profile(made.scores[name], at, reps=how.curve_reps, seed=how.seed)
        if _single(made.scores[name]):
            result[name][1:] = np.nan
    return result


def efficiency(made: Comparison, how: Bootstrap) -> dict[str, tuple[npt.NDArray[np.int64], Floats]]:
    """IQM over all tasks against environment steps, by agent `(num_steps,)` and `(3, num_steps)`: value, low, high."""
    result = {}
    for name in made.whole:
        steps, scores = made.curve(name)
        each = [honest(stats.aggregates(at, ("iqm",), reps=how.curve_reps, seed=how.seed)["iqm"], at) for at in scores]
        result[name] = steps, np.array(each).reshape(-1, 3).T
    return result


def to_grids(made: Comparison, how: Bootstrap, over: str = "") -> list[Grid]:
    """All of it as text. Remarks stand under the first grid."""
    where = f"{made.title}, at {_span(made.steps)} environment steps"
    interval = f"95 % stratified bootstrap intervals, {how.reps:,} replicates"
    caption = f"Normalisation: {made.normalisation}; {interval}."
    return [
        _over_tasks_grid(made, how, where, caption),
        _by_task_grid(made, how, where),
        *_improvement_grid(made, how, where, over),
        *_profile_grid(made, how, where),
        *_efficiency_grid(made, how),
    ]


def to_csv(comparisons: Sequence[Comparison], how: Bootstrap, over: str = "") -> str:
    """All of it in full precision; columns `CSV_COLUMNS`. An interval that is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for made in comparisons:
        for key, estimate, num_runs in _lines(made, how, over):
            numbers = ["" if math.isnan(number) else repr(float(number)) for number in estimate]
            writer.writerow([made.suite, made.budget, made.setting, *key, *numbers, num_runs])
    return text.getvalue()


def _lines(made: Comparison, how: Bootstrap, over: str) -> Iterator[tuple[tuple[str, ...], Sequence[float], int]]:
    """Statistic, agent, over, task, at; the estimate; the number of runs behind it."""
    runs = {name: int(np.isfinite(scores).sum()) for name, scores in made.scores.items()}
    for name, metrics in over_tasks(made, how).items():
        for metric, estimate in metrics.items():
            yield (metric, name, "", "", ""), estimate, runs[name]
    for (name, task), metrics in by_task(made, how).items():
        count = int(np.isfinite(made.scores[name][:, made.tasks.index(task)]).sum())
        for metric, estimate in metrics.items():
            yield (metric, name, "", task, ""), estimate, count
    for (x, y), estimate in improvements(made, how, over).items():
        yield ("probability_of_improvement", x, y, "", ""), estimate, runs[x] + runs[y]
    at = taus(made)
    for name, values in profiles(made, how, at).items():
        for tau, column in zip(at, values.T, strict=True):
            yield ("profile", name, "", "", f"{tau:.6g}"), column.tolist(), runs[name]
    for name, (steps, values) in efficiency(made, how).items():
        for step, column in zip(steps, values.T, strict=True):
            yield ("iqm_at_env_steps", name, "", "", str(step)), column.tolist(), runs[name]


def _over_tasks_grid(made: Comparison, how: Bootstrap, where: str, caption: str) -> Grid:
    header = ("agent", "runs", *METRIC_NAMES.values())
    rows = []
    found = over_tasks(made, how)
    for name, scores in made.scores.items():
        cells = [_text(found[name][metric]) if name in found else "-" for metric in METRIC_NAMES]
        rows.append((name, str(np.isfinite(scores).sum()), *cells))
    tasks = f"{len(made.tasks)} tasks" if len(made.tasks) > 1 else made.tasks[0]
    return Grid(f"Scores over {tasks}: {where}", caption, header, tuple(rows), made.remarks)


def _by_task_grid(made: Comparison, how: Bootstrap, where: str) -> Grid:
    found = by_task(made, how)
    rows = [
        (task, *(_text(found[name, task]["iqm"]) if (name, task) in found else "-" for name in made.scores))
        for task in made.tasks
    ]
    caption = "IQM of the runs on each task (of up to three runs, their mean)."
    return Grid(f"Scores by task: {where}", caption, ("task", *made.scores), tuple(rows))


def _improvement_grid(made: Comparison, how: Bootstrap, where: str, over: str) -> list[Grid]:
    found = improvements(made, how, over)
    rows = tuple((x, y, _text(estimate)) for (x, y), estimate in found.items())
    header = ("X", "Y", "P(X > Y)")
    caption = "Probability that a run of X scores higher than a run of Y on the same task, averaged over tasks."
    grid = Grid(f"Probability of improvement: {where}", caption, header, rows, tuple(pairing(made, over)), 2)
    return [grid] if rows else []


def _profile_grid(made: Comparison, how: Bootstrap, where: str) -> list[Grid]:
    found = profiles(made, how, _SHOWN_TAUS)
    rows = tuple((name, *(_text(column) for column in values.T)) for name, values in found.items())
    header = ("agent", *(f"> {tau:g}" for tau in _SHOWN_TAUS))
    caption = f"Share of runs with a higher score than stated ({how.curve_reps:,} replicates)."
    return [Grid(f"Performance profile: {where}", caption, header, rows)] if rows else []


def _efficiency_grid(made: Comparison, how: Bootstrap) -> list[Grid]:
    found = efficiency(made, how)
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
        f"({how.curve_reps:,} replicates)."
    )
    return [Grid(f"Sample efficiency: {made.title}", caption, ("agent", *(f"{s:,}" for s in shown)), tuple(rows))]


def _aggregates(scores: Floats, how: Bootstrap) -> dict[str, Estimate]:
    found = stats.aggregates(scores, reps=how.reps, seed=how.seed)
    return {metric: honest(estimate, scores) for metric, estimate in found.items()}


def _iqm(scores: Floats) -> float:
    return stats.aggregates(scores, ("iqm",), reps=1)["iqm"].value


def honest(estimate: Estimate, *scores: Floats) -> Estimate:
    """Without its interval where a task has one run: resampling one run says nothing about another."""
    return stats.Estimate(estimate.value, math.nan, math.nan) if any(map(_single, scores)) else estimate


def _single(scores: Floats) -> bool:
    return bool((np.isfinite(scores).sum(axis=0) == 1).any())


def _text(estimate: Sequence[float] | Floats) -> str:
    """`0.62 [0.50, 0.73]`."""
    value, low, high = estimate
    value, low, high = (round(number, 9) + 0.0 for number in (value, low, high))  # what differs by rounding reads alike
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _span(steps: tuple[int, int]) -> str:
    return f"{steps[0]:,}" if steps[0] == steps[1] else f"{steps[0]:,} to {steps[1]:,}"
