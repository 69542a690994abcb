"""Verdicts on B against A, task by task: the difference of the mean final scores, its interval, its significance.

The reasons for each rule are in docs/compare.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.compare.aggregates import Aggregate, over_tasks
from analysis.compare.matching import match_runs
from analysis.compare.records import changed_code, description
from analysis.compare.run_sets import runs_of_sets
from analysis.rows.final import LAST, mean_and_deviation
from analysis.rows.remarks import merged_remarks, remarks, run_columns, seeds_text
from analysis.rows.scores import CELL, PROTOCOL, RunState, protocol_name, returns, same_steps
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.intervals import Summary, difference, holm, p_value
from analysis.statistics.summary import Bootstrap
from results.states import TextEnum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.compare.run_sets import Match, RunSet

MIN_SEEDS = 3  # of a set; with two, an agent that sometimes fails would differ from itself by chance in 1 of 8 cases
ALPHA = 0.05  # chance of any false verdict among all lines
_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


class Verdict(TextEnum):
    """What may be concluded of a line; docs/compare.md defines each."""

    IDENTICAL = "identical"
    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW_SEEDS = "too few seeds"
    DIFFERENT_STEPS = "different steps"
    NOT_FINITE = "not finite"
    NO_SCORE = "no score"


@dataclass(frozen=True)
class Line:
    """One agent on one task.

    Attributes:
        suite, budget, setting: The protocol.
        agent, task, action_repeat: What was run.
        a_env_steps, b_env_steps: Fewest and most environment steps at which scores of a side were measured; None of a
            side without a score.
        a, b: Final scores over seeds.
        difference: `b - a` with its interval, NaN if the two are not comparable.
        p: Two-sided p of the difference, NaN if not tested.
        verdict: What may be concluded.
        broken: Whether B has runs that failed, did not finish, were never evaluated or end in a score that is no
            number.
        p_holm: `p` after Holm's correction for all lines, NaN if not tested.
    """

    suite: str
    budget: str
    setting: str
    agent: str
    task: str
    action_repeat: int
    a_env_steps: tuple[int, int] | None
    b_env_steps: tuple[int, int] | None
    a: Summary
    b: Summary
    difference: Estimate
    p: float
    verdict: Verdict
    broken: bool
    p_holm: float = math.nan

    @property
    def title(self) -> str:
        """Name of the protocol."""
        return protocol_name(self.suite, self.budget, self.setting)

    @property
    def env_steps(self) -> tuple[int, int]:
        """Fewest and most environment steps of both sides; 0 where neither has a score."""
        return _both(self.a_env_steps, self.b_env_steps)


@dataclass(frozen=True)
class Verdicts:
    """The outcome of a comparison.

    Attributes:
        a, b: The two sets in words: name, commits, code of the agents.
        metric: What the evaluations measured.
        margin: Differences up to this do not matter; in the metric's unit.
        lines: One per agent and task.
        aggregates: One per agent, over tasks.
        normalisation: By protocol, how scores were normalised for the aggregates.
        notes: What a reader must know.
        score: Which score of `analysis.rows.final.SCORES` was compared.
        missing: Agents on tasks that A has and B has not, and runs of B without rows, in words.
        not_compared: Agents on tasks that both have, under protocols that differ.
    """

    a: str
    b: str
    metric: str
    margin: float
    lines: tuple[Line, ...]
    aggregates: tuple[Aggregate, ...]
    normalisation: Mapping[str, str]
    notes: tuple[str, ...]
    score: str = LAST
    missing: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()


def verdicts(
    a: RunSet,
    b: RunSet,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    metric: str = "return",
    env_steps: int | None = None,
    score: str = LAST,
    margin: float = 0.0,
    lower_is_better: bool = False,
    bootstrap: Bootstrap | None = None,
) -> Verdicts:
    """Judge B against A.

    Args:
        a, b: The two sets of runs.
        ranges: Per suite the score range of each task, as of `analysis.statistics.comparison.comparisons`.
        metric: What the evaluations measured.
        env_steps: Score what was measured up to this environment step; everything if None.
        score: One of `analysis.rows.final.SCORES`.
        margin: Differences up to this do not matter; in the metric's unit, 0 or more.
        lower_is_better: Whether smaller values of the metric are better.
        bootstrap: Replicates and seed of the aggregates' intervals.

    Returns:
        Lines in the order of protocol and tasks, aggregates, and notes.

    Raises:
        ValueError: For a negative margin, an unknown score, or a score range that is not increasing and finite.
    """
    if not margin >= 0 or math.isinf(margin):
        raise ValueError(f"margin {margin:g}; it must be 0 or more, in units of the {metric}")
    found = match_runs(a, b, env_steps=env_steps, metric=metric, score=score)
    matches = sorted(found.matches, key=lambda match: _sort_key(match, ranges))
    curves_a, curves_b = (_curves(each.frame, env_steps, metric) for each in (a, b))
    identical = [_identical_seeds(match, curves_a, curves_b) for match in matches]
    lines = [_line(match, seeds, margin) for match, seeds in zip(matches, identical, strict=True)]
    adjusted = holm([line.p for line in lines])
    lines = [_with_verdict(line, p, lower_is_better) for line, p in zip(lines, adjusted, strict=True)]
    notes, aggregates, normalisation = list(found.remarks), list[Aggregate](), dict[str, str]()
    if metric == "return":
        usable = [match for match, line in zip(matches, lines, strict=True) if math.isfinite(line.difference.value)]
        aggregates, normalisation = over_tasks(usable, ranges, bootstrap or Bootstrap())
    else:
        notes.append(f"no aggregate: score ranges are of returns, not of {metric}")
    name_a, name_b = (description(run_set, runs) for _, run_set, runs in runs_of_sets(a, b, matches))
    notes += [*_run_notes(a, b, matches, score), *_line_notes(matches, lines, identical), *found.excluded]
    notes += [f"{letter} lacks {run}" for letter, each in (("A", a), ("B", b)) for run in each.unmeasured]
    told = (tuple(lines), tuple(aggregates), normalisation, tuple(notes), score)
    return Verdicts(name_a, name_b, metric, margin, *told, (*found.missing, *b.unmeasured), tuple(found.not_compared))


def _sort_key(match: Match, ranges: Mapping[str, Mapping[str, tuple[float, float]]]) -> tuple[Any, ...]:
    """Lines are sorted by protocol, then by the suite's own order of tasks."""
    protocol = tuple(map(str, match.key[: len(PROTOCOL)]))
    order = list(ranges.get(protocol[0], ()))
    return (protocol, order.index(match.task) if match.task in order else len(order), match.task, match.name)


def _line(match: Match, identical: Sequence[int], margin: float) -> Line:
    """A tested line, whose p is finite, gets its verdict once all lines are known. identical: `_identical_seeds`."""
    part = dict(zip(CELL, match.key, strict=True))
    scored_runs = [runs[runs["scored"] > 0] for runs in (match.a, match.b)]
    a, b = (_summary(runs) for runs in scored_runs)
    steps_a, steps_b = (_span(runs["env_steps"]) for runs in scored_runs)
    verdict, gap, p = _identical(a, b) if identical else _tested(a, b, _both(steps_a, steps_b), margin)
    broken = _broken(match.b)
    key = (part["suite"], part["budget"], part["setting"], match.name, part["task"], int(part["action_repeat"]))
    return Line(*key, steps_a, steps_b, a, b, gap, p, verdict, broken)


def _span(steps: pd.Series) -> tuple[int, int] | None:
    return (int(steps.min()), int(steps.max())) if len(steps) else None


def _both(*spans: tuple[int, int] | None) -> tuple[int, int]:
    """Fewest and most of both sides; 0 where neither has a score."""
    every = [step for span in spans for step in span or ()]
    return min(every, default=0), max(every, default=0)


def _identical(a: Summary, b: Summary) -> tuple[Verdict, Estimate, float]:
    zero = 0.0 if math.isfinite(a.mean) and math.isfinite(b.mean) else math.nan
    return Verdict.IDENTICAL, Estimate(zero, zero, zero), math.nan


def _tested(a: Summary, b: Summary, span: tuple[int, int], margin: float) -> tuple[Verdict, Estimate, float]:
    """Verdict, difference, and p, which is NaN if nothing can be tested."""
    if not (a.n and b.n):
        return Verdict.NO_SCORE, _UNKNOWN, math.nan
    if not same_steps(*span):
        return Verdict.DIFFERENT_STEPS, _UNKNOWN, math.nan
    if not math.isfinite(a.mean) or not math.isfinite(b.mean):
        return Verdict.NOT_FINITE, _UNKNOWN, math.nan
    if min(a.n, b.n) < MIN_SEEDS:
        return Verdict.TOO_FEW_SEEDS, difference(b, a), math.nan
    return Verdict.NO_DIFFERENCE, difference(b, a), p_value(b, a, margin)


def _summary(runs: pd.DataFrame) -> Summary:
    return Summary(*mean_and_deviation(runs["score"].to_numpy()), len(runs))


def _broken(runs: pd.DataFrame) -> bool:
    bad = (runs["status"] != RunState.FINISHED.value) | (runs["scored"] == 0) | ~np.isfinite(runs["score"])
    return bool(bad.any())


def _with_verdict(line: Line, p_holm: float, lower_is_better: bool) -> Line:
    """p_holm: NaN for a line that was not tested, which keeps its verdict."""
    if not p_holm <= ALPHA:
        return replace(line, p_holm=p_holm)
    better = (line.difference.value > 0) != lower_is_better
    return replace(line, verdict=Verdict.BETTER if better else Verdict.WORSE, p_holm=p_holm)


def _curves(frame: pd.DataFrame, env_steps: int | None, metric: str) -> dict[str, bytes]:
    """All evaluations of each run as bytes, which are equal only if every step and every value is."""
    rows = returns(frame, env_steps, metric=metric)
    codes, runs = pd.factorize(rows["run_id"])
    order = np.argsort(codes, kind="stable")
    points = rows[["env_steps", "value"]].to_numpy(np.float64)[order]  # (num_evaluations, 2)
    ends = np.cumsum(np.bincount(codes, minlength=len(runs)))
    return {str(run): points[a:b].tobytes() for run, a, b in zip(runs, [0, *ends][: len(ends)], ends, strict=True)}


def _identical_seeds(match: Match, a: Mapping[str, bytes], b: Mapping[str, bytes]) -> list[int]:
    """The seeds of the smaller set, if the other has them all with equal evaluations and scores; else none."""
    ours, theirs = (
        {run.seed: (curves.get(run.run_id), np.float64(run.score).tobytes()) for run in runs.itertuples()}
        for runs, curves in ((match.a, a), (match.b, b))
    )
    fewer = min((ours, theirs), key=len)
    equal = all(fewer[seed][0] is not None and ours.get(seed) == theirs.get(seed) for seed in fewer)
    return sorted(map(int, fewer)) if equal else []


def _run_notes(a: RunSet, b: RunSet, matches: Sequence[Match], score: str) -> list[str]:
    """Remarks on single runs, such as `A: sac on walker_walk: seed 2 failed`."""
    notes = []
    for letter, run_set, runs_by_match in runs_of_sets(a, b, matches):
        tasks_by_remark: dict[tuple[str, str], list[str]] = {}
        for match, runs in zip(matches, runs_by_match, strict=True):
            changes = (f"seed {seed} went on with changed code, {each}" for seed, each in changed_code(run_set, runs))
            for remark in (*remarks(run_columns(runs), score=score), *changes):
                tasks_by_remark.setdefault((match.name, remark), []).append(match.task)
        notes += [f"{letter}: {note}" for note in merged_remarks(tasks_by_remark)]
    return notes


def _line_notes(matches: Sequence[Match], lines: Sequence[Line], identical: Sequence[Sequence[int]]) -> list[str]:
    """Remarks on the lines that compare less than all runs."""
    tasks_by_remark: dict[tuple[str, str], list[str]] = {}
    for match, line, seeds in zip(matches, lines, identical, strict=True):
        remark = ""
        if line.verdict == Verdict.DIFFERENT_STEPS:
            low, high = line.env_steps
            remark = f"scored at {low:,} to {high:,} environment steps, so no difference is stated; --env-steps {low}"
            remark += " scores what came up to there"
        elif seeds and len(match.a) != len(match.b):
            remark = f"{seeds_text(seeds)} on both sides, with identical numbers; the others are not compared"
        if remark:
            tasks_by_remark.setdefault((match.name, remark), []).append(match.task)
    return merged_remarks(tasks_by_remark)
