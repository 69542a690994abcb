"""Exact tests: is one group of runs exchangeable with another, whatever their distribution?"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MOST_ORDERS = 20_000  # ways to choose the second group; beyond, they are drawn
FLOOR = 1e-9  # deviation below which a quantity counts as constant, relative to its size


class Separation(NamedTuple):
    """How far two groups are apart in several quantities at once.

    Attributes:
        t: Of each quantity, B against A, in standard errors.
        p: Chance of a largest |t| as large as this if the groups are exchangeable.
        critical: |t| beyond which a single quantity is told apart at the level asked for; NaN if none could be.
    """

    t: Floats
    p: float
    critical: float


@cache
def orders(n_a: int, n_b: int) -> npt.NDArray[np.bool_]:
    """Which runs are the second group, in each of the ways to choose it: `(ways, n_a + n_b)`, the true one first."""
    n, ways = n_a + n_b, math.comb(n_a + n_b, n_b)
    if ways > MOST_ORDERS:
        rng = np.random.default_rng(0)
        chosen = [rng.permutation(n)[:n_b] for _ in range(MOST_ORDERS - 1)]
    else:
        true = tuple(range(n_a, n))
        chosen = [np.asarray(each) for each in itertools.combinations(range(n), n_b) if each != true]
    marks = np.zeros((len(chosen) + 1, n), np.bool_)
    marks[0, n_a:] = True
    for row, each in zip(marks[1:], chosen, strict=True):
        row[each] = True
    return marks


def separation(a: Floats, b: Floats, alpha: float) -> Separation:
    """Hold two groups of runs side by side in all quantities at once (Westfall and Young 1993, max T).

    Exact for any distribution, and for quantities that depend on each other.

    Args:
        a, b: `(runs, quantities)`, finite.
        alpha: Level of `critical`.

    Returns:
        t of each quantity, and p of the largest.
    """
    marks = orders(len(a), len(b))
    t = _t(np.concatenate([a, b]), marks, len(a), len(b))  # (ways, quantities)
    largest = np.abs(t).max(axis=1, initial=0.0)
    p = float((largest >= largest[0] * (1 - 1e-9)).mean())
    allowed = int(alpha * len(marks) + 1e-9)  # orders that may be as extreme as the true one, itself among them
    critical = float(np.sort(largest)[-allowed]) if allowed else math.nan
    return Separation(t[0], p, critical)


def below(a: Floats, b: Floats) -> float:
    """One-sided p of B having smaller values than A if the two are exchangeable; both `(runs,)`; 1 if one is NaN."""
    marks = orders(len(a), len(b))
    sums = np.where(marks, np.concatenate([a, b]), 0.0).sum(axis=1)
    return float((~(sums > sums[0] + 1e-9 * max(1.0, abs(sums[0])))).mean())


def _t(values: Floats, marks: npt.NDArray[np.bool_], n_a: int, n_b: int) -> Floats:
    """Student's t with the pooled deviation, for every order and quantity."""
    size = np.abs(values).max(axis=0)
    centred = values - values.mean(axis=0)
    sums_b = marks.astype(np.float64) @ centred
    sums_a = centred.sum(axis=0) - sums_b
    squares = np.square(centred).sum(axis=0)
    within = squares - np.square(sums_a) / n_a - np.square(sums_b) / n_b
    deviation = np.sqrt(np.maximum(within, 0.0) / (n_a + n_b - 2)) + FLOOR * size
    gap = sums_b / n_b - sums_a / n_a
    error = deviation * math.sqrt(1 / n_a + 1 / n_b)
    t: Floats = np.divide(gap, error, out=np.zeros_like(gap), where=error > 0)
    return t
