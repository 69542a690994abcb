"""Signals over a run: the band of a reference's seeds, and new runs in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = 4
_INCHES = (2.6, 1.8)
REFERENCE, NEW = "#0072B2", "#D55E00"


def bands(reference: pd.DataFrame, new: pd.DataFrame, names: Sequence[str], path: style.Target) -> None:
    """Draw a panel for each signal.

    Args:
        reference, new: Of one task, as `analysis.gate.signals.signals` returns them.
        names: Signals that both have.
        path: PNG, PDF or SVG by its suffix.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows, columns = math.ceil(len(names) / COLUMNS), min(COLUMNS, len(names))
    with style.look():
        figure = Figure(figsize=(_INCHES[0] * columns, _INCHES[1] * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, name in zip(axes, names, strict=False):
            _panel(axis, reference, new, name)
        for axis in axes[len(names) :]:
            axis.set_axis_off()
        seeds = [f"{table['seed'].nunique()} seeds" for table in (reference, new)]
        entries = [
            Patch(color=REFERENCE, alpha=style.BAND_ALPHA, label=f"reference, {seeds[0]}, lowest to highest"),
            Line2D([], [], color=NEW, label=f"new, {seeds[1]}"),
        ]
        figure.legend(handles=entries, loc="outside lower center", ncols=2, frameon=False)
        style.save(figure, path)


def _panel(axis: Axes, reference: pd.DataFrame, new: pd.DataFrame, name: str) -> None:
    table = reference.pivot_table(index="interval", columns="seed", values=name)  # (intervals, seeds)
    share = table.index.to_numpy(np.float64) / 20
    values = table.to_numpy(np.float64)
    axis.fill_between(share, values.min(axis=1), values.max(axis=1), color=REFERENCE, alpha=style.BAND_ALPHA, lw=0)
    axis.plot(share, values.mean(axis=1), color=REFERENCE, linewidth=1.2)
    for _, rows in new.dropna(subset=[name]).groupby("seed"):
        axis.plot(rows["interval"] / 20, rows[name], color=NEW, linewidth=1.0)
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.5, 1], ["0", "half", "end"])
    axis.ticklabel_format(axis="y", useOffset=False)
    style.title(axis, name)
    style.dress(axis)
