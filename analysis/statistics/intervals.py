"""Closed forms: the difference of two means with interval and p, Holm's correction, the interval of a rate.

Student's t comes from `scipy.special`. Holm's correction and Wilson's interval are a few lines each: the packages that
have them (`statsmodels`, `scipy.stats`) take longer to import than `covr-bench table` may take.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from analysis.statistics.bootstrap import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

Z95 = 1.959963984540054  # normal quantile of a two-sided 95 % interval


class Summary(NamedTuple):
    """Mean and sample standard deviation of n independent values; std is NaN for one."""

    mean: float
    std: float
    n: int


def difference(ours: Summary, theirs: Summary, confidence: float = 0.95) -> Estimate:
    """`ours.mean - theirs.mean` with Welch's interval.

    Args:
        ours, theirs: Summaries in the same unit.
        confidence: Probability that the interval covers the true difference, 0 to 1.

    Returns:
        The difference; low and high are NaN where a standard deviation is unknown.
    """
    value = ours.mean - theirs.mean
    if not _known(ours, theirs):
        return Estimate(value, math.nan, math.nan)
    error, freedom = _error(ours, theirs)
    half = t_quantile((1 + confidence) / 2, freedom) * error if error else 0.0
    return Estimate(value, value - half, value + half)


def mean_interval(sample: Summary, confidence: float = 0.95) -> Estimate:
    """The mean with Student's interval.

    Args:
        sample: Summary of independent values.
        confidence: Probability that the interval covers the true mean, 0 to 1.

    Returns:
        The mean; low and high are NaN where the standard deviation is unknown.
    """
    if sample.n < 2 or not math.isfinite(sample.std):
        return Estimate(sample.mean, math.nan, math.nan)
    half = t_quantile((1 + confidence) / 2, sample.n - 1) * sample.std / math.sqrt(sample.n)
    return Estimate(sample.mean, sample.mean - half, sample.mean + half)


def p_value(ours: Summary, theirs: Summary, margin: float = 0.0) -> float:
    """Two-sided probability of a difference at least this large if the true one is at most `margin`.

    It is the larger of Welch's and Student's p. Welch's test trusts a small sample whose few values happen to lie close
    together; Student's test trusts a sample that is noisier than the other. If neither sample has any spread, no t
    distribution applies: p is then the probability that a random order of the values separates the two samples.

    Args:
        ours, theirs: Summaries in the same unit.
        margin: Differences up to this do not matter; same unit, 0 or more.

    Returns:
        The probability, 0 to 1; NaN where a standard deviation is unknown.
    """
    if not _known(ours, theirs):
        return math.nan
    beyond = abs(ours.mean - theirs.mean) - margin
    if beyond <= 0:
        return 1.0
    errors = _error(ours, theirs), _pooled(ours, theirs)
    if not all(error for error, _ in errors):
        return 2 / math.comb(ours.n + theirs.n, ours.n)
    return max(2 * t_tail(beyond / error, freedom) for error, freedom in errors)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests (Holm 1979, Scand. J. Stat. 6:65).

    Args:
        p_values: p of each test; NaN for one that was not made, which does not count.

    Returns:
        Adjusted p in the same order, NaN where it was NaN. The chance that any true null hypothesis has an adjusted p
        of at most alpha is at most alpha.
    """
    tested = sorted((index for index, p in enumerate(p_values) if math.isfinite(p)), key=lambda index: p_values[index])
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a rate (Wilson 1927, J. Am. Stat. Assoc. 22:209).

    Args:
        successes: How often it happened, 0 to n.
        n: Number of trials.
        z: Normal quantile of the confidence.

    Returns:
        Low and high, both within 0 to 1; NaN and NaN without a trial.

    Raises:
        ValueError: If `successes` lies outside 0 to n.
    """
    if n == 0:
        return math.nan, math.nan
    if not 0 <= successes <= n:
        raise ValueError(f"{successes:g} successes of {n} trials")
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution with `freedom` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def t_tail(t: float, freedom: float) -> float:
    """Probability that Student's t with `freedom` degrees of freedom exceeds `t`."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))


def _known(ours: Summary, theirs: Summary) -> bool:
    return min(ours.n, theirs.n) > 1 and math.isfinite(ours.std) and math.isfinite(theirs.std)


def _error(ours: Summary, theirs: Summary) -> tuple[float, float]:
    """Standard error of the difference and Welch's degrees of freedom; (0, inf) if neither sample has any spread."""
    parts = ours.std**2 / ours.n, theirs.std**2 / theirs.n
    variance = sum(parts)
    if variance == 0:
        return 0.0, math.inf
    shares = [part / variance for part in parts]
    return math.sqrt(variance), 1 / (shares[0] ** 2 / (ours.n - 1) + shares[1] ** 2 / (theirs.n - 1))


def _pooled(ours: Summary, theirs: Summary) -> tuple[float, float]:
    """Standard error of the difference and degrees of freedom by Student's test, which assumes equal variances."""
    freedom = ours.n + theirs.n - 2
    variance = ((ours.n - 1) * ours.std**2 + (theirs.n - 1) * theirs.std**2) / freedom
    return math.sqrt(variance * (1 / ours.n + 1 / theirs.n)), freedom
