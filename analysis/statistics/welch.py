"""The difference of two means known by their summaries: Welch's interval (Welch 1947), and its p-value."""

from __future__ import annotations

import math
from typing import NamedTuple

from analysis.statistics.bootstrap import Estimate


class Summary(NamedTuple):
    """Mean and sample standard deviation of n independent values; std is NaN for one."""

    mean: float
    std: float
    n: int


def difference(ours: Summary, theirs: Summary, confidence: float = 0.95) -> Estimate:
    """`ours - theirs`; the interval is NaN where a deviation is not known."""
    value = ours.mean - theirs.mean
    if not _known(ours, theirs):
        return Estimate(value, math.nan, math.nan)
    error, freedom = _error(ours, theirs)
    half = t_quantile((1 + confidence) / 2, freedom) * error if error else 0.0
    return Estimate(value, value - half, value + half)


def p_value(ours: Summary, theirs: Summary, margin: float = 0.0) -> float:
    """Two-sided probability of a difference this large where the true one is no larger than `margin`; NaN where a
    deviation is not known.

    The larger of Welch's and Student's: Welch's believes a small side whose few values happen to lie close together,
    Student's one that is noisier than the other. Where neither side has any spread there is no t distribution to go
    by: then the probability that the order of the values alone, all orders being as likely, parts the sides so.
    """
    if not _known(ours, theirs):
        return math.nan
    beyond = abs(ours.mean - theirs.mean) - margin
    if beyond <= 0:
        return 1.0
    if ours.std == theirs.std == 0:
        return 2 / math.comb(ours.n + theirs.n, ours.n)
    return max(2 * t_tail(beyond / error, freedom) for error, freedom in (_error(ours, theirs), _pooled(ours, theirs)))


def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t distribution, for a probability of 0.5 and more."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1 - probability:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > 1 - probability else (low, middle)
    return (low + high) / 2


def t_tail(t: float, freedom: float) -> float:
    """Probability that Student's t is above `t`, which is 0 or more."""
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2


def _known(ours: Summary, theirs: Summary) -> bool:
    return min(ours.n, theirs.n) > 1 and math.isfinite(ours.std) and math.isfinite(theirs.std)


def _error(ours: Summary, theirs: Summary) -> tuple[float, float]:
    """Standard error of the difference, and Welch's degrees of freedom; (0, inf) where neither side has any spread."""
    parts = ours.std**2 / ours.n, theirs.std**2 / theirs.n
    variance = sum(parts)
    if variance == 0:
        return 0.0, math.inf
    shares = [part / variance for part in parts]
    return math.sqrt(variance), 1 / (shares[0] ** 2 / (ours.n - 1) + shares[1] ** 2 / (theirs.n - 1))


def _pooled(ours: Summary, theirs: Summary) -> tuple[float, float]:
    """The same as of Student, who takes both sides to vary alike."""
    freedom = ours.n + theirs.n - 2
    variance = ((ours.n - 1) * ours.std**2 + (theirs.n - 1) * theirs.std**2) / freedom
    return math.sqrt(variance * (1 / ours.n + 1 / theirs.n)), freedom


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by the continued fraction of DLMF 8.17.22."""
    if x <= 0 or x >= 1:
        return 1.0 if x >= 1 else 0.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, from the other end
        return 1 - _beta(1 - x, b, a)
    fraction = 1.0
    for m in range(50 + int(4 * math.sqrt(max(a, b))), -1, -1):
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        even = (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2))
        fraction = 1 + odd / (1 + even / fraction)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front) / (a * fraction)
