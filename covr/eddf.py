"""EDDF, the exploration-driven dynamic filter: which samples the VLM is fine-tuned on (COVR, Eq. 5).

The score of a sample is its return; another score of the same shape (a Q value, a single reward) takes its place in
the ablations.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Direction = Literal["eq5", "prose"]
"""`eq5`: a higher policy entropy raises the threshold, as printed. `prose`: it lowers it, as the text says."""

Compare = Literal["z", "raw"]
"""What must exceed the threshold: the z-scored return, or the return itself, as the text says word for word."""


def zscores(returns: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns `(N,)` less their mean, over their standard deviation (population), float64 `(N,)`.

    Statistics are of the finite returns; the z-score of any other is NaN. Equal returns have z-score 0.
    """
    values = _column(returns)
    finite = np.isfinite(values)
    z = np.full(values.shape, np.nan)
    if not finite.any():
        return z
    kept = values[finite]
    low, high = kept.min(), kept.max()
    # Halved first, so that the range of the largest floats is still a float; returns that differ by a denormal tie.
    span = high / 2 - low / 2
    if span < np.finfo(np.float64).tiny:
        z[finite] = 0.0
        return z
    unit = (kept / 2 - low / 2) / span
    z[finite] = (unit - unit.mean()) / unit.std()
    return z


def threshold(z_returns: npt.ArrayLike, entropy: float, direction: Direction = "eq5") -> float:
    """tau = median + sigmoid(entropy) * IQR of the z-scored returns; `prose` takes sigmoid(-entropy).

    z_returns: `(N,)`; NaN entries are left out. IQR: 75th less 25th percentile, linearly interpolated.
    entropy: of the policy, in nats; a differential entropy may be negative, and infinities are limits.
    Raises ValueError if no entry is finite, for a NaN entropy and for an unknown direction.
    """
    if direction not in get_args(Direction):
        raise ValueError(f"EDDF direction is {direction!r}; choose one of {get_args(Direction)}")
    if math.isnan(entropy):
        raise ValueError("EDDF's entropy is NaN; it must be a number of nats")
    z = _column(z_returns)
    z = z[np.isfinite(z)]
    if not z.size:
        raise ValueError("EDDF has no finite return to set a threshold from")
    low, median, high = np.percentile(z, (25, 50, 75))
    return float(median + _sigmoid(entropy if direction == "eq5" else -entropy) * (high - low))


def select(
    returns: npt.ArrayLike, entropy: float, direction: Direction = "eq5", compare: Compare = "z"
) -> npt.NDArray[np.bool_]:
    """Which samples to keep, bool `(N,)`: those whose z-scored return exceeds the threshold.

    "Exceeds" is strict, so equal returns, a single sample and an empty buffer keep nothing. A return that is NaN or
    infinite is never kept and does not move the threshold. Raises ValueError as `threshold` does, and for an unknown
    `compare`.
    """
    if compare not in get_args(Compare):
        raise ValueError(f"EDDF compares {compare!r}; choose one of {get_args(Compare)}")
    z = zscores(returns)
    if not np.isfinite(z).any():
        threshold((0.0,), entropy, direction)  # the arguments are checked all the same
        return np.zeros(z.shape, np.bool_)
    tau = threshold(z, entropy, direction)
    return np.greater(z if compare == "z" else np.where(np.isnan(z), np.nan, returns), tau)  # NaN compares false


def _column(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"returns have shape {array.shape}; expected one number per sample, (N,)")
    return array


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
