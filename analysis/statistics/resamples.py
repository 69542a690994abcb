"""Resamples of runs, drawn once for agents with as many runs on each task, and statistics of what was drawn."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.integer[Any]]

_TRIM = 0.25  # share that the interquartile mean removes at each end
_BLOCK = 400_000  # drawn runs held at a time: they fit the processor's cache
_TOGETHER = 64  # agents whose replicates are held at a time


@dataclass(frozen=True)
class Counts:
    """How often each run was drawn. whole: integers `(N, replicates)`, at most N."""

    whole: Ints

    @cached_property
    def floats(self) -> Floats:
        """The same as float64, for products of matrices."""
        return self.whole.astype(np.float64)

    @cached_property
    def scratch(self) -> tuple[Ints, Floats]:
        """Arrays of this shape to write to: a new one for each agent would take as long as the arithmetic."""
        return np.empty_like(self.whole), np.empty(self.whole.shape)


@dataclass(frozen=True)
class Runs:
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
    def of(cls, scores: npt.ArrayLike) -> Runs:
        """The finite scores of `(num_runs, num_tasks)`. Raises ValueError for another shape or a task without one."""
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

    @property
    def layout(self) -> tuple[object, ...]:
        """What the draws depend on: agents of one layout draw alike."""
        return self.stride, self.num_tasks, self.size.tobytes()

    @cached_property
    def of_task(self) -> list[Ints]:
        """By task the positions of its runs."""
        return [np.flatnonzero(self.task == task) for task in range(self.num_tasks)]

    def counted(self, drawn: Ints) -> Counts:
        """How often each run was drawn. drawn: `(replicates, N)`."""
        replicates, runs = drawn.shape
        place = (drawn * self.stride + self.first) * replicates + np.arange(replicates)[:, None]
        counted = np.bincount(place.ravel(), minlength=drawn.size).reshape(runs, replicates)
        return Counts(counted.astype(np.int16 if runs < 2**15 else np.int32))

    def metrics(self, counts: Counts, names: Sequence[str]) -> Floats:
        """Statistics `(len(names), replicates)` of resamples in which each run was drawn so often."""
        result = np.empty((len(names), counts.whole.shape[1]))
        means = self._task_means(counts.floats) if {"median", "mean"} & set(names) else result
        for row, name in enumerate(names):
            if name == "iqm":
                result[row] = self._iqm(counts)
            elif name == "optimality_gap":
                capped = np.minimum(self.values, 1.0)
                result[row] = 1.0 - (capped[0] + ((capped - capped[0]) * self.weight) @ counts.floats)
            else:
                result[row] = means[0] if self.num_tasks == 1 else getattr(np, name)(means, axis=0)
        return result

    def _task_means(self, counts: Floats) -> Floats:
        """`(num_tasks, replicates)`. Of the distance to a run, so that equal runs have exactly their own mean."""
        rows = []
        for runs in self.of_task:
            values = self.values[runs]
            rows.append(values[0] + ((values - values[0]) / len(runs)) @ counts[runs])
        return np.array(rows)

    def _iqm(self, counts: Counts) -> Floats:
        """As if each run were there as often as it takes to give all tasks the same number of runs."""
        order = self.values.argsort(kind="stable")
        copies = math.lcm(*self.size.tolist()) // self.size
        total = int(copies.sum())
        cut = int(_TRIM * total)
        end, kept = counts.scratch
        np.take(counts.whole, order, axis=0, out=end)
        if total > len(copies):
            end = end * copies[order, None]
        for last, row in itertools.pairwise(end):  # faster than `cumsum`, which goes along columns
            row += last
        np.clip(end, cut, total - cut, out=end)
        np.subtract(end[0], cut, out=kept[0])
        np.subtract(end[1:], end[:-1], out=kept[1:])
        values = self.values[order]
        middle = values[len(values) // 2]  # equal runs have exactly their own mean, and an outlier takes no digits
        return middle + ((values - middle) / (total - 2 * cut)) @ kept  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Pair:
    """The runs of two agents. wins: by task, 2 where a run of x scores higher than one of y, 1 for a tie, `(N_y, N_x)`.

    Whole numbers that single precision holds exactly are multiplied in it, which takes half the time.
    """

    x: Runs
    y: Runs
    wins: tuple[npt.NDArray[np.floating[Any]], ...]

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> Pair:
        """The two agents' scores. Raises ValueError for different numbers of tasks, and as `Runs.of`."""
        ours, theirs = Runs.of(x), Runs.of(y)
        if ours.num_tasks != theirs.num_tasks:
            raise ValueError(f"x has {ours.num_tasks} tasks, y has {theirs.num_tasks}; both need the same")
        both = zip(ours.of_task, theirs.of_task, strict=True)
        wins = [2 * np.heaviside(ours.values[a] - theirs.values[b][:, None], 0.5) for a, b in both]
        exact = 2 * int(ours.size.max()) * int(theirs.size.max()) < 2**24
        return cls(ours, theirs, tuple(won.astype(np.float32) if exact else won for won in wins))

    @property
    def layout(self) -> tuple[object, ...]:
        """What the draws depend on."""
        return self.x.layout, self.y.layout

    @property
    def size(self) -> Ints:
        """Limits of the draws: those of x, then those of y."""
        return np.concatenate([self.x.size, self.y.size])

    @property
    def value(self) -> float:
        """The probability that a run of x scores higher, averaged over tasks."""
        return float(sum(won.mean(dtype=np.float64) for won in self.wins)) / (2 * len(self.wins))

    def counted(self, drawn: Ints) -> tuple[list[Floats], list[Floats]]:
        """By task how often each run was drawn, of x and of y. drawn: `(replicates, N_x + N_y)`."""
        split, kind = len(self.x.size), self.wins[0].dtype
        x, y = self.x.counted(drawn[:, :split]).whole, self.y.counted(drawn[:, split:]).whole
        return [x[a].astype(kind) for a in self.x.of_task], [y[b].astype(kind) for b in self.y.of_task]

    def probability(self, counts: tuple[list[Floats], list[Floats]]) -> Floats:
        """The probability in each resample, `(replicates,)`."""
        each = zip(self.wins, *counts, strict=True)
        shares = [np.einsum("ij,ij->j", won @ x, y) / np.float64(2 * won.size) for won, x, y in each]
        return np.mean(shares, axis=0)  # type: ignore[no-any-return]


def together(layouts: Iterable[object]) -> Iterator[list[int]]:
    """Indices of what draws alike by its `Runs.layout`, as many as may be held at a time."""
    groups: dict[object, list[int]] = {}
    for index, layout in enumerate(layouts):
        groups.setdefault(layout, []).append(index)
    for group in groups.values():
        yield from (group[start : start + _TOGETHER] for start in range(0, len(group), _TOGETHER))


def blocks(size: Ints, reps: int, seed: int) -> Iterator[tuple[slice, Ints]]:
    """Yield the slice of replicates and their draws from 0..size-1, int `(replicates, N)`."""
    rng = np.random.RandomState(seed)
    rows = max(1, _BLOCK // len(size))
    equal = size.min() == size.max()
    for start in range(0, reps, rows):
        shape = (min(rows, reps - start), len(size))
        # An array of limits is several times slower, and takes the same numbers from the generator.
        drawn = rng.randint(0, size[0], shape, np.int32) if equal else rng.randint(0, size, shape)
        yield slice(start, start + shape[0]), drawn
