"""Tables of final scores, agents by tasks, with remarks on what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis import grids
from analysis.grids import Grid
from analysis.grids import to_csv as csv_text
from analysis.numbers import places
from analysis.rows.driving import driving
from analysis.rows.final import LAST, definition
from analysis.rows.remarks import protocol_remarks, step_remarks
from analysis.rows.scores import PROTOCOL, agent_name, agent_names, final_scores, protocol_name, with_score
from analysis.statistics.comparison import UNKNOWN_RANGE
from analysis.tables import beside
from analysis.tables import driving as driving_table
from analysis.tables.cells import cell_text, cells, headings, mean_text, over_seeds, seed_count, where
from results.layout import FROM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from rich.console import Group

    from analysis.rows.driving import Driving
    from analysis.tables.cells import Cell, Cells, Column, Key

    Ranges = Mapping[str, Mapping[str, tuple[float, float]]]

CSV_COLUMNS = (
    "suite", "budget", "labels", "task", "agent", "variant", "n", "mean", "std", "env_steps", "action_repeat", "score",
    *beside.CSV_COLUMNS,
)  # fmt: skip
NOTES = "notes"  # the last column of the CSV file


@dataclass(frozen=True)
class Table:
    """Scores of one suite, budget and setting (the labels other than the agents' own).

    Attributes:
        suite, budget, setting: The protocol.
        agents: Row names.
        columns: Task and action repeat.
        scores: By score of `analysis.rows.final.SCORES` its cells.
        score: The score that the table is of.
        notes: Missing tasks and seeds, failed or unfinished runs, scores that are not numbers.
        driving: By row name and column the error rates, if the evaluations have any.
        legend: Settings of agents whose names do not state them.
        up_to: Environment step after which nothing was scored; None if everything was.
    """

    suite: str
    budget: str
    setting: str
    agents: tuple[str, ...]
    columns: tuple[Column, ...]
    scores: Mapping[str, Cells]
    score: str
    notes: tuple[str, ...]
    driving: Mapping[Key, Driving] = field(default_factory=dict)
    legend: tuple[str, ...] = ()
    up_to: int | None = None

    @property
    def cells(self) -> Mapping[Key, Cell]:
        """The cells of the table's score by row name and column; absent if nothing was measured."""
        return self.scores[self.score].by_key

    @property
    def unmeasured(self) -> Mapping[Key, Cell]:
        """Cells of runs without the table's score, such as failed ones."""
        return self.scores[self.score].unmeasured

    @property
    def means(self) -> Mapping[str, float]:
        """Mean over tasks of the table's score, only of agents with a finite one on every task."""
        return self.scores[self.score].means

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
    score: str = LAST,
    budgets: Mapping[str, str] | None = None,
    ranges: Ranges | None = None,
) -> list[Table]:
    """One table per suite, budget and setting.

    Args:
        frame: Rows as `results.store.read` returns them.
        tasks: By suite its tasks, in the order to show; the tasks that were run if None.
        seeds: By `<suite>@<budget>` the expected seeds. If None, an agent is expected to have the same seeds on every
            task it was run on.
        env_steps: Score what was measured up to this environment step; everything if None.
        settings: Settings of the variants that are named by a hash, as `results.provenance.hashed_settings` returns
            them.
        score: The score to show, one of `analysis.rows.final.SCORES`; the others stand beside it.
        budgets: By `<suite>@<budget>` what the budget is, a sentence for the caption.
        ranges: By suite the score range of each task. Without one, a task's returns are taken as they are, and have a
            mean with others only if all lie within 0 to 1. If None, every suite's tasks have one scale.

    Returns:
        The tables, ordered by suite, budget and setting.

    Raises:
        ValueError: For an unknown score.
    """
    result = []
    every = final_scores(frame, env_steps=env_steps, score=score)
    every["name"] = agent_names(every)
    remarks_by_protocol = protocol_remarks(every)
    for key, scores in every.groupby(PROTOCOL, observed=True, sort=True):
        suite, budget, setting = map(str, key)
        expected = (tasks or {}).get(suite, ()) if FROM not in budget else ()  # `eval` is asked for one task
        own_seeds = (seeds or {}).get(f"{suite}@{budget}")
        table = _table((suite, budget, setting), scores, expected, own_seeds, score)
        if unlike := _unlike(scores, (ranges or {}).get(suite, {}) if ranges is not None else None):
            table = replace(table, scores={name: replace(each, means={}) for name, each in table.scores.items()})
        notes = (*table.notes, *unlike, *remarks_by_protocol.get((suite, budget, setting), ()))
        legend = _legend(scores, settings or {})
        if of_budget := (budgets or {}).get(f"{suite}@{_of_another_length(budget)}"):
            legend = (*legend, f"Budget {budget}: {of_budget}")
        of_driving = driving(frame, scores)
        result.append(replace(table, notes=notes, driving=of_driving, legend=legend, up_to=env_steps))
    return result


def _of_another_length(budget: str) -> str:
    """The budget that `--env-steps` gave another length: `short` of `short-1000`; any other name as it is."""
    name, _, steps = budget.rpartition("-")
    return name if name and steps.isdigit() else budget


def _table(
    protocol: tuple[str, str, str],
    scores: pd.DataFrame,
    tasks: Sequence[str],
    seeds: Sequence[int] | None,
    chosen: str,
) -> Table:
    columns = _columns(scores, tasks)
    by_score = cells(scores, columns, seeds)
    names = scores.drop_duplicates(["agent", "variant", "labels"]).sort_values(["agent", "variant", "labels"])["name"]
    agents = tuple(map(str, names.drop_duplicates()))
    notes = [*by_score[chosen].notes, *step_remarks(with_score(scores, chosen))]
    for name in agents:
        measured = [(name, column) in by_score[chosen].by_key for column in columns]
        absent = [task for task, known in zip(headings(columns), measured, strict=True) if not known]
        if absent:
            notes.append(f"{name}: no score on {', '.join(absent)}")
    return Table(*protocol, agents, columns, by_score, chosen, tuple(notes))


def _unlike(scores: pd.DataFrame, known: Mapping[str, tuple[float, float]] | None) -> list[str]:
    """A remark if returns of the tasks are on different scales, as far as is known, and so have no mean."""
    tasks = sorted(map(str, scores["task"].unique()))
    without = [task for task in tasks if known is not None and known.get(task, UNKNOWN_RANGE) == UNKNOWN_RANGE]
    of_unknown = scores["score"][scores["task"].isin(without)]
    outside = ((of_unknown < 0) | (of_unknown > 1)).any()
    if len(tasks) < 2 or not without or (len(without) == len(tasks) and not outside):
        return []
    return [f"no score range is known for {', '.join(without)}, so returns have no mean over tasks"]


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


def to_grids(table: Table, *, rows: str = "agents") -> list[Grid]:
    """The table's score (`to_grid`), all scores (`scores_grid`) and error rates of driving (`rates_grid`), if any."""
    all_scores = scores_grid(table)
    rates = [rates_grid(table)] if table.driving else []
    return [to_grid(table, rows=rows), *([all_scores] if all_scores else []), *rates]


def to_grid(table: Table, *, rows: str = "agents") -> Grid:
    """The table's score as text.

    Args:
        table: The table.
        rows: `agents` or `tasks`: what stands down the side.

    Raises:
        ValueError: For other `rows`.
    """
    if rows not in ("agents", "tasks"):
        raise ValueError(f"rows={rows!r}; valid: agents, tasks")
    with_n, digits = seed_count(table.cells.values()) is None, places(cell.mean for cell in table.cells.values())
    lines = [["agent", *headings(table.columns)]]
    for name in table.agents:
        texts = (cell_text(table.cells.get((name, each)), digits, with_n=with_n) for each in table.columns)
        lines.append([name, *texts])
    if table.means:
        lines[0].append("mean over tasks")
        for line in lines[1:]:
            line.append(mean_text(table.means.get(line[0]), digits, line))
    if rows == "tasks":
        lines[0][0] = "task"
        lines = [list(column) for column in zip(*lines, strict=True)]
    return Grid(table.title, _caption(table), tuple(lines[0]), tuple(map(tuple, lines[1:])), table.notes)


def scores_grid(table: Table) -> Grid | None:
    """All scores as text, as `analysis.tables.beside.to_grid` makes it."""
    return beside.to_grid(table.title, table.agents, table.columns, table.scores, table.score)


def rates_grid(table: Table) -> Grid:
    """Error rates and distances of driving as text: a line for each task and agent."""
    tasks = dict(zip(table.columns, headings(table.columns), strict=True))
    notes = {key: cell.notes for key, cell in table.cells.items()}
    steps = where(step for each in table.driving.values() for step in (each.env_steps, each.latest))
    return driving_table.to_grid(table.title, steps, table.agents, tasks, table.driving, notes)


def _caption(table: Table) -> str:
    if not table.cells:
        what = "evaluation" if table.score == LAST else table.score
        return f"No {what} {'yet' if table.up_to is None else f'up to {table.up_to:,} environment steps'}."
    steps = where(step for cell in table.cells.values() for step in (cell.env_steps, cell.latest))
    what = f"Final return {steps}" if table.score == LAST else f"{table.score} {steps}: {definition(table.score)}"
    return " ".join([f"{what}; {over_seeds(seed_count(table.cells.values()))}.", *table.legend])


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
    """One line per cell in full precision; std is empty for one seed, all numbers where n is 0: nothing was measured.

    Columns are `CSV_COLUMNS`, of which mean and std are those of the table's score, then the columns of
    `analysis.tables.driving.CSV_COLUMNS` that were measured, and what is to be known of the cell's runs.
    """
    numbers = [{key: driving_table.to_numbers(cell) for key, cell in table.driving.items()} for table in tables]
    measured = {column for rates in numbers for cell in rates.values() for column in cell}
    driving_columns = [column for column in driving_table.CSV_COLUMNS if column in measured]
    lines: list[Sequence[object]] = []
    for table, rates_by_key in zip(tables, numbers, strict=True):
        for key, cell in {**table.cells, **table.unmeasured}.items():
            std = "" if cell.n <= 1 else repr(cell.std)
            protocol = (table.suite, table.budget, cell.labels)
            measured_at = (repr(cell.mean), std, cell.env_steps) if cell.n else ("", "", "")
            score = (cell.n, *measured_at, cell.action_repeat, table.score)
            rates = [rates_by_key.get(key, {}).get(column, "") for column in driving_columns]
            named = [*protocol, cell.task, cell.agent, cell.variant]
            lines.append([*named, *score, *beside.to_numbers(table.scores, key), *rates, "; ".join(cell.notes)])
    return csv_text([*CSV_COLUMNS, *driving_columns, NOTES], lines)
