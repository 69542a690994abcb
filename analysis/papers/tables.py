"""A paper's table beside our runs: the paper's value, ours, and the difference with its interval."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from analysis.grids import MARK, Grid
from analysis.papers.published import PAPERS, is_run_of, paper_notes, published
from analysis.rows.remarks import merged_remarks, remarks
from analysis.rows.scores import PROTOCOL, agent_name, final_scores, protocol_name
from analysis.statistics.intervals import Summary, difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.papers.published import Published
    from analysis.statistics.bootstrap import Estimate

CSV_COLUMNS = (
    "table", "suite", "budget", "setting", "task", "metric", "method", "paper_mean", "paper_std", "paper_n",
    "paper_env_steps", "ours", "mean", "std", "n", "env_steps", "difference", "low", "high", "source",
)  # fmt: skip
_METRIC_NAMES = {"return": "episode reward", "driving_distance_m": "driving distance (m)"}
_STEPS_TOLERANCE = 0.01  # share of the paper's steps by which our evaluation may be earlier
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


def paper_tables(frame: pd.DataFrame, table: str) -> list[PaperTable]:
    """A paper's table beside our runs.

    Args:
        frame: Rows as `results.store.read` returns them.
        table: A key of `analysis.papers.published.PAPERS`.

    Returns:
        One table per suite, budget and setting with runs of the table's agents; if there is none, one without runs.
        Our score is the last evaluation at or before the paper's number of environment steps.

    Raises:
        ValueError: For an unknown table.
    """
    numbers = published(table)
    suites = {suite for number in numbers for suite in number.suites}
    rows = frame[frame["suite"].isin(suites)]
    scores = _scores(rows, numbers)
    agents = {number.agent for number in numbers if number.agent}
    tables = []
    for key, group in scores[scores["agent"].isin(agents)].groupby(PROTOCOL, sort=True):
        suite, budget, setting = map(str, key)
        tables.append(_table(table, (suite, budget, setting), [n for n in numbers if suite in n.suites], group))
    return tables or [_table(table, ("", "", ""), numbers, scores.iloc[:0])]


def _scores(rows: pd.DataFrame, numbers: Sequence[Published]) -> pd.DataFrame:
    """Final scores by metric and by the step at which they are compared; `other` counts further action repeats."""
    parts = []
    for metric, env_steps in dict.fromkeys((number.metric, number.env_steps) for number in numbers):
        scores = final_scores(rows, env_steps=env_steps, metric=metric)
        parts.append(scores.assign(metric=metric, compared_at=env_steps))
    scores = pd.concat(parts, ignore_index=True)
    repeats = scores.groupby([*PROTOCOL, "agent", "variant", "labels", "task"])["action_repeat"]
    return scores.assign(other=repeats.rank("dense").astype(int) - 1)


def _table(
    table: str, protocol: tuple[str, str, str], numbers: Sequence[Published], scores: pd.DataFrame
) -> PaperTable:
    columns = tuple(dict.fromkeys((number.task, number.metric) for number in numbers))
    lines: list[Line] = []
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}
    unclaimed = scores
    for method in dict.fromkeys(number.method for number in numbers):
        numbers_by_column = {(number.task, number.metric): number for number in numbers if number.method == method}
        some = next(iter(numbers_by_column.values()))
        runs = scores[is_run_of(scores, some)]
        unclaimed = unclaimed.drop(runs.index, errors="ignore")
        groups = runs.groupby(["agent", "variant", "labels", "other"], sort=True)
        for key, group in groups:
            lines.append(_line(method, _name(*key), numbers_by_column, group, columns, tasks_by_remark))
        if runs.empty:
            lines.append(_line(method, "", numbers_by_column, runs, columns, tasks_by_remark))
    if any(number.labels for number in numbers):  # a table of models: our runs with another model get their own lines
        for key, group in unclaimed.groupby(["agent", "variant", "labels", "other"], sort=True):
            lines.append(_line("-", _name(*key), {}, group, columns, tasks_by_remark))
    sources = tuple(dict.fromkeys(number.source for number in numbers))
    notes = (*paper_notes(table), *merged_remarks(tasks_by_remark))
    return PaperTable(table, protocol, columns, tuple(lines), notes, sources)


def _name(agent: str, variant: str, labels: str, other: int) -> str:
    name = agent_name(agent, variant, labels)
    return f"{name}, {other + 1}. action repeat" if other else name


def _line(
    method: str,
    ours: str,
    numbers_by_column: Mapping[Column, Published],
    runs: pd.DataFrame,
    columns: Sequence[Column],
    tasks_by_remark: dict[tuple[str, str], list[str]],
) -> Line:
    cells = {}
    for column in columns:
        paper = numbers_by_column.get(column)
        found = runs[(runs["task"] == column[0]) & (runs["metric"] == column[1])]
        steps = paper.env_steps if paper else found["compared_at"].max()
        found = found[found["compared_at"] == steps]
        cells[column], notes = _cell(paper, found)
        for remark in notes:
            tasks_by_remark.setdefault((ours or method, remark), []).append(_column_name(column, columns))
    return Line(method, ours, cells)


def _cell(paper: Published | None, runs: pd.DataFrame) -> tuple[Cell, list[str]]:
    notes = remarks(runs) if len(runs) else []
    measured = runs[runs["scored"] > 0]
    if measured.empty:
        return Cell(paper, None, 0, None), notes
    score = measured["score"]
    ours = Summary(float(score.mean(skipna=False)), float(score.std(skipna=False)), len(score))
    env_steps = int(measured["env_steps"].min())
    if ours.n == 1:
        notes.append("one seed: no interval")
    if paper is None or not math.isfinite(ours.mean):
        return Cell(paper, ours, env_steps, None), notes
    if env_steps < (1 - _STEPS_TOLERANCE) * paper.env_steps:
        notes.append(f"evaluated at {env_steps:,} env steps, the paper's at {paper.env_steps:,}: no difference stated")
        return Cell(paper, ours, env_steps, None), notes
    return Cell(paper, ours, env_steps, difference(ours, paper.summary)), notes


def to_grid(table: PaperTable) -> Grid:
    """Up to three rows a method: the paper's values, ours, the differences."""
    rows = []
    for line in table.lines:
        cells = [line.cells[column] for column in table.columns]
        if line.method != "-":
            rows.append((line.method, "paper", *map(_paper_text, cells)))
        rows.append((line.ours, "ours (n)", *map(_ours_text, cells)))
        if any(cell.difference for cell in cells):
            rows.append(("", "ours - paper", *map(_difference_text, cells)))
    names = (_column_name(column, table.columns) for column in table.columns)
    return Grid(table.title, _caption(table), ("method", "", *names), tuple(rows), table.notes, text_columns=2)


def to_long_grid(table: PaperTable) -> Grid:
    """A row per method and column, for narrow terminals."""
    rows = []
    for line in table.lines:
        for index, column in enumerate(table.columns):
            cell = line.cells[column]
            name = (line.method, line.ours)[index] if index < 2 else ""
            task = _column_name(column, table.columns)
            rows.append((name, task, _paper_text(cell), _ours_text(cell), _difference_text(cell)))
    header = ("method, our agent", "", "paper", "ours (n)", "ours - paper")
    return Grid(table.title, _caption(table), header, tuple(rows), table.notes, text_columns=2)


def to_csv(tables: Sequence[PaperTable]) -> str:
    """One line per cell in full precision: columns `CSV_COLUMNS`, missing values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for line in table.lines:
            for (task, metric), cell in line.cells.items():
                paper = (*cell.paper.summary, cell.paper.env_steps) if cell.paper else ("",) * 4
                ours = (*map(_number, cell.ours), cell.env_steps) if cell.ours else ("",) * 4
                gap = tuple(map(_number, cell.difference or (math.nan,) * 3))
                source = cell.paper.source if cell.paper else ""
                writer.writerow(
                    [table.table, *table.protocol, task, metric, line.method, *paper, line.ours, *ours, *gap, source]
                )
    return text.getvalue()


def _caption(table: PaperTable) -> str:
    return (
        "Mean ± standard deviation over seeds, n ours; difference of the means with its 95 % interval (Welch), taking "
        f"the paper's deviation as over its seeds. Published: {'; '.join(table.sources)}."
    )


def _column_name(column: Column, columns: Sequence[Column]) -> str:
    task, metric = column
    tasks, metrics = {task for task, _ in columns}, {metric for _, metric in columns}
    if len(metrics) == 1:
        return task
    return _METRIC_NAMES[metric] if len(tasks) == 1 else f"{task}, {_METRIC_NAMES[metric]}"


def _paper_text(cell: Cell) -> str:
    return f"{cell.paper.summary.mean:g} ± {cell.paper.summary.std:g}" if cell.paper else "-"


def _ours_text(cell: Cell) -> str:
    if cell.ours is None:
        return "published only" if cell.paper and not cell.paper.agent else "not run"
    spread = "" if math.isnan(cell.ours.std) else f" ± {cell.ours.std:.1f}"
    early = f" at {cell.env_steps:,}{MARK}" if cell.paper and not cell.difference else ""
    return f"{cell.ours.mean:.1f}{spread} ({cell.ours.n}){early}"


def _difference_text(cell: Cell) -> str:
    if cell.difference is None:
        return "-"
    value, low, high = cell.difference
    return f"{value:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else MARK)


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
