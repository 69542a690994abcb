"""A paper's table beside our runs: the paper's value, ours, and the difference with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.grids import to_csv as csv_text
from analysis.papers.cells import Cell, Line, PaperTable
from analysis.papers.layouts import column_name
from analysis.papers.published import is_run_of, paper_notes, published
from analysis.rows.final import mean_and_deviation
from analysis.rows.remarks import merged_remarks, remarks, run_columns
from analysis.rows.scores import PROTOCOL, agent_name, final_scores, same_steps
from analysis.rows.stand_ins import stand_ins
from analysis.statistics.intervals import Summary, difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.papers.cells import Column
    from analysis.papers.published import Published

CSV_COLUMNS = (
    "table", "suite", "budget", "setting", "task", "metric", "method", "paper_mean", "paper_std", "paper_n",
    "paper_env_steps", "ours", "mean", "std", "n", "env_steps", "difference", "low", "high", "source",
)  # fmt: skip


def paper_tables(frame: pd.DataFrame, table: str, named: Mapping[str, Sequence[str]] | None = None) -> list[PaperTable]:
    """A paper's table beside our runs.

    Args:
        frame: Rows as `results.store.read` returns them.
        table: A key of `analysis.papers.published.PAPERS`.
        named: By method of the paper the names of our agents, variants too, that stand beside it in place of its own.

    Returns:
        One table per suite, budget and setting with runs of the table's agents on its tasks; if all of these are of
        variants that stand beside no method, those, and if there is none, one without runs.
        Our score is the last evaluation at or before the paper's number of environment steps.

    Raises:
        ValueError: For an unknown table, or a method or agent in `named` that is not there.
    """
    numbers, named = published(table), named or {}
    suites = {suite for number in numbers for suite in number.suites}
    tasks = {number.task for number in numbers}
    rows = frame[frame["suite"].isin(suites) & frame["task"].isin(tasks)]
    scores = _scores(rows, numbers)
    named = _whole_names(named, numbers, scores)
    agents = {number.agent for number in numbers if number.agent}
    wanted = scores["agent"].isin(agents) | scores["name"].isin([name for names in named.values() for name in names])
    tables = []
    for key, group in scores[wanted].groupby(PROTOCOL, sort=True):
        suite, budget, setting = map(str, key)
        own = [number for number in numbers if suite in number.suites]
        tables.append(_table(table, (suite, budget, setting), own, group, named))
    with_ours = [each for each in tables if any(line.ours for line in each.lines)]
    return with_ours or [_table(table, ("", "", ""), numbers, scores.iloc[:0], named)]


def several_tables(
    frame: pd.DataFrame, tables: Sequence[str], named: Mapping[str, Sequence[str]] | None = None
) -> list[PaperTable]:
    """`paper_tables` of some tables, one after another. Each takes of `named` the methods that it has."""
    named = named or {}
    theirs = {table: {number.method for number in published(table)} for table in tables}
    unknown = set(named).difference(*theirs.values())
    found: list[PaperTable] = []
    for table, methods in theirs.items():
        own = {method: names for method, names in named.items() if method in methods | unknown}
        found += paper_tables(frame, table, own)
    return found


def _whole_names(
    named: Mapping[str, Sequence[str]], numbers: Sequence[Published], scores: pd.DataFrame
) -> dict[str, list[str]]:
    """Our agents by method, with the labels of their rows, which need not be given where one agent is called so."""
    methods = sorted({number.method for number in numbers})
    known = sorted(set(scores["name"]))
    found: dict[str, list[str]] = {}
    for method, names in named.items():
        if method not in methods:
            raise ValueError(f"no method {method!r} in this table; there are: {', '.join(methods)}")
        for name in names:
            alike = [name] if name in known else [each for each in known if each.partition(" (")[0] == name]
            if len(alike) != 1:
                several = f"{len(alike)} agents are called {name!r}" if alike else f"no run of agent {name!r}"
                there = ", ".join(alike or known) or "none"
                raise ValueError(f"{several} for {method}; there are runs of: {there}")
            found.setdefault(method, []).extend(alike)
    return found


def _scores(rows: pd.DataFrame, numbers: Sequence[Published]) -> pd.DataFrame:
    """Final scores by metric and by the step at which they are compared; `other` counts further action repeats."""
    parts = []
    for metric, env_steps in dict.fromkeys((number.metric, number.env_steps) for number in numbers):
        scores = final_scores(rows, env_steps=env_steps, metric=metric)
        parts.append(scores.assign(metric=metric, compared_at=env_steps))
    scores = pd.concat(parts, ignore_index=True)
    triples = zip(scores["agent"], scores["variant"], scores["labels"], strict=True)
    scores["name"] = [agent_name(*triple) for triple in triples]
    repeats = scores.groupby([*PROTOCOL, "agent", "variant", "labels", "task"])["action_repeat"]
    return scores.assign(other=repeats.rank("dense").astype(int) - 1)


def _table(
    table: str,
    protocol: tuple[str, str, str],
    numbers: Sequence[Published],
    scores: pd.DataFrame,
    named: Mapping[str, Sequence[str]],
) -> PaperTable:
    columns = tuple(dict.fromkeys((number.task, number.metric) for number in numbers))
    lines: list[Line] = []
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}
    unclaimed = scores
    for method in dict.fromkeys(number.method for number in numbers):
        numbers_by_column = {(number.task, number.metric): number for number in numbers if number.method == method}
        some = next(iter(numbers_by_column.values()))
        runs = scores[scores["name"].isin(named[method]) if method in named else is_run_of(scores, some)]
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
    shown = scores[scores["name"].isin([line.ours.partition(", ")[0] for line in lines])]
    chosen = [f"{method}: ours is {', '.join(names)}, as asked by --as" for method, names in named.items()]
    notes = (*departures(protocol, shown), *chosen, *paper_notes(table), *merged_remarks(tasks_by_remark))
    return PaperTable(table, protocol, columns, tuple(lines), notes, sources)


def departures(protocol: tuple[str, str, str], scores: pd.DataFrame) -> list[str]:
    """How our runs depart from the papers' protocol: budget, settings of the task, stand-ins."""
    _, budget, setting = protocol
    notes = []
    if budget and budget != "paper":
        notes.append(f"ours are runs of the budget {budget}, not of the paper's: no reproduction")
    for label in filter(None, setting.split(",")):
        meanings = [meaning for _, meaning in stand_ins(label)]
        notes.append(f"ours were measured under {label}" + (f": {meanings[0]}" if meanings else ""))
    for name, labels in scores[["name", "labels"]].drop_duplicates().itertuples(index=False):
        agents_own = ",".join(label for label in labels.split(",") if label not in setting.split(","))
        notes += [f"{name}: {meaning}" for _, meaning in stand_ins(agents_own)]
    return notes


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
            tasks_by_remark.setdefault((ours or method, remark), []).append(column_name(column, columns))
    return Line(method, ours, cells)


def _cell(paper: Published | None, runs: pd.DataFrame) -> tuple[Cell, list[str]]:
    notes = remarks(run_columns(runs)) if len(runs) else []
    measured = runs[runs["scored"] > 0]
    if measured.empty:
        return Cell(paper, None, 0, None), notes
    score = measured["score"]
    ours = Summary(*mean_and_deviation(score.to_numpy(np.float64)), len(score))
    env_steps = int(measured["env_steps"].min())
    if ours.n == 1:
        notes.append("one seed: no interval")
    if paper is None or not math.isfinite(ours.mean):
        return Cell(paper, ours, env_steps, None), notes
    if not same_steps(env_steps, paper.env_steps):  # later is as asked: `--env-steps`
        notes.append(f"evaluated at {env_steps:,} env steps, the paper's at {paper.env_steps:,}: no difference stated")
        return Cell(paper, ours, env_steps, None), notes
    return Cell(paper, ours, env_steps, difference(ours, paper.summary)), notes


def to_csv(tables: Sequence[PaperTable]) -> str:
    """One line per cell in full precision: columns `CSV_COLUMNS`, missing values empty."""
    lines: list[Sequence[object]] = []
    for table in tables:
        for line in table.lines:
            for (task, metric), cell in line.cells.items():
                paper = (*cell.paper.summary, cell.paper.env_steps) if cell.paper else ("",) * 4
                ours = (*map(_number, cell.ours), cell.env_steps) if cell.ours else ("",) * 4
                gap = tuple(map(_number, cell.difference or (math.nan,) * 3))
                source = cell.paper.source if cell.paper else ""
                lines.append(
                    [table.table, *table.protocol, task, metric, line.method, *paper, line.ours, *ours, *gap, source]
                )
    return csv_text(CSV_COLUMNS, lines)


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
