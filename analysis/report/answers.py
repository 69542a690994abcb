"""Status of a VLM's answers: the share of each status over whole runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.grids import Grid
from analysis.rows.scores import CELL, PROTOCOL, agent_name, protocol_name, with_setting
from results.states import RowKind

if TYPE_CHECKING:
    import pandas as pd

_PREFIX = "answers_"


def to_grids(frame: pd.DataFrame) -> list[Grid]:
    """Shares of each status among the answers of all seeds.

    Args:
        frame: Rows as `results.store.read` returns them; metrics `answers_<status>` are totals so far.

    Returns:
        One grid per suite, budget and setting whose agents count their answers.
    """
    rows = frame[(frame["kind"] == RowKind.VLM.value) & frame["metric"].astype(str).str.startswith(_PREFIX)]
    rows = with_setting(rows).drop_duplicates(["run_id", "metric"], keep="last")
    texts = [column for column in CELL if column != "action_repeat"]
    rows = rows.astype(dict.fromkeys([*texts, "run_id", "metric"], str))
    grids = []
    for protocol, group in rows.groupby(PROTOCOL, sort=True):
        statuses = sorted(set(group["metric"]), key=lambda metric: (metric != f"{_PREFIX}ok", metric))
        lines = []
        for key, cell in group.groupby(CELL[len(PROTOCOL) :], sort=True):
            labels, task, _, agent, variant = key
            counts = cell.groupby("metric")["value"].sum()
            total = counts.sum()
            shares = [f"{counts.get(status, 0) / total:.1%}" if total else "-" for status in statuses]
            name = agent_name(agent, variant, labels)
            lines.append((name, task, str(cell["run_id"].nunique()), f"{total:,.0f}", *shares))
        header = ("agent", "task", "runs", "answers", *(status.removeprefix(_PREFIX) for status in statuses))
        caption = "Of all answers over the runs: those that state an action (ok), and the others by what was wrong."
        title = f"Answers of the VLM: {protocol_name(*map(str, protocol))}"
        grids.append(Grid(title, caption, header, tuple(lines), text_columns=2))
    return grids
