"""Statistics of scores over runs and tasks, with intervals from a stratified bootstrap.

The estimators are those of Agarwal et al. 2021 (arXiv:2108.13264) and equal their library rliable's on the same draws:
seed `s` here gives the draws that rliable makes after `numpy.random.seed(s)`. Draws are made in blocks, so a replicate
costs microseconds.

Scores are float64 `(num_runs, num_tasks)`, normalised, NaN where a task has fewer runs than another. A resample draws,
within each task, as many runs as the task has. Every task weighs the same, however many runs it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.statistics.resamples import Counts, Pair, Runs, blocks, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

METRICS = ("iqm", "median", "mean", "optimality_gap")
REPS = 50_000
CURVE_REPS = 2_000  # replicates for a profile or a curve, which has an interval at every point
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A statistic and the percentile interval of its bootstrap replicates."""

    value: float
    low: float
    high: float


def aggregates(
    scores: npt.ArrayLike,
    metrics: Sequence[str] = METRICS,
    *,
    reps: int = REPS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, Estimate]:
    """Aggregate scores over runs and tasks, each with its bootstrap interval.

    Args:
        scores: Normalised scores `(num_runs, num_tasks)`, NaN where a task has fewer runs.
        metrics: Any of `iqm` (mean of the middle half of all runs), `median` and `mean` (of the tasks' mean scores),
            `optimality_gap` (mean shortfall of runs from a score of 1; runs above 1 count as 1).
        reps: Bootstrap replicates.
        seed: Bootstrap seed.
        confidence: Probability that an interval covers, 0 to 1.

    Returns:
        One estimate per metric.

    Raises:
        ValueError: For an unknown metric, scores of another shape, or a task without runs.
    """
    return aggregates_of([scores], metrics, reps=reps, seed=seed, confidence=confidence)[0]


def aggregates_of(
    agents: Sequence[npt.ArrayLike],
    metrics: Sequence[str] = METRICS,
    *,
    reps: int = REPS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[dict[str, Estimate]]:
    """`aggregates` of each of several scores, in less time: those with as many runs on each task draw alike."""
    if unknown := set(metrics) - set(METRICS):
        raise ValueError(f"unknown metric {sorted(unknown)}; valid: {', '.join(METRICS)}")
    every = [Runs.of(scores) for scores in agents]
    found: list[dict[str, Estimate]] = [{} for _ in every]
    for group in together(runs.layout for runs in every):
        one = every[group[0]]
        replicates = np.empty((len(group), len(metrics), reps))
        for block, drawn in blocks(one.size, reps, seed):
            counts = one.counted(drawn)
            for place, index in enumerate(group):
                replicates[place, :, block] = every[index].metrics(counts, metrics)
        for index, of_agent in zip(group, replicates, strict=True):
            values = every[index].metrics(Counts(np.ones((len(one.size), 1), np.int16)), metrics)[:, 0]
            found[index] = dict(zip(metrics, _estimates(values, of_agent, confidence), strict=True))
    return found


def profile(
    scores: npt.ArrayLike,
    taus: npt.ArrayLike,
    *,
    reps: int = CURVE_REPS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Floats:
    """Performance profile: the share of runs that score above each tau.

    Args:
        scores: Normalised scores `(num_runs, num_tasks)`, NaN where a task has fewer runs.
        taus: Scores `(num_taus,)`.
        reps: Bootstrap replicates.
        seed: Bootstrap seed.
        confidence: Probability that an interval covers, 0 to 1.

    Returns:
        float64 `(3, num_taus)`: value, low and high of the share, 0 to 1.

    Raises:
        ValueError: For scores of another shape or a task without runs.
    """
    return profiles_of([scores], taus, reps=reps, seed=seed, confidence=confidence)[0]


def profiles_of(
    agents: Sequence[npt.ArrayLike],
    taus: npt.ArrayLike,
    *,
    reps: int = CURVE_REPS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Floats]:
    """`profile` of each of several scores, in less time: those with as many runs on each task draw alike."""
    every = [Runs.of(scores) for scores in agents]
    above = [(runs.values > np.asarray(taus, np.float64)[:, None]) * runs.weight for runs in every]  # (num_taus, N)
    found: list[Floats] = [np.empty(0)] * len(every)
    for group in together(runs.layout for runs in every):
        one = every[group[0]]
        replicates = np.empty((len(group), len(above[group[0]]), reps))
        for block, drawn in blocks(one.size, reps, seed):
            counts = one.counted(drawn).floats
            for place, index in enumerate(group):
                replicates[place, :, block] = above[index] @ counts
        for index, of_agent in zip(group, replicates, strict=True):
            interval = np.percentile(of_agent, _percent(confidence), axis=-1)
            found[index] = np.vstack([above[index].sum(axis=1), interval])
    return found


def improvement(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    reps: int = REPS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Probability that a run of `x` scores higher than a run of `y`, averaged over tasks; a tie counts half.

    Args:
        x: Scores `(num_runs_x, num_tasks)`, NaN where a task has fewer runs.
        y: Scores `(num_runs_y, num_tasks)`, likewise.
        reps: Bootstrap replicates.
        seed: Bootstrap seed.
        confidence: Probability that the interval covers, 0 to 1.

    Returns:
        The probability and its interval, 0 to 1.

    Raises:
        ValueError: For different numbers of tasks, or a task without runs.
    """
    return improvements_of([(x, y)], reps=reps, seed=seed, confidence=confidence)[0]


def improvements_of(
    pairs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    reps: int = REPS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> list[Estimate]:
    """`improvement` of each of several pairs, in less time: those with as many runs on each task draw alike."""
    every = [Pair.of(x, y) for x, y in pairs]
    found: list[Estimate] = [Estimate(np.nan, np.nan, np.nan)] * len(every)
    for group in together(pair.layout for pair in every):
        one = every[group[0]]
        replicates = np.empty((len(group), 1, reps))
        for block, drawn in blocks(one.size, reps, seed):
            counts = one.counted(drawn)
            for place, index in enumerate(group):
                replicates[place, 0, block] = every[index].probability(counts)
        for index, of_pair in zip(group, replicates, strict=True):
            found[index] = _estimates(np.array([every[index].value]), of_pair, confidence)[0]
    return found


def _percent(confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2
    return 100 * tail, 100 * (1.0 - tail)


def _estimates(values: Floats, replicates: Floats, confidence: float) -> list[Estimate]:
    low, high = np.percentile(replicates, _percent(confidence), axis=-1)
    return [Estimate(*map(float, each)) for each in zip(values, low, high, strict=True)]
