"""Runs as step functions on a common grid: at each step a run has the value of its last evaluation so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Steps = Sequence[npt.NDArray[Any]]


def by_run(rows: pd.DataFrame) -> tuple[list[Ints], list[Floats]]:
    """Per run its environment steps and its values, runs in the order of their first rows.

    rows: Evaluations with the columns run_id, env_steps and value, increasing in environment steps.
    """
    run, _ = pd.factorize(rows["run_id"])
    order = run.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(run[order])) + 1
    steps, values = (
        rows[name].to_numpy(kind)[order] for name, kind in (("env_steps", np.int64), ("value", np.float64))
    )
    return np.split(steps, starts), np.split(values, starts)


def shared_grid(steps: Steps) -> Ints:
    """Every step of some run, from the first at which every run was evaluated to the end of the shortest run.

    steps: Per run the environment steps of its evaluations, increasing.
    """
    first, last = max(int(each[0]) for each in steps), min(int(each[-1]) for each in steps)
    every: Ints = np.unique(np.concatenate(steps))
    return every[(first <= every) & (every <= last)]


def held(steps: Steps, values: Sequence[Floats], grid: Ints) -> Floats:
    """The runs' values on a grid.

    Args:
        steps: Per run the environment steps of its evaluations, increasing.
        values: Per run its returns.
        grid: Steps within `shared_grid`.

    Returns:
        float64 `(num_runs, num_steps)`; NaN where the last evaluation is not a finite number.
    """
    rows = [y[np.searchsorted(x, grid, side="right") - 1] for x, y in zip(steps, values, strict=True)]
    result = np.array(rows, np.float64).reshape(len(steps), len(grid))
    return np.where(np.isfinite(result), result, np.nan)
