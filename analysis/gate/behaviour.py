"""The third question: do the signals of new runs behave as those of the reference?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.gate.signals import features
from analysis.rows.final import mean_and_deviation
from analysis.statistics.permutation import separation

if TYPE_CHECKING:
    import pandas as pd

FAR = 3.0  # deviations at which `distances` names a signal


class Moved(NamedTuple):
    """A signal that moved: where, from what to what (means over seeds), by how many deviations of the reference."""

    task: str
    signal: str
    window: str
    reference: float
    new: float
    deviations: float

    def text(self) -> str:
        """Such as `critic_loss, late: 0.31 where the reference has 0.12 (8.2 deviations)`."""
        away = f"{abs(self.deviations):.3g} deviations" if math.isfinite(self.deviations) else "which never varies"
        both = f"{self.new:.4g} where the reference has {self.reference:.4g}"
        return f"{self.signal}, {self.window}: {both} ({away})"


class Behaviour(NamedTuple):
    """The answer.

    Attributes:
        p: Chance of so large a separation between groups of runs of the same agent.
        visible: Deviations of the reference by which one signal has to move to be told apart; NaN if none could be.
        moved: What was told apart, the farthest first.
        broken: Signals that are numbers in the reference and none in the new runs.
        remarks: Signals that only one side has.
    """

    p: float
    visible: float
    moved: tuple[Moved, ...]
    broken: tuple[str, ...]
    remarks: tuple[str, ...]


def behaviour(reference: pd.DataFrame, new: pd.DataFrame, alpha: float) -> Behaviour:
    """Hold new runs against the reference's, in all signals on all tasks at once.

    Args:
        reference, new: As `analysis.gate.signals.signals` returns them.
        alpha: Chance of telling apart what is the same.

    Returns:
        What moved, if anything did.
    """
    a, b = features(reference), features(new)
    shared = [column for column in a.columns if column in b.columns and np.isfinite(a[column]).all()]
    broken = {f"{task}: {signal}" for task, signal, window in shared if not np.isfinite(b[task, signal, window]).all()}
    held = _Held(a, b, [column for column in shared if np.isfinite(b[column]).all()])
    found = separation(held.left, held.right, alpha)
    told_apart = np.abs(found.t) >= found.critical if found.p <= alpha else np.zeros(len(found.t), np.bool_)
    moved = tuple(held.moved(i) for i in np.argsort(-np.abs(found.t)) if told_apart[i])
    visible = found.critical * math.sqrt(1 / len(a) + 1 / len(b))
    return Behaviour(found.p, visible, moved, tuple(sorted(broken)), tuple(_only(a, b)))


def distances(reference: pd.DataFrame, new: pd.DataFrame, at_least: float = FAR) -> list[Moved]:
    """Signals that are at least so many deviations of the reference away from it, the farthest first: no test."""
    a, b = features(reference), features(new)
    finite = [c for c in a.columns if c in b.columns and np.isfinite(a[c]).all() and np.isfinite(b[c]).all()]
    held = _Held(a, b, finite)
    every = sorted((held.moved(i) for i in range(len(finite))), key=lambda each: -abs(each.deviations))
    return [each for each in every if abs(each.deviations) >= at_least]


class _Held:
    """Two sides in the same quantities, each `(runs, quantities)`.

    What is positive in every run is held side by side by its logarithm: norms and losses vary by factors.
    """

    def __init__(self, a: pd.DataFrame, b: pd.DataFrame, columns: list[tuple[str, str, str]]) -> None:
        self.columns = columns
        self.a, self.b = a[columns].to_numpy(np.float64), b[columns].to_numpy(np.float64)
        positive = (self.a > 0).all(axis=0) & (self.b > 0).all(axis=0)
        self.left, self.right = (
            np.where(positive, np.log(np.where(positive, each, 1.0)), each) for each in (self.a, self.b)
        )

    def moved(self, i: int) -> Moved:
        """How far quantity i is from the reference."""
        level, spread = mean_and_deviation(self.left[:, i])
        gap = mean_and_deviation(self.right[:, i])[0] - level
        away = gap / spread if spread else math.copysign(math.inf, gap) if gap else 0.0
        return Moved(*self.columns[i], float(self.a[:, i].mean()), float(self.b[:, i].mean()), away)


def _only(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    names = {"the reference": _signal_names(a), "the new side": _signal_names(b)}
    return [
        f"{name}: only {side} has it"
        for side, other in (("the reference", "the new side"), ("the new side", "the reference"))
        for name in sorted(names[side] - names[other])
    ]


def _signal_names(table: pd.DataFrame) -> set[str]:
    return {str(signal) for _, signal, _ in table.columns}
