"""Statistics as figures: aggregate scores, performance profiles, probability of improvement, rounds of the VLM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import style
from analysis.rows.vlm_rounds import MEASURES
from analysis.statistics.summary import METRIC_NAMES, improvements, over_tasks, profiles, taus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from analysis.rows.vlm_rounds import Rounds
    from analysis.statistics.bootstrap import Estimate
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap

_ROW_INCHES = 0.3
_LETTER_INCHES = 0.078  # width of a letter of a name beside a row
_PAIRED_LETTERS = 40  # of each name of a pair
_INK = "0.15"


def aggregate(comparison: Comparison, bootstrap: Bootstrap, path: style.Target) -> None:
    """Draw IQM, median, mean and optimality gap over tasks: a row per agent, its interval as a bar.

    Args:
        comparison: Agents under one protocol.
        bootstrap: Replicates and seed.
        path: PNG, PDF or SVG by its suffix.

    Raises:
        ValueError: If no agent has a score on every task.
    """
    found = over_tasks(comparison, bootstrap)
    _nothing_if(not found, comparison)
    names = sorted(found, key=lambda name: found[name]["iqm"].value)
    colours = style.styles(sorted(found))
    shown = list(style.short_names(names).values())
    width = 2.2 * len(METRIC_NAMES) + _LETTER_INCHES * max(map(style.letters, shown))
    with style.look():
        figure, axes = _panels(len(METRIC_NAMES), width, 1.35 + _ROW_INCHES * len(names), share=True)
        for axis, (metric, text) in zip(axes, METRIC_NAMES.items(), strict=True):
            for row, name in enumerate(names):
                _bar(axis, row, found[name][metric], colours[name])
            axis.set_title(text + (" (less is better)" if metric == "optimality_gap" else ""))
            axis.use_sticky_edges = False
            axis.margins(x=0.08)
            style.dress(axis, grid="x")
            _rows(axis, shown)
        style.heading(figure, _title(comparison))
        intervals = _intervals([each.low for agent in found.values() for each in agent.values()])
        figure.supxlabel(f"normalised score, {intervals}", fontsize="medium")
        style.save(figure, path)


def improvement(comparison: Comparison, bootstrap: Bootstrap, path: style.Target, *, over: str = "") -> None:
    """Draw the probability of improvement: a row per pair of `analysis.statistics.summary.improvements`.

    Args:
        comparison: Agents under one protocol.
        bootstrap: Replicates and seed.
        path: PNG, PDF or SVG by its suffix.
        over: Second agent of every pair; every pair if empty.

    Raises:
        ValueError: If fewer than two agents have a score on every task, or `over` has none.
    """
    found = improvements(comparison, bootstrap, over)
    if not found:
        raise ValueError(
            f"{comparison.title}: fewer than two agents have a score on every task, there is nothing to compare"
        )
    pairs = list(found)[::-1]
    shown = style.short_names(dict.fromkeys(name for pair in pairs for name in pair), _PAIRED_LETTERS)
    names = [f"{style.apart(shown[x])}  >  {style.apart(shown[y])}" for x, y in pairs]
    width = 3.6 + _LETTER_INCHES * max(map(style.letters, names))
    with style.look():
        figure, (axis,) = _panels(1, width, 1.35 + _ROW_INCHES * len(pairs))
        colours = style.styles(sorted({x for x, _ in pairs}))
        axis.axvline(0.5, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        for row, (x, y) in enumerate(pairs):
            _bar(axis, row, found[x, y], colours[x])
        _rows(axis, names)
        axis.set_xlim(-0.02, 1.02)
        intervals = _intervals([each.low for each in found.values()])
        axis.set_xlabel(f"P(a run of the first scores higher),\n{intervals}")
        style.dress(axis, grid="x")
        style.heading(figure, _title(comparison, "\n"))
        style.save(figure, path)


def profile(comparison: Comparison, bootstrap: Bootstrap, path: style.Target) -> None:
    """Draw performance profiles: the share of runs above each normalised score. Args and Raises as `aggregate`."""
    at = taus(comparison) if comparison.aggregated_agents else np.zeros(0)
    found = profiles(comparison, bootstrap, at)
    _nothing_if(not found, comparison)
    known = style.styles(sorted(found))
    width = 5.2
    with style.look():
        figure, (axis,) = _panels(1, width, 3.4 + 0.22 * style.legend_lines(list(found), width))
        for index, (name, (value, low, high)) in enumerate(found.items()):
            axis.fill_between(at, low, high, color=known[name]["color"], alpha=style.BAND_ALPHA, linewidth=0)
            style.curve(axis, at, value, known[name], 3 * index)
        axis.set(xlabel="normalised score s", ylabel="share of runs with a score > s", ylim=(-0.02, 1.02))
        axis.set_xlim(at[0], at[-1])
        style.dress(axis)
        intervals = _intervals([low[0] for _, low, _ in found.values()])
        style.heading(figure, _title(comparison, "\n") + f", {intervals}")
        style.legend(figure, style.handles(known), width)
        style.save(figure, path)


def rounds(vlm_rounds: Sequence[Rounds], path: style.Target) -> None:
    """Draw the VLM by round: a row of panels per task, a panel per measure, a curve per agent.

    Args:
        vlm_rounds: Rounds of one suite, budget and setting.
        path: PNG, PDF or SVG by its suffix.

    Raises:
        ValueError: If there are no rounds, or rounds of several protocols.
    """
    if not vlm_rounds:
        raise ValueError("no rows of kind 'vlm' with a round: only agents with a VLM write them")
    if len({each.protocol for each in vlm_rounds}) > 1:
        raise ValueError("a figure shows one suite, budget and setting; the rounds are of several")
    tasks = sorted({each.task for each in vlm_rounds})
    known = style.styles(sorted({each.agent for each in vlm_rounds}))
    measures = [measure for measure in MEASURES if any(each.points[measure] for each in vlm_rounds)]
    with style.look():
        from matplotlib.figure import Figure

        width = max(len(measures), 1.6) * style.PANEL_INCHES[0]
        height = len(tasks) * style.PANEL_INCHES[1] + 0.5 + 0.22 * style.legend_lines(list(known), width)
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(tasks), len(measures), squeeze=False, sharex=True)
        for task, line in zip(tasks, axes, strict=True):
            for measure, axis in zip(measures, line, strict=True):
                for index, each in enumerate(each for each in vlm_rounds if each.task == task):
                    _rounds_curve(axis, each, measure, known[each.agent], index)
                _rounds_axis(axis, task, measure, last=task == tasks[-1])
        style.heading(figure, f"The VLM by itself, {vlm_rounds[0].title.split(', ')[-1]}")
        style.legend(figure, [*style.handles(known), _band("± standard deviation over seeds")], width)
        style.save(figure, path)


def differences(found: Mapping[str, Estimate], title: str, path: style.Target) -> None:
    """Draw differences of scores paired by seed: a row for each, with its interval.

    Args:
        found: By what is written beside the row.
        title: Of the figure.
        path: PNG, PDF or SVG by its suffix.
    """
    names = list(found)[::-1]
    with style.look():
        width = 4.8 + _LETTER_INCHES * max(map(style.letters, names))
        figure, (axis,) = _panels(1, width, 1.35 + _ROW_INCHES * len(names))
        axis.use_sticky_edges = False  # a bar does not end at the frame
        axis.axvline(0, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        colours = style.styles(sorted(names))
        for row, name in enumerate(names):
            _bar(axis, row, found[name], colours[name])
        _rows(axis, names)
        axis.set_xlabel("difference in the mean return over a run's\nevaluations, paired by seed; 95 % interval")
        style.dress(axis, grid="x")
        style.heading(figure, title)
        style.save(figure, path)


def _band(text: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="0.4", linewidth=6.0, alpha=2 * style.BAND_ALPHA, label=text)


def _rounds_curve(axis: Axes, each: Rounds, measure: str, known: style.Style, index: int) -> None:
    points = each.points[measure]
    numbers = list(points)
    means = np.array([point.mean for point in points.values()])
    spread = np.nan_to_num([point.std for point in points.values()])
    axis.fill_between(
        numbers, means - spread, means + spread, color=known["color"], alpha=style.BAND_ALPHA, linewidth=0
    )
    style.curve(axis, numbers, means.tolist(), known, index)


def _rounds_axis(axis: Axes, task: str, measure: str, *, last: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    style.title(axis, task)
    style.returns_axis(axis)
    style.dress(axis)
    if measure == "valid_share":
        axis.set_ylim(0, 1.02)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel(MEASURES[measure])
    if last:
        axis.set_xlabel("round of fine-tuning")


def _panels(count: int, width: float, height: float, *, share: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, sharey=share, squeeze=False)[0])


def _rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)))
    axis.set_yticklabels(names, parse_math=False)
    axis.set_ylim(-0.7, len(names) - 0.3)
    axis.tick_params(axis="y", length=0)


def _bar(axis: Axes, row: int, estimate: Estimate, known: style.Style) -> None:
    """The interval as a bar, the value as a line across it; without an interval a mark."""
    if math.isnan(estimate.low):
        axis.plot([estimate.value], [row], marker="|", markersize=10, color=_INK, markeredgewidth=2)
        return
    axis.barh(row, estimate.high - estimate.low, left=estimate.low, height=0.55, color=known["color"], alpha=0.75)
    axis.plot([estimate.value] * 2, [row - 0.27, row + 0.27], color=_INK, linewidth=2, solid_capstyle="butt")


def _intervals(lows: Sequence[float]) -> str:
    """What a figure shows around its values, some or all of which may be of a single run. lows: NaN is none."""
    lacking = [math.isnan(low) for low in lows]
    if all(lacking):
        return "one run per task: no interval"
    return "95 % interval" + (" (none of one run per task)" if any(lacking) else "")


def _title(comparison: Comparison, separator: str = ", ") -> str:
    first, last = comparison.steps
    steps = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    count = f"{len(comparison.tasks)} tasks" if len(comparison.tasks) > 1 else comparison.tasks[0]
    score = f"{comparison.score_name}at " if comparison.score_name else ""
    return f"{comparison.title}{separator}{count}, {score}{steps} environment steps"


def _nothing_if(nothing: bool, comparison: Comparison) -> None:
    if nothing and comparison.refusal:
        raise ValueError(comparison.refusal)
    if nothing:
        remarks = "; ".join(comparison.remarks)
        raise ValueError(
            f"{comparison.title}: no agent has a score on every task, there is nothing to draw ({remarks})"
        )
