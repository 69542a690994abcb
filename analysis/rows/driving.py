"""How driving went at the scored evaluations: how far, and in how many episodes something went wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from analysis.grids import MARK, Grid
from analysis.rows.remarks import gathered
from analysis.statistics.wilson import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Metrics of evaluations that count as errors, 1 or 0 for each episode, and what they are called. A list, since values
# alone do not say whether a 1 is bad: `end_horizon` is 0 or 1 too.
ERRORS = {"collided": "collided", "off_road": "off road", "stuck": "stuck"}
DISTANCE = "driving_distance_m"
_EVALUATION = ["run_id", "labels", "env_steps"]
_SUFFIXES = ("count", "episodes", "low", "high")
CSV_COLUMNS = (f"{DISTANCE}_mean", f"{DISTANCE}_std", *(f"{name}_{each}" for name in ERRORS for each in _SUFFIXES))


class Rate(NamedTuple):
    """In `errors` of so many episodes of so many seeds it happened."""

    errors: int
    episodes: int
    seeds: int


@dataclass(frozen=True)
class Driving:
    """One agent on one task, over the scored evaluations of all its seeds.

    seeds: how many were evaluated. rates: by metric of `ERRORS`, absent where there is none. distance: mean and sample
    standard deviation over seeds of the metres driven, None where not measured. notes: on what is incomplete.
    """

    seeds: int
    rates: Mapping[str, Rate]
    distance: tuple[float, float] | None
    notes: tuple[str, ...]


def driving(frame: pd.DataFrame, scores: pd.DataFrame) -> dict[tuple[str, tuple[str, int]], Driving]:
    """By agent's name, task and action repeat; nothing for those whose evaluations have no metric of `ERRORS`.

    frame: rows of `results.store.read`. scores: lines of `analysis.rows.scores.final_scores` of one suite, budget and
    setting, with the column `name`; only the evaluations they were taken at count.
    """
    rows = frame[(frame["kind"] == "eval") & frame["metric"].isin([DISTANCE, *ERRORS])]
    if rows.empty:
        return {}
    rows = rows[[*_EVALUATION, "metric", "value", "episodes"]].astype({"run_id": str, "labels": str, "metric": str})
    rows = rows.drop_duplicates([*_EVALUATION, "metric"], keep="last")
    found = {}
    scored = scores[scores["evaluations"] > 0]
    for key, runs in scored.groupby(["name", "variant", "labels", "task", "action_repeat"], observed=True, sort=True):
        name, _, _, task, repeat = key
        measured = runs[_EVALUATION].merge(rows, on=_EVALUATION)
        if (measured["metric"] != DISTANCE).any():
            found[str(name), (str(task), int(repeat))] = _driving(measured, len(runs))
    return found


def _driving(measured: pd.DataFrame, seeds: int) -> Driving:
    rates, notes = {}, []
    for metric, name in ERRORS.items():
        rows = measured[measured["metric"] == metric]
        episodes = [_ones(each) for each in rows["episodes"]]
        known = [each for each in episodes if each is not None]
        if len(known) < len(episodes):
            notes.append(f"no rate of {name!r}: not stored as 1 or 0 for every episode")
        elif known:
            rates[metric] = Rate(sum(map(sum, known)), sum(map(len, known)), len(known))
    distance = measured[measured["metric"] == DISTANCE]["value"]
    metres = (float(distance.mean(skipna=False)), float(distance.std(skipna=False))) if len(distance) else None
    counted = {ERRORS[metric]: rate.seeds for metric, rate in rates.items()}
    counted |= {"distance": len(distance)} if len(distance) else {}
    notes += [f"{name!r} measured for {count} of {seeds} seeds" for name, count in counted.items() if count < seeds]
    return Driving(seeds, rates, metres, tuple(notes))


def _ones(episodes: object) -> list[int] | None:
    """Per episode 1 or 0; None where that is not what was stored."""
    if not isinstance(episodes, (list, tuple, np.ndarray)) or not len(episodes):
        return None
    return [int(each) for each in episodes] if all(each in (0, 1) for each in episodes) else None


def to_grid(
    title: str,
    where: str,
    agents: Sequence[str],
    tasks: Mapping[tuple[str, int], str],
    cells: Mapping[tuple[str, tuple[str, int]], Driving],
    remarks: Mapping[tuple[str, tuple[str, int]], Sequence[str]],
) -> Grid:
    """A line for each task and agent.

    where: the environment steps, in words. tasks: what each is called, in the order to show. remarks: what else there
    is to say of a cell.
    """
    shown = [metric for metric in ERRORS if any(metric in cell.rates for cell in cells.values())]
    with_distance = any(cell.distance for cell in cells.values())
    said = {key: [*remarks.get(key, ()), *cell.notes] for key, cell in cells.items()}
    lines = []
    for task, heading in tasks.items():
        for name in agents:
            if cell := cells.get((name, task)):
                metres = [_metres(cell.distance)] if with_distance else []
                rates = [_text(cell.rates.get(metric)) for metric in shown]
                lines.append((heading, name, f"{cell.seeds}{MARK if said[name, task] else ''}", *metres, *rates))
    noted: dict[tuple[str, str], list[str]] = {}
    for (name, task), found in sorted(said.items()):  # in the order of the notes on returns, so that they read alike
        for remark in found:
            noted.setdefault((name, remark), []).append(tasks[task])
    header = ("task", "agent", "seeds", *(["distance (m)"] if with_distance else []), *(ERRORS[each] for each in shown))
    caption = (
        f"Episodes in which it happened, of those of all seeds {where}, with the 95 % Wilson interval of that share "
        "(which takes episodes as independent and leaves out how seeds differ)"
    )
    caption += "; metres driven in an episode, mean ± standard deviation over seeds." if with_distance else "."
    return Grid(f"Error rates: {title}", caption, header, tuple(lines), tuple(gathered(noted)), text_columns=2)


def to_numbers(cell: Driving) -> dict[str, str]:
    """What was measured, by columns of `CSV_COLUMNS`, in full precision; std is empty for one seed."""
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
    """`3 of 30 (3-26%)`, with an en dash; tenths of a percent from a hundred episodes on."""
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
