"""Verdicts as grids of text, as CSV and as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from analysis.compare.verdicts import ALPHA, MIN_SEEDS, Verdict
from analysis.grids import MARK, Grid
from analysis.grids import to_csv as csv_text
from analysis.numbers import decimals, places
from analysis.rows.final import LAST, definition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.compare.aggregates import Aggregate
    from analysis.compare.verdicts import Line, Verdicts
    from analysis.statistics.bootstrap import Estimate
    from analysis.statistics.intervals import Summary

CSV_COLUMNS = (
    "suite", "budget", "setting", "statistic", "agent", "task", "action_repeat", "env_steps", "a", "a_std", "a_low",
    "a_high", "a_n", "b", "b_std", "b_low", "b_high", "b_n", "difference", "low", "high", "p", "p_holm",
    "improvement", "improvement_low", "improvement_high", "verdict", "score", "a_env_steps", "a_env_steps_most",
    "b_env_steps", "b_env_steps_most",
)  # fmt: skip


def to_grids(verdicts: Verdicts) -> list[Grid]:
    """One grid of lines and one of aggregates per protocol; the notes stand under the first."""
    grids: list[Grid] = []
    for title in dict.fromkeys(line.title for line in verdicts.lines):
        lines = [line for line in verdicts.lines if line.title == title]
        notes = () if grids else verdicts.notes
        grids.append(Grid(f"B against A: {title}", _caption(verdicts, lines), _HEADER, tuple(_rows(lines)), notes, 2))
        if aggregates := [each for each in verdicts.aggregates if each.title == title]:
            caption = (
                f"IQM over the tasks compared, 95 % bootstrap intervals; {verdicts.normalisation[title]}. With "
                "less than five seeds these intervals are too narrow; no verdict is drawn from them."
            )
            header = ("agent", "tasks", "runs A, B", "IQM of A", "IQM of B", "P(B > A)")
            grids.append(Grid(f"Over tasks: {title}", caption, header, tuple(map(_aggregate_row, aggregates))))
    return grids


def to_csv(verdicts: Verdicts) -> str:
    """Lines and aggregates in full precision: columns `CSV_COLUMNS`, unknown values empty."""
    every = [
        *(_line_values(line, verdicts.metric) for line in verdicts.lines),
        *(_aggregate_values(aggregate) for aggregate in verdicts.aggregates),
    ]
    rows = [{name: _csv(value) for name, value in (values | {"score": verdicts.score}).items()} for values in every]
    return csv_text(CSV_COLUMNS, [[row.get(name, "") for name in CSV_COLUMNS] for row in rows])


def to_json(verdicts: Verdicts) -> str:
    """One JSON object: `a`, `b`, `metric`, `score`, `margin`, `lines`, `aggregates`, `notes`; unknown is null."""
    record = {
        "a": verdicts.a,
        "b": verdicts.b,
        "metric": verdicts.metric,
        "score": verdicts.score,
        "margin": verdicts.margin,
        "lines": [_plain(_line_values(line, verdicts.metric) | {"broken": line.broken}) for line in verdicts.lines],
        "aggregates": [_plain(_aggregate_values(each)) for each in verdicts.aggregates],
        "notes": list(verdicts.notes),
    }
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


_HEADER = ("task", "agent", "A", "B", "B - A", "p (Holm)", "verdict")


def _rows(lines: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    digits = places(mean for line in lines for mean in (line.a.mean, line.b.mean))
    for line in lines:
        value, low, high = line.difference
        gap = "-" if math.isnan(value) else decimals(value, digits, "+")
        ends = ", ".join(decimals(end, digits, "+") for end in (low, high))
        interval = "" if math.isnan(low) or low == high else f" [{ends}]"
        p = "-" if math.isnan(line.p_holm) else f"{line.p_holm:.3f}" if line.p_holm >= 0.001 else "< 0.001"
        partly = line.verdict == Verdict.IDENTICAL and line.a.n != line.b.n
        mark = MARK if line.broken or line.verdict == Verdict.DIFFERENT_STEPS or partly else ""
        means = (_mean(each, digits) for each in (line.a, line.b))
        yield (line.task, line.agent, *means, gap + interval, p, f"{line.verdict}{mark}")


def _mean(scores: Summary, digits: int) -> str:
    """`731.2 ± 41.0 (5)`."""
    if not scores.n:
        return "-"
    spread = "" if math.isnan(scores.std) else f" ± {decimals(scores.std, digits)}"
    return f"{decimals(scores.mean, digits)}{spread} ({scores.n})"


def _caption(verdicts: Verdicts, lines: list[Line]) -> str:
    steps = sorted({step for line in lines for step in line.env_steps})
    where = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    tests = sum(math.isfinite(line.p) for line in verdicts.lines)
    what = f"{verdicts.score} ({definition(verdicts.score, verdicts.metric)})"
    what = f"Final {verdicts.metric}" if verdicts.score == LAST else what
    margin = f" Differences up to {verdicts.margin:g} do not matter." if verdicts.margin else ""
    return (
        f"A: {verdicts.a}. B: {verdicts.b}. {what} at {where} environment steps, mean ± standard "
        f"deviation (seeds); difference with Welch's 95 % interval, by itself; verdicts from {MIN_SEEDS} seeds a side "
        f"on, by p <= {ALPHA:g} after Holm's correction for {tests} test{'' if tests == 1 else 's'}.{margin}"
    )


def _aggregate_row(each: Aggregate) -> tuple[str, ...]:
    counts = (str(each.num_tasks), f"{each.runs[0]}, {each.runs[1]}")
    return (each.agent, *counts, *map(_interval, (each.a, each.b, each.improvement)))


def _interval(estimate: Estimate) -> str:
    value, low, high = estimate
    shown = decimals(value, 2)
    return shown if math.isnan(low) else f"{shown} [{decimals(low, 2)}, {decimals(high, 2)}]"


def _line_values(line: Line, metric: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "suite": line.suite,
        "budget": line.budget,
        "setting": line.setting,
        "statistic": metric,
        "agent": line.agent,
        "task": line.task,
        "action_repeat": line.action_repeat,
        "env_steps": line.env_steps[0] if line.env_steps[0] == line.env_steps[1] else None,
    }
    for letter, scores, steps in (("a", line.a, line.a_env_steps), ("b", line.b, line.b_env_steps)):
        values |= {letter: scores.mean, f"{letter}_std": scores.std, f"{letter}_n": scores.n}
        values |= dict(zip((f"{letter}_env_steps", f"{letter}_env_steps_most"), steps or (None, None), strict=True))
    values |= dict(zip(("difference", "low", "high"), line.difference, strict=True))
    return values | {"p": line.p, "p_holm": line.p_holm, "verdict": str(line.verdict)}


def _aggregate_values(each: Aggregate) -> dict[str, Any]:
    values: dict[str, Any] = {
        "suite": each.suite, "budget": each.budget, "setting": each.setting, "statistic": "iqm", "agent": each.agent,
        "a_n": each.runs[0], "b_n": each.runs[1],
    }  # fmt: skip
    for name, estimate in (("a", each.a), ("b", each.b), ("improvement", each.improvement)):
        values |= dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
    return values


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The values with None for NaN and infinities, which JSON has not."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _csv(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)
