"""The robust scores beside the last evaluation: a grid of text with a column per score, and columns of a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.grids import Grid
from analysis.numbers import places
from analysis.rows.final import LAST, LAST3, SCORES, TRAIN10, definition
from analysis.tables.cells import cell_text, headings, mean_text, over_seeds, seed_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.tables.cells import Cells, Column, Key

_VALUES = ("n", "mean", "std")
_NONE = ("", "", "")
CSV_COLUMNS = tuple(f"{score}_{value}" for score in SCORES for value in _VALUES)


def to_grid(
    title: str, agents: Sequence[str], columns: Sequence[Column], scores: Mapping[str, Cells], chosen: str
) -> Grid | None:
    """A line for each task and agent.

    Args:
        title: Suite, budget and setting.
        agents: Names in the order to show.
        columns: Tasks in the order to show.
        scores: By score its cells.
        chosen: The table's main score; `AUC` is shown only if it is that.

    Returns:
        The grid; None if it would repeat the last evaluation: there are no training episodes in the last 10 % of the
        steps, and no run was evaluated twice.
    """
    if not scores[TRAIN10].by_key and not _differs(scores[LAST], scores[LAST3]):
        return None
    train10 = [TRAIN10] if scores[TRAIN10].by_key else []
    shown = [scores[score] for score in SCORES if score in (LAST, LAST3, *train10, chosen)]
    every = [cell for cells in shown for cell in cells.by_key.values()]
    n, digits = seed_count(every), places(cell.mean for cell in every)
    lines = []
    for column, task in zip(columns, headings(columns), strict=True):
        for name in agents:
            texts = [cell_text(cells.by_key.get((name, column)), digits, with_n=n is None) for cells in shown]
            if set(texts) != {"-"}:
                lines.append((task, name, *texts))
    lines += [("mean over tasks", *line) for line in _mean_lines(agents, shown, lines, digits)]
    definitions = "; ".join(f"{cells.score}: {definition(cells.score)}" for cells in shown)
    header = ("task", "agent", *(cells.score for cells in shown))
    notes = _notes(shown, scores, chosen)
    return Grid(f"Scores: {title}", f"{definitions}. Each: {over_seeds(n)}.", header, tuple(lines), notes, 2)


def _notes(shown: Sequence[Cells], scores: Mapping[str, Cells], chosen: str) -> tuple[str, ...]:
    """Notes on the scores shown, without those that stand under the table's own score."""
    if not scores[TRAIN10].by_key:
        shown = [cells for cells in shown if cells.score != TRAIN10]
    notes = [note for cells in shown for note in cells.notes if note not in scores[chosen].notes]
    if chosen != TRAIN10 and not scores[TRAIN10].by_key:
        notes.append(f"no run has training episodes in the last 10 % of its environment steps: no {TRAIN10}")
    return tuple(dict.fromkeys(notes))


def _differs(a: Cells, b: Cells) -> bool:
    """Whether a mean differs; NaN differs from everything."""
    return any(cell.mean != b.by_key[key].mean for key, cell in a.by_key.items())


def _mean_lines(
    agents: Sequence[str], shown: Sequence[Cells], lines: Sequence[tuple[str, ...]], digits: int
) -> list[tuple[str, ...]]:
    """Per agent with a mean its name and means."""
    result = []
    for name in agents:
        if any(name in cells.means for cells in shown):
            own = [line for line in lines if line[1] == name]
            texts = (
                mean_text(cells.means.get(name), digits, [o[i] for o in own]) for i, cells in enumerate(shown, start=2)
            )
            result.append((name, *texts))
    return result


def to_numbers(scores: Mapping[str, Cells], key: Key) -> list[str]:
    """Values of `CSV_COLUMNS` in full precision; std is empty for one seed, all three where nothing was measured."""
    cells = (scores[score].by_key.get(key) for score in SCORES)
    numbers = [
        (str(cell.n), repr(cell.mean), "" if cell.n == 1 else repr(cell.std)) if cell else _NONE for cell in cells
    ]
    return [number for each in numbers for number in each]
