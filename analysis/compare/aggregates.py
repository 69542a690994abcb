"""Statistics over the tasks that two sets of runs share; no verdict is drawn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.rows.scores import PROTOCOL, protocol_name
from analysis.statistics.bootstrap import Estimate, aggregates, improvement
from analysis.statistics.comparison import comparisons
from analysis.statistics.summary import supported_interval
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from analysis.compare.run_sets import Match
    from analysis.statistics.summary import Bootstrap

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Aggregate:
    """One agent over the tasks that could be compared.

    Attributes:
        suite, budget, setting: The protocol.
        agent: The agent's name.
        num_tasks: How many tasks.
        a, b: IQM of the normalised scores, with its interval.
        improvement: Probability that a run of B scores higher than a run of A.
        runs: Numbers of runs of A and of B.
    """

    suite: str
    budget: str
    setting: str
    agent: str
    num_tasks: int
    a: Estimate
    b: Estimate
    improvement: Estimate
    runs: tuple[int, int]

    @property
    def title(self) -> str:
        """Name of the protocol."""
        return protocol_name(self.suite, self.budget, self.setting)


def over_tasks(
    matches: Sequence[Match], ranges: Mapping[str, Mapping[str, tuple[float, float]]], bootstrap: Bootstrap
) -> tuple[list[Aggregate], dict[str, str]]:
    """The aggregates per protocol and agent, and per protocol how scores were normalised, in words."""
    result: list[Aggregate] = []
    normalisation: dict[str, str] = {}
    if not matches:
        return result, normalisation
    sets = (comparisons(_as_rows(runs), ranges) for runs in ([m.a for m in matches], [m.b for m in matches]))
    for a, b in zip(*sets, strict=True):
        normalisation[a.title] = a.refusal or b.refusal or a.normalisation
        for name in a.scores if not (a.refusal or b.refusal) else ():
            columns = np.isfinite(a.scores[name]).any(axis=0)
            x, y = (each.scores[name][:, columns] for each in (a, b))
            protocol = (a.suite, a.budget, a.setting)
            result.append(Aggregate(*protocol, name, int(columns.sum()), *_estimates(x, y, bootstrap), _counts(x, y)))
    return result, normalisation


def _estimates(x: Floats, y: Floats, bootstrap: Bootstrap) -> tuple[Estimate, Estimate, Estimate]:
    """IQM of x, IQM of y, and the probability that y scores higher."""
    iqm_x, iqm_y = (
        supported_interval(aggregates(scores, ("iqm",), reps=bootstrap.reps, seed=bootstrap.seed)["iqm"], scores)
        for scores in (x, y)
    )
    higher = improvement(y, x, reps=bootstrap.reps, seed=bootstrap.seed)
    return iqm_x, iqm_y, supported_interval(higher, x, y)


def _counts(x: Floats, y: Floats) -> tuple[int, int]:
    return int(np.isfinite(x).sum()), int(np.isfinite(y).sum())


def _as_rows(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Final scores as rows of the store, one evaluation a run."""
    frame = pd.concat(runs, ignore_index=True).rename(columns={"score": "value"})
    return frame.drop(columns=PROTOCOL[2:]).assign(kind=RowKind.EVAL.value, metric="return")
