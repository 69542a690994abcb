"""Tables of final scores, agents by tasks, with remarks on what is missing."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis import grids
from analysis.grids import MARK, Grid
from analysis.rows.driving import driving
from analysis.rows.remarks import merged_remarks, protocol_remarks, remarks, step_remarks
from analysis.rows.scores import PROTOCOL, agent_name, final_scores, protocol_name
from analysis.tables import driving as driving_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from rich.console import Group

    from analysis.rows.driving import Driving

CSV_COLUMNS = (
    "suite", "budget", "labels", "task", "agent", "variant", "n", "mean", "std", "env_steps", "action_repeat"
)  # fmt: skip
Column = tuple[str, int]  # task, action_repeat


@dataclass(frozen=True)
class Cell:
    """One agent on one task: mean and sample standard deviation of the final return over n seeds.

    std: NaN for one seed. env_steps: where the evaluations were made; the earliest, if seeds differ.
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
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Final scores of one suite, budget and setting (the labels other than the agents' own).

    Attributes:
        suite, budget, setting: The protocol.
        agents: Row names.
        columns: Task and action repeat.
        cells: By row name and column; absent if nothing was measured.
        means: Mean over tasks, only of agents with a finite score on every task.
        notes: Missing tasks and seeds, failed or unfinished runs, evaluations that are not numbers.
        driving: By row name and column the error rates, if the evaluations have any.
        legend: Settings of agents whose names do not state them.
    """

    suite: str
    budget: str
    setting: str
    agents: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    means: Mapping[str, float]
    notes: tuple[str, ...]
    driving: Mapping[tuple[str, Column], Driving] = field(default_factory=dict)
    legend: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return protocol_name(self.suite, self.budget, self.setting)


def tables(
    frame: pd.DataFrame,
    *,
    tasks: Mapping[str, Sequence[str]] | None = None,
    seeds: Mapping[str, Sequence[int]] | None = None,
    env_steps: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> list[Table]:
    """One table per suite, budget and setting.

    Args:
        frame: Rows as `results.store.read` returns them.
        tasks: By suite its tasks, in the order to show; the tasks that were run if None.
        seeds: By `<suite>@<budget>` the expected seeds. If None, an agent is expected to have the same seeds on every
            task it was run on.
        env_steps: Score the last evaluation at or before this environment step; the very last if None.
        settings: Settings of the variants that are named by a hash, as `results.provenance.hashed_settings` returns
            them.

    Returns:
        The tables, ordered by suite, budget and setting.
    """
    result = []
    every = final_scores(frame, env_steps=env_steps)
    every["name"] = [agent_name(*each) for each in zip(every["agent"], every["variant"], every["labels"], strict=True)]
    remarks_by_protocol = protocol_remarks(every)
    for key, scores in every.groupby(PROTOCOL, observed=True, sort=True):
        suite, budget, setting = map(str, key)
        expected = (tasks or {}).get(suite, ())
        table = _table(suite, budget, setting, scores, expected, (seeds or {}).get(f"{suite}@{budget}"))
        notes = (*table.notes, *remarks_by_protocol.get((suite, budget, setting), ()))
        legend = _legend(scores, settings or {})
        result.append(replace(table, notes=notes, driving=driving(frame, scores), legend=legend))
    return result


def _table(
    suite: str, budget: str, setting: str, scores: pd.DataFrame, tasks: Sequence[str], seeds: Sequence[int] | None
) -> Table:
    cells: dict[tuple[str, Column], Cell] = {}
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}  # keys: agent and remark
    agents: dict[str, None] = {}
    columns = _columns(scores, tasks)
    headings = dict(zip(columns, _headings(columns), strict=True))
    for key, agent_runs in scores.groupby(["agent", "variant", "labels"], observed=True, sort=True):
        agent, variant, labels = map(str, key)
        name = agent_name(agent, variant, labels)
        agents[name] = None
        expected = agent_runs["seed"].unique().tolist() if seeds is None else seeds
        for (task, repeat), runs in agent_runs.groupby(["task", "action_repeat"], observed=True, sort=True):
            column = (task, int(repeat))
            notes_on_cell = tuple(remarks(runs, expected))
            for remark in notes_on_cell:
                tasks_by_remark.setdefault((name, remark), []).append(headings[column])
            if len(measured := runs[runs["evaluations"] > 0]):
                cells[name, column] = _cell((agent, variant, labels), column, measured, notes_on_cell)
    notes = [*merged_remarks(tasks_by_remark), *step_remarks(scores)]
    for name in agents:
        absent = [headings[column] for column in columns if (name, column) not in cells]
        if absent:
            notes.append(f"{name}: no score on {', '.join(absent)}")
    return Table(suite, budget, setting, tuple(agents), columns, cells, _means(agents, columns, cells), tuple(notes))


def _cell(key: tuple[str, str, str], column: Column, runs: pd.DataFrame, notes: tuple[str, ...]) -> Cell:
    score = runs["score"]
    mean, std = float(score.mean(skipna=False)), float(score.std(skipna=False))
    return Cell(*key, *column, len(runs), mean, std, int(runs["env_steps"].min()), notes)


def _legend(scores: pd.DataFrame, settings: Mapping[str, str]) -> tuple[str, ...]:
    agents = scores[["agent", "variant"]].drop_duplicates().astype(str).sort_values(["agent", "variant"])
    return tuple(
        f"{agent_name(agent, variant)}: {settings[variant]}."
        for agent, variant in agents.itertuples(index=False)
        if variant in settings
    )


def _columns(scores: pd.DataFrame, tasks: Sequence[str]) -> tuple[Column, ...]:
    """Expected tasks first, in their order; a task that was run at two action repeats has two columns."""
    found = {(str(task), int(repeat)) for task, repeat in zip(scores["task"], scores["action_repeat"], strict=True)}
    unseen = {(task, 0) for task in tasks if task not in {name for name, _ in found}}
    order = {task: index for index, task in enumerate(tasks)}
    return tuple(sorted(found | unseen, key=lambda column: (order.get(column[0], len(order)), column)))


def _headings(columns: Sequence[Column]) -> list[str]:
    """Names of tasks, with the action repeat if a task has two."""
    repeated = len({task for task, _ in columns}) < len(columns)
    return [f"{task} (action repeat {repeat})" if repeated and repeat else task for task, repeat in columns]


def _means(
    agents: Mapping[str, None], columns: tuple[Column, ...], cells: Mapping[tuple[str, Column], Cell]
) -> dict[str, float]:
    means = {}
    if len({task for task, _ in columns}) == len(columns) > 1:  # at two action repeats a task would count twice
        for name in agents:
            row = [cells[name, column].mean for column in columns if (name, column) in cells]
            if len(row) == len(columns) and all(map(math.isfinite, row)):
                means[name] = sum(row) / len(row)
    return means


def to_grids(table: Table, *, rows: str = "agents") -> list[Grid]:
    """The final returns (`to_grid`), then the error rates of driving if there are any (`rates_grid`)."""
    return [to_grid(table, rows=rows), *([rates_grid(table)] if table.driving else [])]


def to_grid(table: Table, *, rows: str = "agents") -> Grid:
    """Final returns as text.

    Args:
        table: The table.
        rows: `agents` or `tasks`: what stands down the side.

    Raises:
        ValueError: For other `rows`.
    """
    if rows not in ("agents", "tasks"):
        raise ValueError(f"rows={rows!r}; valid: agents, tasks")
    lines = [["agent", *_headings(table.columns)]]
    for name in table.agents:
        cells = [table.cells.get((name, column)) for column in table.columns]
        lines.append([name, *(_cell_text(cell, _seed_count(table) is None) if cell else "-" for cell in cells)])
    if table.means:
        lines[0].append("mean over tasks")
        for line in lines[1:]:
            mark = MARK if any(text.endswith(MARK) for text in line) else ""
            line.append(f"{table.means[line[0]]:.1f}{mark}" if line[0] in table.means else "-")
    if rows == "tasks":
        lines[0][0] = "task"
        lines = [list(column) for column in zip(*lines, strict=True)]
    return Grid(table.title, _caption(table), tuple(lines[0]), tuple(map(tuple, lines[1:])), table.notes)


def rates_grid(table: Table) -> Grid:
    """Error rates and distances of driving as text: a line for each task and agent."""
    tasks = dict(zip(table.columns, _headings(table.columns), strict=True))
    notes = {key: cell.notes for key, cell in table.cells.items()}
    return driving_table.to_grid(table.title, _where(table), table.agents, tasks, table.driving, notes)


def _cell_text(cell: Cell, with_n: bool) -> str:
    """`731.2 ± 41.0 (5)`, with a mark if a note concerns the cell."""
    spread = "" if math.isnan(cell.std) else f" ± {cell.std:.1f}"
    return f"{cell.mean:.1f}{spread}{f' ({cell.n})' if with_n else ''}{MARK if cell.notes else ''}"


def _seed_count(table: Table) -> int | None:
    """The number of seeds if every cell has the same; the caption states it once."""
    counts = {cell.n for cell in table.cells.values()}
    return counts.pop() if len(counts) == 1 else None


def _caption(table: Table) -> str:
    if not table.cells:
        return "No evaluation yet."
    n = _seed_count(table)
    over = "1 seed" if n == 1 else f"mean ± standard deviation over {'(n)' if n is None else n} seeds"
    return " ".join([f"Final return {_where(table)}; {over}.", *table.legend])


def _where(table: Table) -> str:
    """The environment steps at which the cells were evaluated, in words."""
    steps = sorted({cell.env_steps for cell in table.cells.values()})
    if len(steps) > 1:
        return f"at {steps[0]:,} to {steps[-1]:,} environment steps (not all comparable)"
    return f"at {steps[0]:,} environment steps"


def to_markdown(tables: Sequence[Table], *, rows: str = "agents") -> str:
    """The tables as GitHub Markdown. rows: `agents` or `tasks`, what stands down the side."""
    return grids.to_markdown([grid for table in tables for grid in to_grids(table, rows=rows)])


def to_latex(tables: Sequence[Table], *, rows: str = "agents") -> str:
    """The tables as LaTeX for the package booktabs. rows: as of `to_markdown`."""
    return grids.to_latex([grid for table in tables for grid in to_grids(table, rows=rows)])


def to_terminal(tables: Sequence[Table], *, rows: str = "agents") -> Group:
    """The tables for rich to print. rows: as of `to_markdown`."""
    return grids.to_terminal([grid for table in tables for grid in to_grids(table, rows=rows)])


def to_csv(tables: Sequence[Table]) -> str:
    """One line per cell in full precision; std is empty for one seed.

    Columns are `CSV_COLUMNS`, then the columns of `analysis.tables.driving.CSV_COLUMNS` that were measured.
    """
    numbers = [{key: driving_table.to_numbers(cell) for key, cell in table.driving.items()} for table in tables]
    measured = {column for cells in numbers for cell in cells.values() for column in cell}
    driving_columns = [column for column in driving_table.CSV_COLUMNS if column in measured]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, *driving_columns])
    for table, cells in zip(tables, numbers, strict=True):
        for key, cell in table.cells.items():
            std = "" if cell.n == 1 else repr(cell.std)
            protocol = (table.suite, table.budget, cell.labels)
            score = (cell.n, repr(cell.mean), std, cell.env_steps, cell.action_repeat)
            rates = [cells.get(key, {}).get(column, "") for column in driving_columns]
            writer.writerow([*protocol, cell.task, cell.agent, cell.variant, *score, *rates])
    return text.getvalue()
