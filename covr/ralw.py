"""RALW, the return-aware adaptive loss weight: how much each kept sample counts in fine-tuning (COVR, Eq. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def weights(kept_returns: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Weight of each sample, float32 `(N,)` in [0, 1]: returns scaled to [-1, 1], negatives set to 0.

    The highest return weighs 1, those in the lower half of the range weigh 0. Where the range is empty (one sample,
    equal returns) every sample is the best there is and weighs 1. A return that is not finite weighs 0 and does not
    move the range.
    """
    values = np.asarray(kept_returns, np.float64)
    if values.ndim != 1:
        raise ValueError(f"returns have shape {values.shape}; expected one number per sample, (N,)")
    result = np.zeros(values.shape, np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return result
    halved = values[finite] / 2  # the range of the largest floats is still a float
    span = halved.max() - halved.min()
    if span < np.finfo(np.float64).tiny:
        result[finite] = 1.0
    else:
        result[finite] = np.maximum(2 * ((halved - halved.min()) / span) - 1, 0.0)
    return result
