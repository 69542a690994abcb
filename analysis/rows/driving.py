"""Driving at the last evaluations: the distance, and in how many episodes an error happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping

# Metrics of evaluations that count as errors, 1 or 0 for each episode, and their names in tables. They are listed since
# values alone do not tell whether a 1 is bad: `end_horizon` is 0 or 1 too.
ERRORS = {"collided": "collided", "off_road": "off road", "stuck": "stuck"}
DISTANCE = "driving_distance_m"
_EVALUATION = ["run_id", "labels", "env_steps"]


class Rate(NamedTuple):
    """In how many of the episodes of all seeds an error happened."""

    errors: int
    episodes: int
    seeds: int


@dataclass(frozen=True)
class Driving:
    """One agent on one task, over the last evaluations of all its seeds.

    seeds: how many were evaluated. env_steps, latest: the earliest and the latest step at which. rates: by metric of
    `ERRORS`, without those that were not measured. distance: mean and sample standard deviation over seeds of the
    metres driven in an episode, None if not measured. notes: what is incomplete.
    """

    seeds: int
    env_steps: int
    latest: int
    rates: Mapping[str, Rate]
    distance: tuple[float, float] | None
    notes: tuple[str, ...]


def has_driving(frame: pd.DataFrame) -> bool:
    """Whether there are evaluations for `driving`, which needs their episodes."""
    return bool(_measured(frame).any())


def _measured(frame: pd.DataFrame) -> pd.Series[bool]:
    return (frame["kind"] == RowKind.EVAL.value) & frame["metric"].isin([DISTANCE, *ERRORS])


def driving(frame: pd.DataFrame, scores: pd.DataFrame) -> dict[tuple[str, tuple[str, int]], Driving]:
    """Error rates and distances at the last evaluation of each run.

    Args:
        frame: Rows as `results.store.read` returns them.
        scores: Lines of `analysis.rows.scores.final_scores` of one suite, budget and setting, with the column `name`;
            their score may be any.

    Returns:
        By the agent's name, then task and action repeat; without those whose evaluations have no metric of `ERRORS`.
    """
    rows = frame[_measured(frame)]
    if rows.empty:
        return {}
    rows = rows[[*_EVALUATION, "metric", "value", "episodes"]].astype({"run_id": str, "labels": str, "metric": str})
    rows = rows.drop_duplicates([*_EVALUATION, "metric"], keep="last")
    found = {}
    scored = scores[scores["evaluations"] > 0]
    for key, runs in scored.groupby(["name", "variant", "labels", "task", "action_repeat"], observed=True, sort=True):
        name, _, _, task, repeat = key
        last = runs.assign(env_steps=runs["evaluated_at"])[_EVALUATION]
        measured = last.merge(rows, on=_EVALUATION)
        if (measured["metric"] != DISTANCE).any():
            found[str(name), (str(task), int(repeat))] = _driving(measured, last)
    return found


def _driving(measured: pd.DataFrame, evaluations: pd.DataFrame) -> Driving:
    """evaluations: the last of each seed."""
    rates, notes, seeds = {}, [], len(evaluations)
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
    steps = evaluations["env_steps"]
    return Driving(seeds, int(steps.min()), int(steps.max()), rates, metres, tuple(notes))


def _ones(episodes: object) -> list[int] | None:
    """Per episode 1 or 0; None if something else was stored."""
    if not isinstance(episodes, (list, tuple, np.ndarray)) or not len(episodes):
        return None
    return [int(each) for each in episodes] if all(each in (0, 1) for each in episodes) else None
