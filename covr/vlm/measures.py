"""How far answers are from actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def relative_error(
    answers: npt.NDArray[np.float32],
    actions: npt.NDArray[np.float32],
    mean: npt.NDArray[np.floating[Any]],
    weights: npt.NDArray[np.floating[Any]],
) -> float:
    """Mean squared error of answers over that of always answering the mean.

    Args:
        answers, actions: float32 `(N, A)`, what was answered and what was right.
        mean: `(A,)`.
        weights: `(N,)`, of each sample.

    Returns:
        The ratio; NaN if there are no samples, none has weight, or none differs from the mean.
    """
    errors, spreads = (((guess - actions) ** 2).mean(1) @ weights for guess in (answers, mean))
    return float(errors / spreads) if spreads else float("nan")


def agreement(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Correlation of actions `(n, A)` with others, over all components, each less its mean; NaN if one is constant."""
    known = np.atleast_1d(np.isfinite(other).all(axis=1))
    if not known.any():
        return float("nan")
    first, second = (actions[known] - actions[known].mean(0, keepdims=True) for actions in (one, other))
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else float("nan")
