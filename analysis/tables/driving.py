"""Error rates of driving as a grid of text, and as columns of a CSV file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.grids import MARK, Grid
from analysis.rows.driving import DISTANCE, ERRORS
from analysis.rows.remarks import merged_remarks
from analysis.statistics.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.rows.driving import Driving, Rate

    Task = tuple[str, int]  # task, action repeat
    Key = tuple[str, Task]  # the agent's name, task

_SUFFIXES = ("count", "episodes", "low", "high")
CSV_COLUMNS = (f"{DISTANCE}_mean", f"{DISTANCE}_std", *(f"{name}_{each}" for name in ERRORS for each in _SUFFIXES))


def to_grid(
    title: str,
    where: str,
    agents: Sequence[str],
    tasks: Mapping[Task, str],
    cells: Mapping[Key, Driving],
    remarks: Mapping[Key, Sequence[str]],
) -> Grid:
    """A line for each task and agent.

    Args:
        title: Suite, budget and setting.
        where: The environment steps of the evaluations, in words.
        agents: Names in the order to show.
        tasks: Name of each task, in the order to show.
        cells: What `analysis.rows.driving.driving` returns.
        remarks: Further remarks on the runs of a cell.
    """
    metrics = [metric for metric in ERRORS if any(metric in cell.rates for cell in cells.values())]
    with_distance = any(cell.distance for cell in cells.values())
    notes = {key: [*remarks.get(key, ()), *cell.notes] for key, cell in cells.items()}
    lines = []
    for task, heading in tasks.items():
        for name in agents:
            if cell := cells.get((name, task)):
                metres = [_metres(cell.distance)] if with_distance else []
                rates = [_text(cell.rates.get(metric)) for metric in metrics]
                lines.append((heading, name, f"{cell.seeds}{MARK if notes[name, task] else ''}", *metres, *rates))
    distance = ["distance (m)"] if with_distance else []
    header = ("task", "agent", "seeds", *distance, *(ERRORS[metric] for metric in metrics))
    caption = _caption(where, with_distance=with_distance)
    return Grid(f"Error rates: {title}", caption, header, tuple(lines), _notes(notes, tasks), text_columns=2)


def _caption(where: str, *, with_distance: bool) -> str:
    caption = (
        f"Episodes in which it happened, of those of all seeds {where}, with the 95 % Wilson interval of that share "
        "(which takes episodes as independent and leaves out how seeds differ)"
    )
    return caption + ("; metres driven in an episode, mean ± standard deviation over seeds." if with_distance else ".")


def _notes(notes: Mapping[Key, Sequence[str]], tasks: Mapping[Task, str]) -> tuple[str, ...]:
    """In the order of the notes on returns, so that both read alike."""
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}
    for (name, task), remarks in sorted(notes.items()):
        for remark in remarks:
            tasks_by_remark.setdefault((name, remark), []).append(tasks[task])
    return tuple(merged_remarks(tasks_by_remark))


def to_numbers(cell: Driving) -> dict[str, str]:
    """The measured values by column of `CSV_COLUMNS`, in full precision; std is empty for one seed."""
    found = {}
    if cell.distance:
        mean, std = cell.distance
        found = {f"{DISTANCE}_mean": repr(mean), f"{DISTANCE}_std": "" if math.isnan(std) else repr(std)}
    for metric, rate in cell.rates.items():
        low, high = wilson(rate.errors, rate.episodes)
        values = (str(rate.errors), str(rate.episodes), repr(low), repr(high))
        found |= {f"{metric}_{suffix}": value for suffix, value in zip(_SUFFIXES, values, strict=True)}
    return found


def _text(rate: Rate | None) -> str:
    """`3 of 30 (3-26%)` with an en dash; tenths of a percent from 100 episodes on."""
    if rate is None:
        return "-"
    low, high = (100 * bound for bound in wilson(rate.errors, rate.episodes))
    digits = 0 if rate.episodes < 100 else 1
    return f"{rate.errors} of {rate.episodes} ({low:.{digits}f}\N{EN DASH}{high:.{digits}f}%)"


def _metres(distance: tuple[float, float] | None) -> str:
    if distance is None:
        return "-"
    mean, std = distance
    return f"{mean:.1f}" + ("" if math.isnan(std) else f" ± {std:.1f}")
