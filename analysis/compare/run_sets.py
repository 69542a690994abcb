"""A set of runs on one side of a comparison, and the pairs of runs that are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.rows.scores import CELL, agent_name, agent_names, with_setting

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
        unmeasured: Runs that have a record and no rows, in words.
    """

    name: str
    frame: pd.DataFrame
    records: Mapping[str, Record]
    external: bool = False
    unmeasured: tuple[str, ...] = ()

    def records_of(self, runs: Sequence[pd.DataFrame]) -> list[Record]:
        """Provenance of these lines of `final_scores`, of the runs that have one."""
        return [self.records[run] for each in runs for run in each["run_id"] if run in self.records]


def paired(a: RunSet, b: RunSet, agent_a: str, agent_b: str) -> tuple[RunSet, RunSet]:
    """Two sets of one agent each under a common name, so that agents of different names can be compared.

    Args:
        a, b: The sets.
        agent_a, agent_b: Names of the agents; empty for the only one of a set.

    Raises:
        ValueError: If a set has several agents and none is named.
    """
    (a, first), (b, second) = _of_one_agent(a, agent_a), _of_one_agent(b, agent_b)
    names = [first, second]
    name = names[0] if names[0] == names[1] else f"{names[1]} against {names[0]}"
    renamed = []
    for each in (a, b):
        labels = with_setting(each.frame)["setting"].astype(str)
        renamed.append(replace(each, frame=each.frame.assign(agent=name, variant="", labels=labels)))
    return renamed[0], renamed[1]


def _of_one_agent(run_set: RunSet, agent: str) -> tuple[RunSet, str]:
    """The set of its only agent and its name with labels; among variants, `agent` is the one of exactly that name."""
    names = agent_names(run_set.frame)
    known = sorted(set(names))
    if len(known) > 1 and agent not in known:
        raise ValueError(f"{run_set.name} has several agents, name one as {run_set.name}:AGENT: {', '.join(known)}")
    exact = run_set.frame[names == agent] if len(known) > 1 else run_set.frame
    return replace(run_set, frame=exact), known[0] if len(known) == 1 else agent


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
