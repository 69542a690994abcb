"""Learning curves as a figure, legible in print and to the colour-blind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from analysis.scores import PROTOCOL, agent_name, curves, protocol_name, returns

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito (2008), without the yellow that vanishes on white and the black that reads as an axis.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_PANEL_INCHES = (3.1, 2.4)
_MARKS_PER_CURVE = 6


def learning_curves(
    frame: pd.DataFrame, path: str | os.PathLike[str], *, tasks: Sequence[str] | None = None
) -> list[str]:
    """Draw one panel per task, a curve per agent, and save it as PNG, PDF or SVG by the suffix of `path`.

    Thick: mean over seeds, where every seed has been evaluated. Thin: each seed. tasks: the panels, in order.
    Returns remarks the reader of the figure should be told (evaluations that are not numbers cannot be drawn).
    Raises ValueError when there is nothing to draw, or rows of several suites, budgets or labels.
    """
    from matplotlib.figure import Figure

    rows = returns(frame)
    title = _title(rows)
    found = sorted({(str(task), int(n)) for task, n in zip(rows["task"], rows["action_repeat"], strict=True)})
    panels = [panel for panel in found if tasks is None or panel[0] in tasks]
    if tasks is not None:
        panels.sort(key=lambda panel: (list(tasks).index(panel[0]), panel[1]))
    if not panels:
        raise ValueError(f"no evaluation on {list(tasks or ())}; tasks with evaluations: {[task for task, _ in found]}")
    named = curves(frame)
    named["name"] = [agent_name(*pair) for pair in zip(named["agent"], named["variant"], strict=True)]
    styles = _styles(sorted(named["name"].unique()))

    columns = min(len(panels), 3 if len(panels) != 4 else 2)
    lines = math.ceil(len(panels) / columns)
    width = max(columns, 1.6) * _PANEL_INCHES[0]
    handles = _handles(styles)
    entry_inches = 1.05 + 0.085 * max(len(str(handle.get_label())) for handle in handles)
    legend_lines = math.ceil(len(handles) / max(1, int(width / entry_inches)))
    height = lines * _PANEL_INCHES[1] + 0.4 + 0.22 * legend_lines
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(panels):
            axis.remove()
            continue
        task, repeat = panels[index]
        twice = sum(name == task for name, _ in panels) > 1
        axis.set_title(f"{task} (action repeat {repeat})" if twice else task)
        _draw(axis, _on(rows, task, repeat), _on(named, task, repeat), styles)
        _dress(axis, first=index % columns == 0, last=index + columns >= len(panels))
    figure.suptitle(title)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=math.ceil(len(handles) / legend_lines), frameon=False,
        handlelength=3.5,
    )  # fmt: skip
    figure.savefig(path, dpi=200)
    return _remarks(rows)


def _title(rows: pd.DataFrame) -> str:
    protocols = sorted({tuple(map(str, key)) for key in rows[PROTOCOL].drop_duplicates().itertuples(index=False)})
    if len(protocols) != 1:
        names = ", ".join(protocol_name(*protocol) for protocol in protocols) or "no evaluations"
        raise ValueError(f"a figure shows one suite, budget and set of labels; the rows have: {names}. Select one")
    return protocol_name(*protocols[0])


def _styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dash and marker of each agent: no two agents share all three, and neighbours differ in each."""
    return {
        name: {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _DASHES[index % len(_DASHES)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        for index, name in enumerate(names)
    }


def _on(rows: pd.DataFrame, task: str, repeat: int) -> pd.DataFrame:
    return rows[(rows["task"] == task) & (rows["action_repeat"] == repeat)]


def _draw(axis: Axes, rows: pd.DataFrame, means: pd.DataFrame, styles: Mapping[str, Mapping[str, Any]]) -> None:
    for (agent, variant), seeds in rows.groupby(["agent", "variant"], observed=True):
        style = styles[agent_name(agent, variant)]
        for _, seed in seeds.groupby("run_id", observed=True):
            seed = seed.sort_values("env_steps")
            axis.plot(seed["env_steps"], seed["value"], color=style["color"], linewidth=0.5, alpha=0.4)
    for index, (name, curve) in enumerate(means.groupby("name", observed=True)):
        curve = curve[curve["n"] == curve["n"].max()]  # a mean over fewer seeds would jump
        every = max(1, math.ceil(len(curve) / _MARKS_PER_CURVE))
        axis.plot(
            curve["env_steps"], curve["mean"], **styles[str(name)], linewidth=1.8, markersize=5,
            markeredgecolor="white", markeredgewidth=0.5, markevery=(index % every, every), zorder=3,
        )  # fmt: skip


def _dress(axis: Axes, *, first: bool, last: bool) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_xlim(left=0)
    low, high = axis.get_ylim()
    if low < 0 <= axis.dataLim.y0 or 0 <= low < 0.5 * high:
        axis.set_ylim(bottom=0)
    if axis.dataLim.y0 == axis.dataLim.y1 == 0:
        axis.set_ylim(0, 1)  # nothing but zeros: not a scale of their rounding
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", linewidth=0.4, alpha=0.5)
    if first:
        axis.set_ylabel("return")
    if last:
        axis.set_xlabel("environment steps")


def _handles(styles: Mapping[str, Mapping[str, Any]]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    thick = [Line2D([], [], **style, linewidth=1.8, markersize=5, label=name) for name, style in styles.items()]
    explained = [("mean over seeds", 1.8), ("one seed", 0.5)]
    return [*thick, *(Line2D([], [], color="0.4", linewidth=width, label=text) for text, width in explained)]


def _remarks(rows: pd.DataFrame) -> list[str]:
    bad = rows[~rows["value"].map(math.isfinite)]
    counts = bad.groupby("run_id", observed=True).size()
    return [f"{run_id}: {n} evaluations are not finite numbers and not drawn" for run_id, n in counts.items()]
