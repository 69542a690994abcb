"""What a paper's table beside our runs consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.papers.published import PAPERS
from analysis.rows.scores import protocol_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.papers.published import Published
    from analysis.statistics.bootstrap import Estimate
    from analysis.statistics.intervals import Summary

Column = tuple[str, str]  # task, metric


@dataclass(frozen=True)
class Cell:
    """paper, ours: None if there is none. difference: ours minus the paper's, None if the two are not comparable."""

    paper: Published | None
    ours: Summary | None
    env_steps: int
    difference: Estimate | None


@dataclass(frozen=True)
class Line:
    """One method of the paper and one of our agents; ours is empty if nothing was run."""

    method: str
    ours: str
    cells: Mapping[Column, Cell]


@dataclass(frozen=True)
class PaperTable:
    """A paper's table and our runs of one protocol: suite, budget and setting, all empty if there are no runs."""

    table: str
    protocol: tuple[str, str, str]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def title(self) -> str:
        ours = f", beside {protocol_name(*self.protocol)}" if any(self.protocol) else " (not run yet)"
        return f"{PAPERS[self.table]}{ours}"
