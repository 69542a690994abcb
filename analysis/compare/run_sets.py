"""A set of runs on one side of a comparison, and the pairs of runs that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.rows.scores import CELL, agent_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    Record = Mapping[str, Any]

Key = tuple[Any, ...]  # values of CELL


@dataclass(frozen=True)
class RunSet:
    """One side of a comparison.

    Attributes:
        name: As the user gave it.
        frame: Rows as `results.store.read` returns them.
        records: Provenance by run id, of the runs that have one.
        external: Whether these are external scores, which have no provenance.
    """

    name: str
    frame: pd.DataFrame
    records: Mapping[str, Record]
    external: bool = False

    def records_of(self, runs: Sequence[pd.DataFrame]) -> list[Record]:
        """Provenance of these lines of `final_scores`, of the runs that have one."""
        return [self.records[run] for each in runs for run in each["run_id"] if run in self.records]


@dataclass(frozen=True)
class Match:
    """The runs of one agent on one task in A and in B: lines of `analysis.rows.scores.final_scores`."""

    key: Key
    a: pd.DataFrame
    b: pd.DataFrame

    @property
    def name(self) -> str:
        """The agent's name."""
        return agent_of(self.key)

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.key[CELL.index("task")])


def agent_of(key: Key) -> str:
    """Name of the agent of a cell."""
    part = dict(zip(CELL, key, strict=True))
    return agent_name(part["agent"], part["variant"], part["labels"])


def runs_of_sets(
    a: RunSet, b: RunSet, matches: Sequence[Match]
) -> tuple[tuple[str, RunSet, list[pd.DataFrame]], tuple[str, RunSet, list[pd.DataFrame]]]:
    """Letter, set, and the runs of all matches, of A and of B."""
    return ("A", a, [match.a for match in matches]), ("B", b, [match.b for match in matches])
