"""Numbers as people read them, however large; and scores that are too large to reckon with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

MOST = 1e100  # of what is much larger, the square in a deviation is no number
_LONG = 1e9  # from here on digits say less than a power of ten
_NAMED = 3  # runs, of those with such a score


def places(values: Iterable[float]) -> int:
    """Decimals that a table of these values is shown with: 1 of returns of hundreds, 3 of shares."""
    return 1 if max((abs(value) for value in values if math.isfinite(value)), default=math.inf) >= 10 else 3


def decimals(value: float, places: int, sign: str = "") -> str:
    """`731.2`, or `1.234e+12` for a number with too many digits. sign: `+` to show that of a positive one, too."""
    return format(value, f"{sign}.{places}f" if not _LONG <= abs(value) < math.inf else f"{sign}.4g")


def bounded(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the store in which no measure of an episode is beyond `MOST`, and remarks on those that were.

    Args:
        frame: Rows as `results.store.read` returns them.

    Returns:
        The rows, such a value being infinite, as if the run had diverged; and remarks that name the runs.
    """
    beyond = frame["kind"].isin(["eval", "episode"]).to_numpy() & (np.abs(frame["value"].to_numpy()) > MOST)
    beyond &= np.isfinite(frame["value"].to_numpy())
    if not beyond.any():
        return frame, []
    values = frame["value"].to_numpy().copy()
    values[beyond] = np.copysign(np.inf, values[beyond])
    keys = frame.loc[beyond, ["agent", "variant", "task", "seed", "metric"]].astype(str).drop_duplicates()
    named = [
        f"{agent}{f'-{variant}' if variant else ''} on {task}, seed {seed} ({metric})"
        for agent, variant, task, seed, metric in keys.to_numpy()
    ]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    remark = f"values beyond {MOST:g} count as infinite: {'; '.join(named[:_NAMED])}{more}"
    return frame.assign(value=values), [remark]
