"""A paper's table as a figure: by method and task the paper's value and ours, each with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.figures import style
from analysis.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from analysis.statistics.intervals import Summary

    Row = tuple[str, Sequence[tuple[Summary | None, Summary | None]]]

_PAPER, _OURS = "0.55", "#0072B2"
_ROW_INCHES, _PANEL_INCHES, _LETTER_INCHES = 0.36, 2.3, 0.075
_COLUMNS = 3


def bars(title: str, panels: Sequence[str], rows: Sequence[Row], to: style.Target) -> None:
    """Draw a panel for each task (and metric), with a row for each method: grey the paper's value, blue ours.

    Args:
        title: Of the figure.
        panels: Names of the tasks.
        rows: Of each method its name and, for each panel, the paper's value and ours.
        to: PNG, PDF or SVG by its suffix.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = style.short_names(name for name, _ in rows)
    names = [shown[name] for name, _ in rows]
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    width = columns * _PANEL_INCHES + _LETTER_INCHES * max(map(style.letters, names))
    with style.look():
        figure = Figure(figsize=(width, lines * (0.7 + _ROW_INCHES * len(names)) + 0.8), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for index, (axis, name) in enumerate(zip(axes, panels, strict=False)):
            for row, (_, values) in enumerate(reversed(rows)):
                published, ours = values[index]
                _bar(axis, row + 0.2, published, _PAPER)
                _bar(axis, row - 0.2, ours, _OURS)
            axis.set_yticks(range(len(names)))
            axis.set_yticklabels(names[::-1], parse_math=False)
            style.title(axis, name, _PANEL_INCHES)
            style.dress(axis, grid="x")
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        style.heading(figure, title)
        entries = [Patch(color=_PAPER, label="published"), Patch(color=_OURS, label="ours, 95 % interval of the mean")]
        figure.legend(handles=entries, loc="outside lower center", ncols=2, frameon=False)
        style.save(figure, to)


def _bar(axis: Axes, at: float, value: Summary | None, colour: str) -> None:
    """The mean as a bar and its interval as a line; nothing where there is no value, words where it is not finite."""
    if value is None:
        return
    if not math.isfinite(value.mean):
        place = axis.get_yaxis_transform()
        axis.text(0.02, at, "not a finite number", color=colour, fontsize="x-small", va="center", transform=place)
        return
    axis.barh(at, value.mean, height=0.36, color=colour)
    low, high = mean_interval(value)[1:]
    if math.isfinite(low):
        axis.plot([low, high], [at, at], color="0.15", linewidth=1.2)
