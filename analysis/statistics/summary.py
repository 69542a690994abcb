"""Statistics of a comparison, each with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from analysis.statistics.bootstrap import (
    CURVE_REPS,
    REPS,
    Estimate,
    aggregates,
    aggregates_of,
    improvements_of,
    profiles_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from analysis.statistics.comparison import Comparison

    Floats = npt.NDArray[np.float64]
    _Content = tuple[tuple[int, ...], bytes]

METRIC_NAMES = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}
_MAX_PAIRED = 8  # with more agents only the best is paired with each


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
    names = comparison.aggregated_agents
    return dict(zip(names, _aggregates([comparison.scores[name] for name in names], bootstrap), strict=True))


def by_task(comparison: Comparison, bootstrap: Bootstrap) -> dict[tuple[str, str], dict[str, Estimate]]:
    """Statistics of single tasks: by agent and task, then by metric, as `over_tasks` gives them.

    Of a task whose scores are not normalised there is no optimality gap.
    """
    cells = {
        (name, task): scores[:, [column]]
        for name, scores in comparison.scores.items()
        for column, task in enumerate(comparison.tasks)
        if np.isfinite(scores[:, column]).any()
    }
    found = dict(zip(cells, _aggregates(list(cells.values()), bootstrap), strict=True))
    for (_, task), metrics in found.items():
        if comparison.plain_tasks[task] in comparison.unnormalised:
            del metrics["optimality_gap"]
    return found


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
    scores = [(comparison.scores[x], comparison.scores[y]) for x, y in pairs]
    found = _improved(tuple((_content(x), _content(y)) for x, y in scores), bootstrap.reps, bootstrap.seed)
    return {pair: supported_interval(each, *both) for pair, each, both in zip(pairs, found, scores, strict=True)}


def compared_with(comparisons: Sequence[Comparison], over: str) -> list[Comparison]:
    """The same, with a remark where no agent can be compared with `over`, which has no score on every task there.

    Raises ValueError if it has one in none of them.
    """
    agents = {name for each in comparisons for name in each.complete_agents}
    if over and over not in agents:
        raise ValueError(f"no agent {over!r} with a score on every task; there are: {', '.join(sorted(agents))}")
    without = f"no probability of improvement: {over} has no score on every task here"
    return [
        replace(each, remarks=(*each.remarks, without)) if over and over not in each.complete_agents else each
        for each in comparisons
    ]


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
    names = comparison.aggregated_agents
    every = profiles_of([comparison.scores[x] for x in names], at, reps=bootstrap.curve_reps, seed=bootstrap.seed)
    result = dict(zip(names, every, strict=True))
    for name in names:
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
        found = _aggregated(tuple(map(_content, scores)), ("iqm",), bootstrap.curve_reps, bootstrap.seed)
        each = [supported_interval(at["iqm"], runs) for at, runs in zip(found, scores, strict=True)]
        result[name] = steps, np.array(each).reshape(-1, 3).T
    return result


def _aggregates(scores: Sequence[Floats], bootstrap: Bootstrap) -> list[dict[str, Estimate]]:
    found = _aggregated(tuple(map(_content, scores)), tuple(METRIC_NAMES), bootstrap.reps, bootstrap.seed)
    return [
        {metric: supported_interval(estimate, each) for metric, estimate in metrics.items()}
        for each, metrics in zip(scores, found, strict=True)
    ]


@lru_cache(maxsize=256)  # a page shows the same numbers as text and as a drawing
def _aggregated(
    contents: tuple[_Content, ...], metrics: tuple[str, ...], reps: int, seed: int
) -> list[dict[str, Estimate]]:
    return aggregates_of(list(map(_scores, contents)), metrics, reps=reps, seed=seed)


@lru_cache(maxsize=16)
def _improved(contents: tuple[tuple[_Content, _Content], ...], reps: int, seed: int) -> list[Estimate]:
    return improvements_of([(_scores(x), _scores(y)) for x, y in contents], reps=reps, seed=seed)


def _content(scores: Floats) -> _Content:
    return scores.shape, scores.tobytes()


def _scores(content: _Content) -> Floats:
    shape, data = content
    return np.frombuffer(data).reshape(shape)


def _iqm(scores: Floats) -> float:
    return aggregates(scores, ("iqm",), reps=1)["iqm"].value


def supported_interval(estimate: Estimate, *scores: Floats) -> Estimate:
    """The estimate, without its interval if a task has one run: resampling one run says nothing about another."""
    return Estimate(estimate.value, math.nan, math.nan) if any(map(_single, scores)) else estimate


def _single(scores: Floats) -> bool:
    return bool((np.isfinite(scores).sum(axis=0) == 1).any())
