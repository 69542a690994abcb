"""Signals of runs as tables: one value for each interval, and what is compared of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERVALS = 20
RETURN, EVALUATION = "training return", "evaluation return"
WINDOWS = {"early": (0, 7), "middle": (7, 14), "late": (14, INTERVALS)}
"""Thirds of a run, in intervals."""
_TIMES = ("seconds", "_s")  # endings of what is measured in time, which differs between machines


def signals(frame: pd.DataFrame) -> pd.DataFrame:
    """Every signal of every run in a store's rows.

    Args:
        frame: As `results.store.read` returns it, of one agent and one length of runs.

    Returns:
        One row for each interval, `task, seed, interval` (1 to 20) and a float32 column for each signal, missing where
        there is none. The returns are signals too, and so is what a VLM's rounds measure.
    """
    total = int(frame.loc[frame["kind"] == RowKind.EVAL.value, "env_steps"].max())
    parts = [part for part in _parts(frame) if len(part)]
    rows = pd.concat(parts, ignore_index=True)
    rows["interval"] = (rows["env_steps"] * INTERVALS // total).clip(1, INTERVALS)
    keys = ["task", "seed", "interval"]
    rows = rows.astype({"task": str, "metric": str})
    wide = rows.pivot_table(index=keys, columns="metric", values="value", aggfunc="mean", dropna=False)
    wide = wide.dropna(how="all").astype(np.float32)
    wide.columns = [str(column) for column in wide.columns]
    return wide.reset_index()


def _parts(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    columns = ["task", "seed", "env_steps", "metric", "value"]
    kinds = frame["kind"].astype(str)
    metrics = frame["metric"].astype(str)
    yield frame.loc[kinds == RowKind.SIGNAL.value, columns]
    for kind, name in ((RowKind.EPISODE, RETURN), (RowKind.EVAL, EVALUATION)):
        yield frame.loc[(kinds == kind.value) & (metrics == "return"), columns].assign(metric=name)
    timed = metrics.str.endswith(_TIMES)
    rounds = frame.loc[(kinds == RowKind.VLM.value) & ~timed, columns]
    yield rounds.assign(metric="vlm: " + rounds["metric"].astype(str))


def features(table: pd.DataFrame) -> pd.DataFrame:
    """What is compared: the mean of each signal on each task in each third of a run.

    Args:
        table: As `signals` returns it.

    Returns:
        A row for each seed; columns `(task, signal, window)`.
    """
    parts = {}
    for window, (begin, end) in WINDOWS.items():
        inside = table[(table["interval"] > begin) & (table["interval"] <= end)]
        means = inside.drop(columns="interval").groupby(["seed", "task"]).mean()
        parts[window] = means.unstack("task")
    wide = pd.concat(parts, axis=1)
    wide.columns = pd.MultiIndex.from_tuples([(task, signal, window) for window, signal, task in wide.columns])
    return wide.astype(np.float64).sort_index(axis=1)


def areas(table: pd.DataFrame, task: str) -> pd.Series:
    """The mean training return of each seed over all intervals of its run on a task; NaN where no episode ended."""
    rows = table[table["task"] == task].reindex(columns=["seed", RETURN])
    return rows.groupby("seed")[RETURN].mean().astype(np.float64)
