"""B against A, task by task: the difference of the mean final scores, its interval, and what may be said of it.

The reasons for each rule are in docs/compare.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.compare.sides import described, matches
from analysis.rows.remarks import gathered, remarks, seeds_text
from analysis.rows.scores import CELL, PROTOCOL, protocol_name, returns
from analysis.statistics import bootstrap as stats
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.comparison import comparisons
from analysis.statistics.summary import Bootstrap, honest
from analysis.statistics.welch import Summary, difference, p_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.compare.sides import Match, Side

MIN_SEEDS = 3  # of a side; with two, agents that sometimes fail would be told apart by chance in one case of eight
ALPHA = 0.05
VERDICTS = (
    "identical", "better", "worse", "no difference shown", "too few seeds", "different steps", "not finite", "no score"
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One agent on one task. a, b: final scores over seeds. difference: `b - a`, NaN where the two are not comparable.

    env_steps: of the scores, least and most. p: of the difference, p_holm: among all lines; NaN where not tested.
    broken: whether B has runs that failed, were never evaluated or end in a score that is no number, and A has none.
    """

    suite: str
    budget: str
    setting: str
    agent: str
    task: str
    action_repeat: int
    env_steps: tuple[int, int]
    a: Summary
    b: Summary
    difference: Estimate
    p: float
    verdict: str
    broken: bool
    p_holm: float = math.nan

    @property
    def title(self) -> str:
        return protocol_name(self.suite, self.budget, self.setting)


@dataclass(frozen=True)
class Aggregate:
    """One agent over the tasks that could be compared. a, b: IQM of the normalised scores. improvement: probability
    that a run of B scores higher than one of A. runs: of A and B.
    """

    suite: str
    budget: str
    setting: str
    agent: str
    num_tasks: int
    a: Estimate
    b: Estimate
    improvement: Estimate
    runs: tuple[int, int]

    @property
    def title(self) -> str:
        return protocol_name(self.suite, self.budget, self.setting)


@dataclass(frozen=True)
class Verdicts:
    """a, b: the sides in words. normalisation: of the aggregates, by protocol. notes: what a reader must know."""

    a: str
    b: str
    metric: str
    margin: float
    lines: tuple[Line, ...]
    aggregates: tuple[Aggregate, ...]
    normalisation: Mapping[str, str]
    notes: tuple[str, ...]


def verdicts(
    a: Side,
    b: Side,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    metric: str = "return",
    env_steps: int | None = None,
    margin: float = 0.0,
    lower_is_better: bool = False,
    how: Bootstrap | None = None,
) -> Verdicts:
    """B against A. ranges: as for `analysis.statistics.comparison.comparisons`. metric: what the evaluations measured.

    margin: differences up to this, in units of the metric, are of no interest. Raises ValueError for a negative margin
    or a score range that is none.
    """
    if not margin >= 0 or math.isinf(margin):
        raise ValueError(f"margin {margin:g}; it must be 0 or more, in units of the {metric}")
    found, said, refused = matches(a, b, env_steps=env_steps, metric=metric)
    found.sort(key=lambda match: _place(match, ranges))
    curves_a, curves_b = (_curves(side.frame, env_steps, metric) for side in (a, b))
    shared = [_same(match, curves_a, curves_b) for match in found]
    lines = [_line(match, same, margin) for match, same in zip(found, shared, strict=True)]
    lines = [_judged(line, adjusted, lower_is_better) for line, adjusted in zip(lines, _holm(lines), strict=True)]
    aggregates: list[Aggregate] = []
    normalisation: dict[str, str] = {}
    if metric == "return":
        usable = [m for m, line in zip(found, lines, strict=True) if math.isfinite(line.difference.value)]
        aggregates, normalisation = _aggregates(usable, ranges, how or Bootstrap())
    else:
        said.append(f"no aggregate: score ranges are of returns, not of {metric}")
    name_a, name_b = (described(side, _run_ids(runs)) for side, runs in _sides(a, b, found))
    notes = (*said, *_run_notes(found, lines, shared), *refused)
    return Verdicts(name_a, name_b, metric, margin, tuple(lines), tuple(aggregates), normalisation, notes)


def _place(match: Match, ranges: Mapping[str, Mapping[str, tuple[float, float]]]) -> tuple[Any, ...]:
    """Lines stand by protocol, then by the suite's own order of tasks."""
    protocol = tuple(map(str, match.key[: len(PROTOCOL)]))
    order = list(ranges.get(protocol[0], ()))
    return (protocol, order.index(match.task) if match.task in order else len(order), match.task, match.name)


def _line(match: Match, same: Sequence[int], margin: float) -> Line:
    """With a verdict only where that of other lines does not matter. same: as of `_same`."""
    part = dict(zip(CELL, match.key, strict=True))
    sides = [runs[runs["evaluations"] > 0] for runs in (match.a, match.b)]
    a, b = (_summary(runs) for runs in sides)
    steps = pd.concat(sides)["env_steps"]
    span = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
    verdict, gap, p = "", Estimate(math.nan, math.nan, math.nan), math.nan
    if not (a.n and b.n):
        verdict = "no score"
    elif span[0] < span[1]:
        verdict = "different steps"
    elif not math.isfinite(a.mean) or not math.isfinite(b.mean):
        verdict = "not finite"
    else:
        gap = difference(b, a)
        if min(a.n, b.n) < MIN_SEEDS:
            verdict = "too few seeds"
        else:
            p = p_value(b, a, margin)
    if same:
        zero = 0.0 if math.isfinite(a.mean) and math.isfinite(b.mean) else math.nan
        verdict, gap, p = "identical", Estimate(zero, zero, zero), math.nan
    broken = _broken(match.b) and not _broken(match.a)
    key = (part["suite"], part["budget"], part["setting"], match.name, part["task"], int(part["action_repeat"]))
    return Line(*key, span, a, b, gap, p, verdict, broken)


def _summary(runs: pd.DataFrame) -> Summary:
    score = runs["score"]
    return Summary(float(score.mean(skipna=False)), float(score.std(skipna=False)), len(score))


def _broken(runs: pd.DataFrame) -> bool:
    bad = (runs["status"] == "failed") | (runs["evaluations"] == 0) | ~np.isfinite(runs["score"])
    return bool(bad.any())


def _judged(line: Line, p_holm: float, lower_is_better: bool) -> Line:
    if line.verdict:
        return line
    verdict = "no difference shown"
    if p_holm <= ALPHA:
        verdict = "better" if (line.difference.value > 0) != lower_is_better else "worse"
    return replace(line, verdict=verdict, p_holm=p_holm)


def _holm(lines: Sequence[Line]) -> list[float]:
    """Holm's adjusted probabilities: the chance of any false verdict among all lines stays below ALPHA."""
    p = np.array([line.p for line in lines])
    adjusted = np.full(len(p), np.nan)
    order = [index for index in np.argsort(p, kind="stable") if math.isfinite(p[index])]
    so_far = 0.0
    for rank, index in enumerate(order):
        so_far = max(so_far, min(1.0, (len(order) - rank) * p[index]))
        adjusted[index] = so_far
    return [float(each) for each in adjusted]


def _curves(frame: pd.DataFrame, env_steps: int | None, metric: str) -> dict[str, bytes]:
    """All evaluations of each run, as bytes: equal only if every step and every value is."""
    rows = returns(frame, env_steps, metric=metric)
    codes, runs = pd.factorize(rows["run_id"])
    order = np.argsort(codes, kind="stable")
    points = rows[["env_steps", "value"]].to_numpy(np.float64)[order]  # (num_evaluations, 2)
    ends = np.cumsum(np.bincount(codes, minlength=len(runs)))
    return {str(run): points[a:b].tobytes() for run, a, b in zip(runs, [0, *ends[:-1]], ends, strict=True)}


def _same(match: Match, a: Mapping[str, bytes], b: Mapping[str, bytes]) -> list[int]:
    """The seeds of the side that has fewer, if the other has them all and the evaluations of each are equal."""
    ours, theirs = (dict(zip(runs["seed"], runs["run_id"], strict=True)) for runs in (match.a, match.b))
    fewer = min((ours, theirs), key=len)
    equal = all(
        seed in ours and seed in theirs and a.get(ours[seed]) is not None and a.get(ours[seed]) == b.get(theirs[seed])
        for seed in fewer
    )
    return sorted(map(int, fewer)) if equal else []


def _aggregates(
    usable: Sequence[Match], ranges: Mapping[str, Mapping[str, tuple[float, float]]], how: Bootstrap
) -> tuple[list[Aggregate], dict[str, str]]:
    """Per protocol and agent, over its tasks with a difference."""
    result, normalisation = [], {}
    made = [
        comparisons(_as_rows([getattr(match, letter) for match in usable]), ranges) if usable else [] for letter in "ab"
    ]
    for a, b in zip(*made, strict=True):
        normalisation[a.title] = a.normalisation
        for name in a.scores:
            columns = np.isfinite(a.scores[name]).any(axis=0)
            x, y = (each.scores[name][:, columns] for each in (a, b))
            iqm = [
                honest(stats.aggregates(each, ("iqm",), reps=how.reps, seed=how.seed)["iqm"], each) for each in (x, y)
            ]
            improvement = honest(stats.improvement(y, x, reps=how.reps, seed=how.seed), x, y)
            runs = (int(np.isfinite(x).sum()), int(np.isfinite(y).sum()))
            protocol = (a.suite, a.budget, a.setting)
            result.append(Aggregate(*protocol, name, int(columns.sum()), iqm[0], iqm[1], improvement, runs))
    return result, normalisation


def _as_rows(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Final scores as rows of the store again, one evaluation a run."""
    frame = pd.concat(runs, ignore_index=True).rename(columns={"score": "value"})
    return frame.drop(columns=PROTOCOL[2:]).assign(kind="eval", metric="return")


def _run_notes(found: Sequence[Match], lines: Sequence[Line], shared: Sequence[Sequence[int]]) -> list[str]:
    """What must be said of single runs, `A: sac on walker_walk: seed 2 failed`."""
    notes = []
    for letter in "ab":
        noted: dict[tuple[str, str], list[str]] = {}
        for match in found:
            for remark in remarks(getattr(match, letter)):
                noted.setdefault((match.name, remark), []).append(match.task)
        notes += [f"{letter.upper()}: {note}" for note in gathered(noted)]
    both: dict[tuple[str, str], list[str]] = {}
    for match, line, same in zip(found, lines, shared, strict=True):
        remark = ""
        if line.verdict == "different steps":
            low, high = line.env_steps
            remark = f"scored at {low:,} to {high:,} environment steps, so no difference is stated; --env-steps {low}"
            remark += " scores what came up to there"
        elif same and len(match.a) != len(match.b):
            remark = f"{seeds_text(same)} on both sides, with identical numbers; the others are not compared"
        if remark:
            both.setdefault((match.name, remark), []).append(match.task)
    return [*notes, *gathered(both)]


def _run_ids(runs: Sequence[pd.DataFrame]) -> list[str]:
    return [run_id for each in runs for run_id in each["run_id"]]


def _sides(a: Side, b: Side, found: Sequence[Match]) -> list[tuple[Side, list[pd.DataFrame]]]:
    return [(a, [match.a for match in found]), (b, [match.b for match in found])]
