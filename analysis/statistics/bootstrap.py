"""Statistics of scores over runs and tasks, with intervals from a stratified bootstrap.

The estimators are those of Agarwal et al. 2021 (arXiv:2108.13264) and equal their library rliable's on the same draws:
seed `s` here gives the draws that rliable makes after `numpy.random.seed(s)`. Draws are made in blocks, so a replicate
costs microseconds.

Scores are float64 `(num_runs, num_tasks)`, normalised, NaN where a task has fewer runs than another. A resample draws,
within each task, as many runs as the task has. Every task weighs the same, however many runs it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.integer[Any]]

METRICS = ("iqm", "median", "mean", "optimality_gap")
REPS = 50_000
CURVE_REPS = 2_000  # replicates for a profile or a curve, which has an interval at every point
CONFIDENCE = 0.95
_TRIM = 0.25  # share that the interquartile mean removes at each end
_BLOCK = 60_000  # drawn runs held at a time: they fit the processor's cache


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
    if unknown := set(metrics) - set(METRICS):
        raise ValueError(f"unknown metric {sorted(unknown)}; valid: {', '.join(METRICS)}")
    runs = _Runs.of(scores)
    values = runs.metrics(runs.values[None].copy(), metrics)[0]
    replicates = np.empty((reps, len(metrics)))
    for block, drawn in _blocks(np.random.RandomState(seed), runs.size, reps):
        replicates[block] = runs.metrics(runs.values[runs.positions(drawn)], metrics)
    return dict(zip(metrics, _estimates(values, replicates, confidence), strict=True))


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
    runs = _Runs.of(scores)
    above = (runs.values[:, None] > np.asarray(taus, np.float64)) * runs.weight[:, None]  # (N, num_taus)
    replicates = np.empty((reps, above.shape[1]))
    for block, drawn in _blocks(np.random.RandomState(seed), runs.size, reps):
        replicates[block] = runs.counts(drawn) @ above
    return np.vstack([above.sum(axis=0), np.percentile(replicates, _percent(confidence), axis=0)])


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
    ours, theirs = _Runs.of(x), _Runs.of(y)
    if ours.num_tasks != theirs.num_tasks:
        raise ValueError(f"x has {ours.num_tasks} tasks, y has {theirs.num_tasks}; both need the same")
    difference = ours.values[:, None] - theirs.values
    same_task = ours.task[:, None] == theirs.task
    wins = np.where(same_task, np.heaviside(difference, 0.5), 0.0)
    wins *= ours.weight[:, None] * theirs.weight * ours.num_tasks  # (N_x, N_y); sums to 1 if x always wins
    replicates = np.empty((reps, 1))
    for block, drawn in _blocks(np.random.RandomState(seed), np.concatenate([ours.size, theirs.size]), reps):
        x_counts, y_counts = ours.counts(drawn[:, : len(ours.size)]), theirs.counts(drawn[:, len(ours.size) :])
        replicates[block, 0] = ((x_counts @ wins) * y_counts).sum(axis=1)
    return _estimates(wins.sum(keepdims=True)[0], replicates, confidence)[0]


@dataclass(frozen=True)
class _Runs:
    """The N runs of one agent in a row. Number d, drawn at a position, means the d-th run of that position's task.

    values: scores. task: the task of each position. size: how many runs that task has. All `(N,)`.
    first, stride: the d-th run of a position's task stands at first + stride * d.
    """

    values: Floats
    task: Ints
    size: Ints
    first: Ints
    stride: int
    num_tasks: int

    @classmethod
    def of(cls, scores: npt.ArrayLike) -> _Runs:
        array = np.asarray(scores, np.float64)
        if array.ndim != 2 or not array.size:
            raise ValueError(f"scores must be (num_runs, num_tasks) with some of both, got shape {array.shape}")
        present = np.isfinite(array)
        size = present.sum(axis=0)
        if not size.all():
            raise ValueError(f"no finite score in column(s) {np.flatnonzero(size == 0).tolist()} of the scores")
        num_tasks = array.shape[1]
        if present.all():  # run by run, as rliable draws them
            task = np.tile(np.arange(num_tasks), len(array))
            return cls(array.ravel(), task, np.full(array.size, len(array)), task, num_tasks, num_tasks)
        task = np.repeat(np.arange(num_tasks), size)
        first = np.repeat(np.cumsum(size) - size, size)
        return cls(array.T[present.T], task, size[task], first, 1, num_tasks)

    @property
    def weight(self) -> Floats:
        """Weight of each run `(N,)`: tasks weigh the same, and the sum is 1."""
        return 1.0 / (self.size * self.num_tasks)

    def positions(self, drawn: Ints) -> Ints:
        """Which runs were drawn, `(replicates, N)`."""
        return drawn * self.stride + self.first

    def counts(self, drawn: Ints) -> Floats:
        """How often each run was drawn, `(replicates, N)`."""
        shape = drawn.shape
        offset = np.arange(shape[0])[:, None] * shape[1]
        flat = np.bincount((self.positions(drawn) + offset).ravel(), minlength=drawn.size)
        return flat.reshape(shape).astype(np.float64)

    def metrics(self, samples: Floats, names: Sequence[str]) -> Floats:
        """Statistics of resampled runs, `(replicates, len(names))`. Overwrites samples, `(replicates, N)`."""
        result = np.empty((len(samples), len(names)))
        if {"median", "mean"} & set(names):
            average = np.zeros((len(self.values), self.num_tasks))
            average[np.arange(len(self.values)), self.task] = 1.0 / self.size
            task_means = samples @ average
        for column, name in enumerate(names):
            if name == "median":
                result[:, column] = np.median(task_means, axis=1)
            elif name == "mean":
                result[:, column] = task_means.mean(axis=1)
            elif name == "optimality_gap":
                result[:, column] = 1.0 - np.minimum(samples, 1.0) @ self.weight
        if "iqm" in names:
            result[:, list(names).index("iqm")] = self._iqm(samples)
        return result

    def _iqm(self, samples: Floats) -> Floats:
        if self.size.min() == self.size.max():
            cut = int(_TRIM * samples.shape[1])
            samples.sort(axis=1)
            return samples[:, cut : samples.shape[1] - cut].mean(axis=1)  # type: ignore[no-any-return]
        # As if each run were there as often as it takes to give all tasks the same number of runs.
        copies = math.lcm(*self.size.tolist()) // self.size
        cut, total = int(_TRIM * copies.sum()), copies.sum()
        order = samples.argsort(axis=1)
        copies = copies[order]
        end = copies.cumsum(axis=1)
        kept = np.clip(np.minimum(end, total - cut) - np.maximum(end - copies, cut), 0, None)
        return (np.take_along_axis(samples, order, axis=1) * kept).sum(axis=1) / (total - 2 * cut)  # type: ignore[no-any-return]


def _blocks(rng: np.random.RandomState, size: Ints, reps: int) -> Iterator[tuple[slice, Ints]]:
    """Yield the slice of replicates and their draws from 0..size-1, int `(replicates, N)`."""
    rows = max(1, _BLOCK // len(size))
    equal = size.min() == size.max()
    for start in range(0, reps, rows):
        shape = (min(rows, reps - start), len(size))
        # An array of limits is several times slower, and takes the same numbers from the generator.
        drawn = rng.randint(0, size[0], shape, np.int32) if equal else rng.randint(0, size, shape)
        yield slice(start, start + shape[0]), drawn


def _percent(confidence: float) -> tuple[float, float]:
    tail = (1.0 - confidence) / 2
    return 100 * tail, 100 * (1.0 - tail)


def _estimates(values: Floats, replicates: Floats, confidence: float) -> list[Estimate]:
    low, high = np.percentile(replicates, _percent(confidence), axis=0)
    return [Estimate(*map(float, each)) for each in zip(values, low, high, strict=True)]
