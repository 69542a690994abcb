"""The fourth question: are the returns worse? Asked at three looks, each of which may decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.rows.final import mean_and_deviation
from analysis.statistics.permutation import below
from analysis.statistics.sequential import information, levels
from results.states import TextEnum

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKS = (3, 5, 8)  # new seeds at which it may be decided
POWER_Z = 0.8416212335729143  # normal quantile of a power of 80 %
MOST_SEEDS = 10_000  # needed, beyond which no number is stated


class Answer(TextEnum):
    """What the returns say."""

    WORSE = "worse"
    NOT_WORSE = "not worse"
    UNDECIDED = "undecided"


class Returns(NamedTuple):
    """The answer, with its evidence: mean training returns over a run.

    Attributes:
        answer: What may be concluded.
        reference, new: Means over seeds.
        seeds: Numbers of seeds of the reference and of the new side.
        margin: A loss up to this does not matter; in the task's return.
        needed: Seeds on each side that would show with 80 % that an equal agent is not worse; 0 if decided, or if more
            than `MOST_SEEDS`.
    """

    answer: Answer
    reference: float
    new: float
    seeds: tuple[int, int]
    margin: float
    needed: int

    def text(self) -> str:
        """In one clause."""
        means_by_side = {"the reference": self.reference, "the new side": self.new}
        if lacking := [side for side, mean in means_by_side.items() if not math.isfinite(mean)]:
            return f"a run of {' and of '.join(lacking)} has no finite training return: worse or not is undecided"
        ours, theirs = f"{self.new:.4g} ({self.seeds[1]} seeds)", f"{self.reference:.4g} ({self.seeds[0]} seeds)"
        means = f"mean training return {ours} where the reference has {theirs}"
        if self.answer is Answer.WORSE:
            return f"{means}: worse"
        if self.answer is Answer.NOT_WORSE:
            return f"{means}: not worse by more than {self.margin:.3g}"
        seeds = f"about {self.needed} seeds a side" if self.needed else "no number of seeds"
        return f"{means}: whether worse by more than {self.margin:.3g} is undecided; {seeds} would decide"


def looks(first: int) -> tuple[int, ...]:
    """Numbers of new seeds at which to look, where so many are there anyway."""
    return (first, *(each for each in LOOKS if each > first))


def returns(
    reference: Sequence[float], new: Sequence[float], margin: float, alpha: float, planned: Sequence[int] = LOOKS
) -> Returns:
    """Whether the new side is worse, as far as its seeds tell.

    A loss is shown if the reference's seeds are above the new ones more than chance allows; no loss that matters is
    shown if they are still below once `margin` is taken from them.

    Args:
        reference, new: A score for each seed; undecided if one is not finite.
        margin: A loss up to this does not matter; 0 or more.
        alpha: Chance of calling an equal agent worse at any look, and of passing one that is worse by the margin.
        planned: Numbers of new seeds at the looks; `len(new)` is one of them.
    """
    a, b = np.asarray(reference, np.float64), np.asarray(new, np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        means = mean_and_deviation(a)[0], mean_and_deviation(b)[0]
        return Returns(Answer.UNDECIDED, *means, (len(a), len(b)), margin, 0)
    level = levels(information(planned, len(a)), alpha)[list(planned).index(len(b))]
    not_worse = below(b, a - margin) <= level
    answer = Answer.NOT_WORSE if not_worse else Answer.WORSE if below(a, b) <= level else Answer.UNDECIDED
    needed = _needed(a, b, margin, level) if answer is Answer.UNDECIDED else 0
    return Returns(answer, float(a.mean()), float(b.mean()), (len(a), len(b)), margin, needed)


def _needed(a: np.ndarray, b: np.ndarray, margin: float, level: float) -> int:
    from scipy.stats import norm

    spread = math.sqrt((a.var(ddof=1) * (len(a) - 1) + b.var(ddof=1) * (len(b) - 1)) / (len(a) + len(b) - 2))
    if not margin > 0:
        return 0
    n = math.ceil(2 * ((float(norm.isf(level)) + POWER_Z) * spread / margin) ** 2)
    n = max(n, len(b) + 1)
    return n if n <= MOST_SEEDS else 0
