"""The Wilson score interval of a rate: how often something happened, from few trials."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # the normal quantile of a two-sided 95% interval


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """(low, high) of a rate after `successes` of `n` trials, both within 0..1; (nan, nan) without a trial.

    Raises ValueError if successes do not lie within 0..n. Source: Wilson 1927, J. Am. Stat. Assoc. 22:209.
    """
    if n == 0:
        return math.nan, math.nan
    if not 0 <= successes <= n:
        raise ValueError(f"{successes:g} successes of {n} trials")
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
