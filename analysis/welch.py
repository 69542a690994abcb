"""The difference of two means known by their summaries, with Welch's interval (Welch 1947)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from analysis.stats import Estimate


class Summary(NamedTuple):
    """Mean and sample standard deviation of n independent values; std is NaN for one."""

    mean: float
    std: float
    n: int


def difference(ours: Summary, theirs: Summary, confidence: float = 0.95) -> Estimate:
    """`ours - theirs`; the interval is NaN where a deviation is not known."""
    value = ours.mean - theirs.mean
    if ours.n < 2 or theirs.n < 2 or not (math.isfinite(ours.std) and math.isfinite(theirs.std)):
        return Estimate(value, math.nan, math.nan)
    parts = ours.std**2 / ours.n, theirs.std**2 / theirs.n
    variance = sum(parts)
    if variance == 0:
        return Estimate(value, value, value)
    freedom = variance**2 / (parts[0] ** 2 / (ours.n - 1) + parts[1] ** 2 / (theirs.n - 1))
    half = t_quantile((1 + confidence) / 2, freedom) * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t distribution, for 1 and more degrees of freedom, to about five digits.

    With t = sqrt(freedom) tan(u), the density in u is proportional to cos(u)^(freedom - 1) on (-pi/2, pi/2).
    """
    u = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    density = np.cos(u).clip(min=0.0) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(probability, below / below[-1], u)))
