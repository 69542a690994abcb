"""Learning curves as a figure: a panel per task, and one over all tasks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures import style
from analysis.figures.style import PANEL_INCHES
from analysis.rows.held import by_run, held, shared_grid
from analysis.rows.scores import PROTOCOL, agent_names, protocol_name, returns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Efficiency = Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]

_COLUMNS = {1: 1, 2: 2, 4: 2, 7: 4, 8: 4}  # by number of panels; 3 for any other number


def learning_curves(
    frame: pd.DataFrame,
    path: style.Target,
    *,
    tasks: Sequence[str] | None = None,
    efficiency: Efficiency | None = None,
) -> list[str]:
    """Draw one panel per task with a curve per agent: thick the mean over seeds, thin each seed.

    The mean is that of the seeds' last evaluations so far, from the first step at which every seed was evaluated to the
    end of the shortest run, or to where a seed diverges. A cross marks where a run diverges.

    Args:
        frame: Rows as `results.store.read` returns them, of one suite, budget and setting.
        path: PNG, PDF or SVG by its suffix.
        tasks: The panels, in order; all tasks if None.
        efficiency: From `analysis.statistics.summary.efficiency`: adds a panel with the IQM over tasks.

    Returns:
        Remarks for the reader of the figure, such as evaluations that are not finite and hence not drawn.

    Raises:
        ValueError: If there is nothing to draw, or rows are of several suites, budgets or settings.
    """
    rows = returns(frame)
    title = _title(rows)
    distinct = rows[["task", "action_repeat"]].drop_duplicates()
    found = sorted((str(task), int(n)) for task, n in distinct.itertuples(index=False))
    panels = [panel for panel in found if tasks is None or panel[0] in tasks]
    if tasks is not None:
        panels.sort(key=lambda panel: (list(tasks).index(panel[0]), panel[1]))
    if not panels:
        raise ValueError(f"no evaluation on {list(tasks or ())}; tasks with evaluations: {[task for task, _ in found]}")
    rows["name"] = agent_names(rows)
    rows = rows.sort_values("env_steps", kind="stable").drop_duplicates(["run_id", "env_steps"], keep="last")
    styles = style.styles(sorted(rows["name"].unique()))
    with style.look():
        _figure(path, title, panels, rows, styles, efficiency or {})
    return _remarks(rows)


def _figure(
    path: style.Target,
    title: str,
    panels: Sequence[tuple[str, int]],
    rows: pd.DataFrame,
    styles: Mapping[str, style.Style],
    efficiency: Efficiency,
) -> None:
    from matplotlib.figure import Figure

    count = len(panels) + bool(efficiency)
    columns = _COLUMNS.get(count, 3)
    lines = math.ceil(count / columns)
    width = max(columns, 1.6) * PANEL_INCHES[0]
    last = rows.drop_duplicates("run_id", keep="last")["value"].to_numpy(np.float64)
    with_band = any(np.isfinite(low).any() for _, (_, low, _) in efficiency.values())
    entries = _entries(styles, with_band, bool((~np.isfinite(last)).any()))
    legend_lines = style.legend_lines([str(entry.get_label()) for entry in entries], width)
    height = lines * PANEL_INCHES[1] + 0.4 + 0.22 * legend_lines
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= count:
            axis.remove()
            continue
        last = index + columns >= count
        if index == len(panels):
            style.title(axis, "all tasks")
            _draw_efficiency(axis, efficiency, styles, last=last)
            continue
        task, repeat = panels[index]
        twice = sum(name == task for name, _ in panels) > 1
        style.title(axis, f"{task} (action repeat {repeat})" if twice else task)
        _draw(axis, _on(rows, task, repeat), styles)
        style.steps_axis(axis, label=last)
        style.returns_axis(axis)
        style.dress(axis)
        if index % columns == 0:
            axis.set_ylabel("return")
    style.heading(figure, title)
    style.legend(figure, entries, width)
    style.save(figure, path)


def _title(rows: pd.DataFrame) -> str:
    protocols = sorted({tuple(map(str, key)) for key in rows[PROTOCOL].drop_duplicates().itertuples(index=False)})
    if len(protocols) != 1:
        names = ", ".join(protocol_name(*protocol) for protocol in protocols) or "no evaluations"
        raise ValueError(f"a figure shows one suite, budget and set of labels; the rows have: {names}. Select one")
    return protocol_name(*protocols[0])


def _on(rows: pd.DataFrame, task: str, repeat: int) -> pd.DataFrame:
    return rows[(rows["task"] == task) & (rows["action_repeat"] == repeat)]


def _draw(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, style.Style]) -> None:
    """rows: of one task, increasing in environment steps."""
    from matplotlib.collections import LineCollection

    means = []
    for name, agent_rows in rows.groupby("name"):
        steps, values = by_run(agent_rows)
        lines = [np.column_stack(run) for run in zip(steps, values, strict=True)]
        # One collection: a line for each of thousands of seeds would take a minute.
        colour = styles[str(name)]["color"]
        axis.add_collection(LineCollection(lines, colors=colour, linewidths=0.5, alpha=0.4))
        for run in zip(steps, values, strict=True):
            _mark_divergence(axis, *run, styles[str(name)])
        grid = shared_grid(steps)
        means.append((str(name), grid, held(steps, values, grid).mean(axis=0)))
    for index, (name, grid, mean) in enumerate(means):
        style.curve(axis, grid, mean, styles[name], index)


def _mark_divergence(axis: Axes, steps: Ints, values: Floats, known: style.Style) -> None:
    """A cross at the last finite evaluation of a run whose last evaluation is none."""
    finite = np.flatnonzero(np.isfinite(values))
    if len(finite) and finite[-1] < len(values) - 1:
        at = finite[-1]
        axis.plot(steps[at : at + 1], values[at : at + 1], color=known["color"], marker="x", markersize=8, zorder=4)


def _draw_efficiency(axis: Axes, efficiency: Efficiency, styles: Mapping[str, style.Style], *, last: bool) -> None:
    for index, (name, (steps, (value, low, high))) in enumerate(efficiency.items()):
        axis.fill_between(steps, low, high, color=styles[name]["color"], alpha=style.BAND_ALPHA, linewidth=0)
        style.curve(axis, steps, value, styles[name], index)
    style.steps_axis(axis, label=last)
    style.returns_axis(axis)
    style.dress(axis)
    axis.set_ylabel("IQM of normalised scores")


def _diverged(run: pd.DataFrame) -> bool:
    """Whether all evaluations after the first that is not finite are none either."""
    finite = np.isfinite(run["value"].to_numpy(np.float64))
    return not finite[np.argmin(finite) :].any()


def _entries(styles: Mapping[str, style.Style], with_band: bool, with_cross: bool) -> list[Line2D]:
    from matplotlib.lines import Line2D

    explained = [("mean over seeds", 1.8, 1.0), ("one seed", 0.5, 1.0)]
    explained += [("95 % interval (all tasks)", 6.0, 2 * style.BAND_ALPHA)] if with_band else []
    lines = [Line2D([], [], color="0.4", linewidth=w, alpha=alpha, label=text) for text, w, alpha in explained]
    crosses = [Line2D([], [], color="0.4", linestyle="", marker="x", label="diverged after this")] if with_cross else []
    return [*style.handles(styles), *lines, *crosses]


def _remarks(rows: pd.DataFrame) -> list[str]:
    bad = rows[~np.isfinite(rows["value"])]
    remarks = []
    of_bad = rows[rows["run_id"].isin(bad["run_id"].unique())]
    for run_id, part in bad.groupby("run_id", observed=True):
        count = (
            "1 evaluation is no finite number" if len(part) == 1 else f"{len(part)} evaluations are not finite numbers"
        )
        at = f", from {part['env_steps'].min():,} env steps on" if _diverged(of_bad[of_bad["run_id"] == run_id]) else ""
        remarks.append(f"{run_id}: {count} and not drawn{at}")
    ends = rows.groupby(["name", "task", "action_repeat", "run_id"], observed=True)["env_steps"].max()
    spans = ends.groupby(level=["name", "task", "action_repeat"], observed=True).agg(["min", "max"])
    for (name, task, _), low, high in spans[spans["min"] < spans["max"]].itertuples():
        remarks.append(f"{name} on {task}: runs end at {low:,} to {high:,} env steps; the mean is drawn where all are")
    return remarks
