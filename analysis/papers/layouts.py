"""A paper's table as a grid: in the paper's shape, a line per number, ours alone, or the differences alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.grids import MARK, Grid
from analysis.numbers import decimals
from analysis.statistics.intervals import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.papers.cells import Cell, Column, PaperTable
    from analysis.statistics.intervals import Summary

METRIC_NAMES = {"return": "episode reward", "driving_distance_m": "driving distance (m)"}


def to_grid(table: PaperTable) -> Grid:
    """Methods down, tasks across, up to three rows a method: the paper's values, ours, the differences.

    A method without a run of ours has the paper's row alone, and is named in a note. In bold stand the best of the
    paper's values and of ours, and what is within noise of it: `best`.
    """
    bold = _bold(table)
    rows: list[tuple[str, ...]] = []
    marked: set[tuple[int, int]] = set()
    for number, line in enumerate(table.lines):
        cells = [line.cells[column] for column in table.columns]
        if line.method != "-":
            marked |= {(len(rows), 2 + i) for i, _ in enumerate(cells) if ("paper", number, i) in bold}
            rows.append((line.method, "paper", *map(paper_text, cells)))
        if not any(cell.ours for cell in cells):
            continue
        marked |= {(len(rows), 2 + i) for i, _ in enumerate(cells) if ("ours", number, i) in bold}
        rows.append((line.ours, "ours (n)", *map(ours_text, cells)))
        if any(cell.difference for cell in cells):
            rows.append(("", "ours - paper", *map(difference_text, cells)))
    names = column_names(table.columns)
    caption = f"{caption_of(table)} Bold: the best of the papers' values and of ours, and all within noise of it."
    notes = (*table.notes, *not_run(table))
    return Grid(table.title, caption, ("method", "", *names), tuple(rows), notes, 2, frozenset(marked))


def not_run(table: PaperTable) -> list[str]:
    """Notes that name the methods without a run of ours: those that can be run, those that are published only."""
    missing: dict[str, list[str]] = {}
    for line in table.lines:
        if any(cell.ours for cell in line.cells.values()):
            continue
        has_agent = any(cell.paper and cell.paper.agent for cell in line.cells.values())
        reason = f"not run yet (covr-bench run --paper {table.table})" if has_agent else "published only"
        missing.setdefault(reason, []).append(line.method)
    return [f"{reason}: {', '.join(dict.fromkeys(methods))}" for reason, methods in missing.items()]


def to_long_grid(table: PaperTable) -> Grid:
    """A row per method and column, for narrow terminals."""
    rows = []
    for line in table.lines:
        for index, (column, task) in enumerate(zip(table.columns, column_names(table.columns), strict=True)):
            cell = line.cells[column]
            name = (line.method, line.ours)[index] if index < 2 else ""
            rows.append((name, task, paper_text(cell), ours_text(cell), difference_text(cell)))
    header = ("method, our agent", "", "paper", "ours (n)", "ours - paper")
    return Grid(table.title, caption_of(table), header, tuple(rows), table.notes, text_columns=2)


def to_ours_grid(table: PaperTable) -> Grid:
    """Our values alone, a row for each of our agents."""
    return _one_row_each(table, ours_text, "ours")


def to_delta_grid(table: PaperTable) -> Grid:
    """Ours minus the paper's, with the interval, a row for each of our agents."""
    return _one_row_each(table, difference_text, "")


LAYOUTS = {"paper": to_grid, "long": to_long_grid, "ours": to_ours_grid, "delta": to_delta_grid}


def _one_row_each(table: PaperTable, text: Callable[[Cell], str], bold_of: str) -> Grid:
    bold = _bold(table) if bold_of else set()
    lines = [(number, line) for number, line in enumerate(table.lines) if line.ours]
    rows = tuple((line.method, line.ours, *(text(line.cells[column]) for column in table.columns)) for _, line in lines)
    marked = frozenset(
        (row, 2 + index)
        for row, (number, _) in enumerate(lines)
        for index, _ in enumerate(table.columns)
        if (bold_of, number, index) in bold
    )
    header = ("method", "our agent", *column_names(table.columns))
    return Grid(table.title, caption_of(table), header, rows, table.notes, 2, marked)


def best(values: Sequence[Summary | None]) -> set[int]:
    """Which values are the highest, or differ from it by less than noise: Welch's 95 % interval reaches 0.

    values: None where there is none. Of fewer than two values none is best.
    """
    known = {index: value for index, value in enumerate(values) if value and math.isfinite(value.mean)}
    if len(known) < 2:
        return set()
    first = max(known, key=lambda index: known[index].mean)
    gaps = {index: difference(known[first], value) for index, value in known.items()}
    return {index for index, gap in gaps.items() if gap.value == 0 or gap.low <= 0}  # an unknown interval is NaN


def _bold(table: PaperTable) -> set[tuple[str, int, int]]:
    """Whose value (`paper` or `ours`), line and column of what stands in bold."""
    found = set()
    for index, column in enumerate(table.columns):
        cells = [line.cells[column] for line in table.lines]
        papers = [cell.paper.summary if cell.paper else None for cell in cells]
        repeated = [line.method in [other.method for other in table.lines[:n]] for n, line in enumerate(table.lines)]
        once = [None if again else value for value, again in zip(papers, repeated, strict=True)]
        found |= {("paper", number, index) for number in best(once)}
        found |= {("ours", number, index) for number in best([cell.ours for cell in cells])}
    return found


def summaries(table: PaperTable) -> list[tuple[str, list[tuple[Summary | None, Summary | None]]]]:
    """Of each line its name and, by column, the paper's value and ours: what `analysis.figures.papers.bars` draws."""
    rows = []
    for line in table.lines:
        alike = line.ours in ("", line.method.lower())
        name = line.ours if line.method == "-" else line.method if alike else f"{line.method}: {line.ours}"
        cells = [line.cells[column] for column in table.columns]
        rows.append((name, [(cell.paper.summary if cell.paper else None, cell.ours) for cell in cells]))
    return rows


def early(table: PaperTable) -> str:
    """Where our runs ended before the paper's did: `at 60,000 environment steps`; empty if none did."""
    cells = (cell for line in table.lines for cell in line.cells.values())
    steps = sorted({cell.env_steps for cell in cells if cell.ours and cell.paper and not cell.difference})
    return f"at {' and '.join(f'{step:,}' for step in steps)} environment steps" if steps else ""


def caption_of(table: PaperTable) -> str:
    """What the numbers are, and their sources."""
    return (
        "Mean ± standard deviation over seeds, n ours; difference of the means with its 95 % interval (Welch), taking "
        f"the paper's deviation as over its seeds. Published: {'; '.join(table.sources)}."
    )


def column_names(columns: Sequence[Column]) -> list[str]:
    """Tasks, with the metric where there are several."""
    return [column_name(column, columns) for column in columns]


def column_name(column: Column, columns: Sequence[Column]) -> str:
    """One name of `column_names`."""
    task, metric = column
    tasks, metrics = {task for task, _ in columns}, {metric for _, metric in columns}
    if len(metrics) == 1:
        return task
    return METRIC_NAMES[metric] if len(tasks) == 1 else f"{task}, {METRIC_NAMES[metric]}"


def paper_text(cell: Cell) -> str:
    """The paper's value."""
    return f"{cell.paper.summary.mean:g} ± {cell.paper.summary.std:g}" if cell.paper else "-"


def ours_text(cell: Cell) -> str:
    """Our value and the number of seeds, or why there is none."""
    if cell.ours is None:
        return "published only" if cell.paper and not cell.paper.agent else "not run"
    spread = "" if math.isnan(cell.ours.std) else f" ± {decimals(cell.ours.std, 1)}"
    early = f" at {cell.env_steps:,}{MARK}" if cell.paper and not cell.difference else ""
    return f"{decimals(cell.ours.mean, 1)}{spread} ({cell.ours.n}){early}"


def difference_text(cell: Cell) -> str:
    """Ours minus the paper's with its interval."""
    if cell.difference is None:
        return "-"
    value, low, high = cell.difference
    interval = f" [{decimals(low, 1, '+')}, {decimals(high, 1, '+')}]"
    return decimals(value, 1, "+") + (interval if math.isfinite(low) else MARK)
