"""The VLM by itself after each round of fine-tuning: its return, its error on held-out actions, its valid answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from analysis.grids import MARK, Grid
from analysis.grids import to_csv as csv_text
from analysis.rows.scores import CELL, PROTOCOL, agent_name, protocol_name, with_setting
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEASURES = {
    "return": "its own return",
    "heldout_error": "error on held-out actions",
    "heldout_error_weighted": "the same, by their weights",
    "valid_share": "share of valid answers",
}
CSV_COLUMNS = (
    "suite", "budget", "setting", "task", "agent", "measure", "round", "n", "mean", "std", "env_steps_from",
    "env_steps_to",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A measure after one round: mean and sample standard deviation over n seeds; fewest and most environment steps."""

    n: int
    mean: float
    std: float
    env_steps: tuple[int, int]


@dataclass(frozen=True)
class Rounds:
    """One agent on one task. points: by measure (a key of MEASURES), then by round; round 0 is before the first."""

    protocol: tuple[str, str, str]
    task: str
    agent: str
    points: Mapping[str, Mapping[int, Point]]
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.agent} on {self.task}, {protocol_name(*self.protocol)}"


def rounds(frame: pd.DataFrame) -> list[Rounds]:
    """The rounds of fine-tuning among the rows of kind `vlm`.

    Args:
        frame: Rows as `results.store.read` returns them. A round's rows stand at the environment steps of a row
            `round`; of several rounds with one number the last counts.

    Returns:
        One value per protocol, task and agent, in that order.
    """
    rows = with_setting(frame[frame["kind"] == RowKind.VLM.value])
    texts = [column for column in CELL if column != "action_repeat"]
    rows = rows.astype(dict.fromkeys([*texts, "run_id", "metric"], str))
    numbers = rows[rows["metric"] == "round"].drop_duplicates(["run_id", "env_steps"], keep="last")
    numbers = numbers.sort_values("env_steps").drop_duplicates(["run_id", "value"], keep="last")
    numbers = numbers[["run_id", "env_steps", "value"]].rename(columns={"value": "round"})
    measured = rows[rows["metric"].isin(list(MEASURES))].merge(numbers, on=["run_id", "env_steps"])
    measured = measured.drop_duplicates(["run_id", "round", "metric"], keep="last")
    result = []
    for key, group in measured.groupby(CELL, sort=True):
        cell = dict(zip(CELL, key, strict=True))
        name = agent_name(cell["agent"], cell["variant"], cell["labels"])
        points: dict[str, dict[int, Point]] = {measure: {} for measure in MEASURES}
        for (measure, number), part in group.groupby(["metric", "round"], sort=True):
            values, steps = part["value"], part["env_steps"]
            mean, std = float(values.mean(skipna=False)), float(values.std(skipna=False))
            points[measure][int(number)] = Point(len(part), mean, std, (int(steps.min()), int(steps.max())))
        protocol = (cell[PROTOCOL[0]], cell[PROTOCOL[1]], cell[PROTOCOL[2]])
        result.append(Rounds(protocol, cell["task"], name, points, tuple(_remarks(group))))
    return result


def _remarks(group: pd.DataFrame) -> list[str]:
    found = []
    last = group.groupby("seed")["round"].max()
    if last.nunique() > 1:
        each = ", ".join(f"seed {seed} {int(number)}" for seed, number in last.items())
        found.append(f"seeds reached different rounds: {each}")
    bad = group[group["value"].isna()]
    if len(bad):
        found.append(f"not a finite number: {len(bad)} values of seeds {sorted(set(bad['seed'].tolist()))}")
    return found


def to_grid(rounds_of_agent: Rounds) -> Grid:
    """Measures down the side, rounds across."""
    numbers = sorted({number for points in rounds_of_agent.points.values() for number in points})
    most = max((point.n for points in rounds_of_agent.points.values() for point in points.values()), default=0)
    lines = []
    for measure, points in rounds_of_agent.points.items():
        if points:
            lines.append((MEASURES[measure], *(_text(points.get(number), measure, most) for number in numbers)))
    steps = rounds_of_agent.points["return"] or next(iter(filter(None, rounds_of_agent.points.values())), {})
    lines.append(("environment steps", *(_span(steps.get(number)) for number in numbers)))
    caption = (
        f"The VLM by itself; mean ± standard deviation over {most} seed{'' if most == 1 else 's'}. The paper shows its "
        "scores for rounds 0 to 5; we have no numbers of that figure."
    )
    header = ("round", *map(str, numbers))
    return Grid(f"The VLM by round: {rounds_of_agent.title}", caption, header, tuple(lines), rounds_of_agent.remarks)


def to_csv(all_rounds: Sequence[Rounds]) -> str:
    """One line per measure and round in full precision; columns `CSV_COLUMNS`. std is empty for one seed."""
    lines: list[Sequence[object]] = []
    for one in all_rounds:
        for measure, points in one.points.items():
            for number, point in points.items():
                std = "" if point.n == 1 else repr(point.std)
                numbers = (number, point.n, repr(point.mean), std, *point.env_steps)
                lines.append([*one.protocol, one.task, one.agent, measure, *numbers])
    return csv_text(CSV_COLUMNS, lines)


def _text(point: Point | None, measure: str, most: int) -> str:
    if point is None:
        return "-"
    digits = 1 if measure == "return" else 3
    spread = "" if math.isnan(point.std) else f" ± {point.std:.{digits}f}"
    fewer = f" ({point.n}){MARK}" if point.n < most else ""
    return f"{point.mean:.{digits}f}{spread}{fewer}"


def _span(point: Point | None) -> str:
    if point is None:
        return "-"
    low, high = point.env_steps
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
