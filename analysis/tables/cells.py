"""Cells of a table of scores: one agent on one task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.grids import MARK
from analysis.numbers import decimals
from analysis.rows.final import SCORES, mean_and_deviation
from analysis.rows.remarks import merged_remarks, remarks, run_columns
from analysis.rows.scores import agent_name, same_steps, with_score

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pandas as pd

    from analysis.rows.remarks import RunColumns

Column = tuple[str, int]  # task, action_repeat
Key = tuple[str, Column]  # the agent's name, task
_CELL = ["agent", "variant", "labels", "task", "action_repeat"]


@dataclass(frozen=True)
class Cell:
    """One agent on one task: mean and sample standard deviation of a score over n seeds.

    std: NaN for one seed. env_steps, latest: where the seeds were scored, the earliest and the latest.
    """

    agent: str
    variant: str
    labels: str
    task: str
    action_repeat: int
    n: int
    mean: float
    std: float
    env_steps: int
    latest: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """Everything of one score in a table.

    Attributes:
        score: One of `analysis.rows.final.SCORES`.
        by_key: By the agent's name and column; absent if nothing was measured.
        means: By the agent's name the mean over tasks, only of agents with a finite score on every task.
        notes: What is missing or unusual.
        unmeasured: Cells of runs without this score, such as failed ones: n is 0, mean and std are NaN.
    """

    score: str
    by_key: Mapping[Key, Cell]
    means: Mapping[str, float]
    notes: tuple[str, ...]
    unmeasured: Mapping[Key, Cell]


def cells(scores: pd.DataFrame, columns: Sequence[Column], seeds: Sequence[int] | None) -> dict[str, Cells]:
    """The cells of every score of `analysis.rows.final.SCORES`.

    Args:
        scores: Lines of `final_scores` of one suite, budget and setting.
        columns: The columns of the table.
        seeds: Seeds that each agent should have on each task; if None, those it has on any.
    """
    groups = scores.groupby(_CELL, observed=True, sort=False).indices
    seed, expected = scores["seed"].to_numpy(), dict[Any, set[int]]()
    for (*agent, _, _), lines in groups.items():
        expected.setdefault(tuple(agent), set()).update(seed[lines].tolist() if seeds is None else seeds)
    runs_of_cells = [(key, sorted(expected[key[:3]]), groups[key]) for key in sorted(groups)]
    return {score: _of_score(run_columns(with_score(scores, score)), runs_of_cells, columns, score) for score in SCORES}


def _of_score(
    numbers: RunColumns, runs_of_cells: Sequence[tuple[Any, list[int], Any]], columns: Sequence[Column], score: str
) -> Cells:
    """numbers: of all cells. runs_of_cells: key by `_CELL`, expected seeds, and places in `numbers` of each cell."""
    headings_by_column = dict(zip(columns, headings(columns), strict=True))
    by_key: dict[Key, Cell] = {}
    unmeasured: dict[Key, Cell] = {}
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}  # keys: agent and remark
    for (agent, variant, labels, task, repeat), expected, lines in runs_of_cells:
        runs = {column: values[lines] for column, values in numbers.items()}
        name, column = agent_name(agent, variant, labels), (task, int(repeat))
        notes = tuple(remarks(runs, expected, score))
        for remark in notes:
            tasks_by_remark.setdefault((name, remark), []).append(headings_by_column[column])
        measured = runs["scored"] > 0
        if measured.any():
            runs = {column: values[measured] for column, values in runs.items()}
            by_key[name, column] = _cell((agent, variant, labels), column, runs, notes)
        else:
            unmeasured[name, column] = Cell(agent, variant, labels, *column, 0, math.nan, math.nan, 0, 0, notes)
    return Cells(score, by_key, _means(by_key, columns), tuple(merged_remarks(tasks_by_remark)), unmeasured)


def _cell(key: tuple[str, str, str], column: Column, runs: RunColumns, notes: tuple[str, ...]) -> Cell:
    mean, std = mean_and_deviation(runs["score"])
    steps = runs["env_steps"]
    return Cell(*key, *column, len(runs["score"]), mean, std, int(steps.min()), int(steps.max()), notes)


def _means(by_key: Mapping[Key, Cell], columns: Sequence[Column]) -> dict[str, float]:
    means = {}
    if len({task for task, _ in columns}) == len(columns) > 1:  # at two action repeats a task would count twice
        for name in dict.fromkeys(name for name, _ in by_key):
            row = [by_key[name, column].mean for column in columns if (name, column) in by_key]
            if len(row) == len(columns) and all(map(math.isfinite, row)):
                means[name] = sum(row) / len(row)
    return means


def headings(columns: Sequence[Column]) -> list[str]:
    """Names of tasks, with the action repeat if a task has two."""
    repeated = len({task for task, _ in columns}) < len(columns)
    return [f"{task} (action repeat {repeat})" if repeated and repeat else task for task, repeat in columns]


def cell_text(cell: Cell | None, digits: int, *, with_n: bool) -> str:
    """`731.2 ± 41.0 (5)`, with a mark if a note concerns the cell; `-` without one. digits: decimals."""
    if cell is None:
        return "-"
    spread = "" if math.isnan(cell.std) else f" ± {decimals(cell.std, digits)}"
    return f"{decimals(cell.mean, digits)}{spread}{f' ({cell.n})' if with_n else ''}{MARK if cell.notes else ''}"


def mean_text(mean: float | None, digits: int, cells: Iterable[str]) -> str:
    """A mean over tasks, with a mark if one of its cells has one; `-` without one."""
    mark = MARK if any(text.endswith(MARK) for text in cells) else ""
    return "-" if mean is None else f"{decimals(mean, digits)}{mark}"


def seed_count(shown: Collection[Cell]) -> int | None:
    """The number of seeds if every cell has the same; the caption states it once."""
    counts = {cell.n for cell in shown}
    return counts.pop() if len(counts) == 1 else None


def over_seeds(n: int | None) -> str:
    """What the numbers of cells are, in words. n: from `seed_count`."""
    return "1 seed" if n == 1 else f"mean ± standard deviation over {'(n)' if n is None else n} seeds"


def where(steps: Iterable[int]) -> str:
    """Environment steps in words."""
    each = sorted(set(steps))
    if len(each) > 1:
        far = "" if same_steps(each[0], each[-1]) else " (not all comparable)"
        return f"at {each[0]:,} to {each[-1]:,} environment steps{far}"
    return f"at {each[0]:,} environment steps"
