"""Final scores as arrays for statistics: agents under one protocol, normalised task by task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.rows.final import LAST, definition
from analysis.rows.remarks import merged_remarks, protocol_remarks, remarks, run_columns, step_remarks
from analysis.rows.scores import PROTOCOL, agent_names, counted, final_scores, protocol_name, returns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

UNKNOWN_RANGE = (0.0, 1.0)  # for a task without a stated range: its returns are taken as they are
_CURVE_POINTS = 200


@dataclass(frozen=True)
class Comparison:
    """Agents under one suite, budget and setting.

    Attributes:
        tasks: Columns of every array; a task that was run at two action repeats is two columns.
        ranges: Per task the returns that count as 0 and as 1.
        scores: Per agent the normalised final scores, float64 `(num_runs, num_tasks)`, NaN for a missing run.
        steps: Fewest and most environment steps at which they were measured.
        remarks: What a reader must know.
        evaluations: Every finite evaluation of every counted run; columns name, column, run_id, env_steps, score.
        score: Which score of `analysis.rows.final.SCORES` it is.
        unnormalised: Tasks without a known range whose returns do not lie within 0 to 1: there are no aggregates.
    """

    suite: str
    budget: str
    setting: str
    tasks: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    scores: Mapping[str, Floats]
    steps: tuple[int, int]
    remarks: tuple[str, ...]
    evaluations: pd.DataFrame
    score: str = LAST
    unnormalised: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return protocol_name(self.suite, self.budget, self.setting)

    @property
    def score_name(self) -> str:
        """The score if it is not that of the last evaluation, to stand before `at 100,000 environment steps`."""
        return "" if self.score == LAST else f"{self.score} "

    @property
    def has_scores(self) -> bool:
        """Whether any run has a finite score."""
        return any(np.isfinite(scores).any() for scores in self.scores.values())

    @property
    def complete_agents(self) -> list[str]:
        """Agents with a score on every task; only they have statistics over tasks."""
        return [name for name, scores in self.scores.items() if np.isfinite(scores).any(axis=0).all()]

    @property
    def aggregated_agents(self) -> list[str]:
        """The complete agents, if scores are normalised: numbers on different scales have no mean."""
        return [] if self.unnormalised else self.complete_agents

    @property
    def plain_tasks(self) -> dict[str, str]:
        """By column the task's own name, without its action repeat."""
        return {task: task.partition(" (action repeat ")[0] for task in self.tasks}

    @property
    def refusal(self) -> str:
        """Why there are no aggregates, and the mend; empty if there are some."""
        if not self.unnormalised:
            return ""
        first = self.unnormalised[0]
        return (
            f"{self.title}: no score range is known for {', '.join(self.unnormalised)}, and returns there are not "
            f"within 0 to 1, so nothing is aggregated; --score-range {first}=LOW,HIGH states which returns count as 0 "
            "and 1 (0,1 if they are normalised already)"
        )

    @property
    def normalisation(self) -> str:
        """How returns were normalised, in words."""
        what = "returns" if self.score == LAST else f"{self.score} ({definition(self.score)})"
        tasks_by_range: dict[tuple[float, float], list[str]] = {}
        for task, bounds in zip(self.tasks, self.ranges, strict=True):
            tasks_by_range.setdefault(bounds, []).append(task)
        if set(tasks_by_range) == {UNKNOWN_RANGE}:
            return f"scores are {'the returns' if self.score == LAST else what} as they are"
        parts = [
            f"{low:g} to {high:g}" + (f" on {', '.join(tasks)}" if len(tasks_by_range) > 1 else "")
            for (low, high), tasks in tasks_by_range.items()
        ]
        return f"scores are {what} from {'; '.join(parts)}, mapped to 0 to 1"

    @cached_property
    def _evaluations_of(self) -> dict[str, pd.DataFrame]:
        return dict.fromkeys(self.scores, self.evaluations[:0]) | dict(iter(self.evaluations.groupby("name")))

    def curve(self, name: str) -> tuple[Ints, Floats]:
        """Scores of an agent against environment steps.

        At each step a run has the score of its last evaluation so far. Steps reach from the first at which every run
        has one to the end of the shortest run.

        Args:
            name: The agent, a key of `scores`.

        Returns:
            Environment steps, int64 `(num_steps,)`, and scores, float64 `(num_steps, num_runs, num_tasks)`, NaN where
            a task has fewer runs. num_steps is 0 if no step is shared.
        """
        evaluations = self._evaluations_of[name].sort_values(["column", "run_id", "env_steps"])
        if evaluations["column"].nunique() < np.isfinite(self.scores[name]).any(axis=0).sum():
            return np.zeros(0, np.int64), np.zeros((0, 1, len(self.tasks)))  # a task has training episodes only
        starts = np.flatnonzero(evaluations["run_id"].ne(evaluations["run_id"].shift()).to_numpy())
        steps, values = evaluations["env_steps"].to_numpy(), evaluations["score"].to_numpy()
        runs = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(evaluations)], strict=True)]
        first, last = max(steps[run][0] for run in runs), min(steps[run][-1] for run in runs)
        grid = np.unique(steps[(first <= steps) & (steps <= last)])
        if len(grid) > _CURVE_POINTS:
            grid = grid[np.linspace(0, len(grid) - 1, _CURVE_POINTS).round().astype(int)]
        column = evaluations["column"].to_numpy()[starts]
        counts = np.bincount(column, minlength=len(self.tasks))
        result = np.full((len(grid), counts.max(), len(self.tasks)), np.nan)
        row = np.zeros(len(self.tasks), np.int64)
        for run, task in zip(runs, column, strict=True):
            result[:, row[task], task] = values[run][np.searchsorted(steps[run], grid, side="right") - 1]
            row[task] += 1
        return grid.astype(np.int64), result


def comparisons(
    frame: pd.DataFrame,
    suites: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    env_steps: int | None = None,
    score: str = LAST,
) -> list[Comparison]:
    """One comparison per suite, budget and setting.

    Args:
        frame: Rows as `results.store.read` returns them.
        suites: Per suite the score range (returns that count as 0 and 1) of each task, in the order to show.
        env_steps: Score what was measured up to this environment step; everything if None.
        score: One of `analysis.rows.final.SCORES`.

    Returns:
        The comparisons, ordered by suite, budget and setting.

    Raises:
        ValueError: If a score range is not increasing and finite, or for an unknown score.
    """
    scores = final_scores(frame, env_steps=env_steps, score=score)
    scores["name"] = agent_names(scores)
    evaluations = counted(returns(frame, env_steps))
    evaluations = evaluations.assign(name=agent_names(evaluations))
    evaluations = evaluations[["run_id", "name", "env_steps", "value"]].astype({"run_id": str})
    groups = [(tuple(map(str, key)), group) for key, group in scores.groupby(PROTOCOL, sort=True)]
    remarks_by_protocol = protocol_remarks(scores)
    result = []
    for (suite, budget, setting), group in groups:
        others = remarks_by_protocol.get((suite, budget, setting), [])
        found = _comparison(suite, budget, setting, group, evaluations, suites.get(suite, {}), others, score)
        result.append(found)
    return result


def _comparison(
    suite: str,
    budget: str,
    setting: str,
    scores: pd.DataFrame,
    evaluations: pd.DataFrame,
    known: Mapping[str, tuple[float, float]],
    other_protocols: Sequence[str],
    score: str,
) -> Comparison:
    order = {task: index for index, task in enumerate(known)}
    pairs = sorted(
        {(str(task), int(repeat)) for task, repeat in zip(scores["task"], scores["action_repeat"], strict=True)},
        key=lambda pair: (order.get(pair[0], len(order)), pair),
    )
    twice = len({task for task, _ in pairs}) < len(pairs)
    labels = tuple(f"{task} (action repeat {repeat})" if twice else task for task, repeat in pairs)
    ranges = tuple(_checked(known.get(task, UNKNOWN_RANGE), task) for task, _ in pairs)
    place = {pair: index for index, pair in enumerate(pairs)}
    column = np.array([place[pair] for pair in zip(scores["task"], scores["action_repeat"], strict=True)])
    low, high = np.array(ranges).T
    scores = scores.assign(column=column, score=(scores["score"] - low[column]) / (high - low)[column])
    arrays = {str(name): _array(runs, len(pairs)) for name, runs in scores.groupby("name", sort=True)}
    notes = _remarks(scores, labels, arrays, score)
    if unknown := list(dict.fromkeys(task for task, _ in pairs if task not in known)):
        notes.append(f"no score range is known for {', '.join(unknown)}: returns are taken as they are")
    outside = scores[(scores["score"] < 0) | (scores["score"] > 1)]["column"].unique()
    beyond = {pairs[index][0] for index in outside}
    unnormalised = tuple(task for task in unknown if task in beyond)
    notes += other_protocols
    finite = evaluations[np.isfinite(evaluations["value"])]
    scored = scores[np.isfinite(scores["score"])][["run_id", "name", "column"]]
    merged = finite.merge(scored, on=["run_id", "name"])
    at = merged["column"].to_numpy()
    merged["score"] = (merged.pop("value").to_numpy() - low[at]) / (high - low)[at]
    steps = scores[scores["scored"] > 0]["env_steps"]
    span = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
    found = Comparison(suite, budget, setting, labels, ranges, arrays, span, tuple(notes), merged, score, unnormalised)
    return replace(found, remarks=(*notes, found.refusal)) if unnormalised else found


def _array(runs: pd.DataFrame, num_tasks: int) -> Floats:
    finite = runs[np.isfinite(runs["score"])]
    by_task = [finite["score"].to_numpy()[finite["column"].to_numpy() == task] for task in range(num_tasks)]
    result = np.full((max(1, *map(len, by_task)), num_tasks), np.nan)
    for task, values in enumerate(by_task):
        result[: len(values), task] = values
    return result


def _remarks(scores: pd.DataFrame, tasks: Sequence[str], arrays: Mapping[str, Floats], score: str) -> list[str]:
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}
    notes = []
    for name, runs in scores.groupby("name", sort=True):
        seeds = runs["seed"].unique().tolist()
        found: dict[str, list[str]] = {}
        for column, part in runs.groupby("column", sort=True):
            for remark in [*remarks(run_columns(part), seeds, score), *_shape(arrays[name][:, column])]:
                found.setdefault(remark, []).append(tasks[column])
        tasks_by_remark |= {(str(name), remark): where for remark, where in found.items()}
        if absent := [task for index, task in enumerate(tasks) if not np.isfinite(arrays[name][:, index]).any()]:
            notes.append(f"{name}: no score on {', '.join(absent)}, so no statistics over all tasks")
    if not np.isfinite(scores["score"]).all():
        notes.append("runs without a finite score are left out of the statistics, which flatters their agents")
    notes += step_remarks(scores)
    return [*merged_remarks(tasks_by_remark), *notes]


def _shape(scores: Floats) -> list[str]:
    """Remarks on the finite scores of one agent on one task."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == 1:
        return ["one run: no interval"]
    return ["all runs score the same: the interval has no width"] if len(finite) and np.ptp(finite) == 0 else []


def _checked(bounds: tuple[float, float], task: str) -> tuple[float, float]:
    low, high = map(float, bounds)
    if not low < high or not np.isfinite([low, high]).all():
        raise ValueError(f"the score range of {task} is {low:g} to {high:g}; the first must be less than the second")
    return low, high
