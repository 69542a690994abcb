"""Looking several times at data that grow: how much of the chance of a false alarm each look may spend.

Lan and DeMets 1983 (Biometrika 70:659), with their spending function of Pocock's kind. The statistics of the looks are
taken as jointly normal with correlation sqrt(t_i / t_j), where t is the share of the information that a look has.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def spent(share: float, alpha: float) -> float:
    """What may be spent of `alpha` by a look that has a share of the information, 0 to 1."""
    return alpha * math.log(1 + (math.e - 1) * min(share, 1.0))


def information(ours: Sequence[int], theirs: int) -> list[float]:
    """Shares of the information of looks at so many of our values, held against a fixed number of theirs."""
    amounts = [1 / (1 / n + 1 / theirs) for n in ours]
    return [amount / amounts[-1] for amount in amounts]


def levels(shares: Sequence[float], alpha: float) -> list[float]:
    """One-sided levels to test at, look by look, so that any false alarm at all has a chance of at most `alpha`.

    Args:
        shares: Of the information at each look, rising to 1.
        alpha: Between 0 and 1.

    Returns:
        p at or below which a look decides; by at most 1e-4 uncertain, since the joint probabilities are integrated
        numerically.
    """
    return list(_levels(tuple(shares), alpha))


@cache
def _levels(shares: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    from scipy.optimize import brentq
    from scipy.stats import multivariate_normal, norm

    bounds: list[float] = []
    for look in range(1, len(shares) + 1):
        t = np.asarray(shares[:look])
        correlation = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
        within = 1 - spent(shares[look - 1], alpha)

        def excess(bound: float, correlation: np.ndarray = correlation, within: float = within) -> float:
            limits = [*bounds, bound]
            if len(limits) == 1:
                return float(norm.cdf(bound)) - within
            return float(multivariate_normal.cdf(limits, cov=correlation, abseps=1e-5, rng=0)) - within

        bounds.append(float(brentq(excess, 0.0, 8.0, xtol=1e-6)))
    return tuple(float(norm.sf(bound)) for bound in bounds)
