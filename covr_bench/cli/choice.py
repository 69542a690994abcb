"""The scores that a verb reads, from the store or from a file, and the returns that count as 0 and 1."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.config import registry
from covr_bench.kit.errors import UserError, unknown
from results.layout import RunId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd
    from rich.console import Console

    from analysis.grids import Grid
    from analysis.statistics.comparison import Comparison

FORMATS = ("terminal", "md", "csv", "latex", "html")
NOTHING = "no evaluation with a finite return yet"
Ranges = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class Choice:
    """Which scores: of the store `out`, or of the file or folder `scores`; empty and None mean all.

    score: which score of a run (`analysis.rows.final.SCORES`).
    score_ranges: `LOW,HIGH` for every task or `TASK=LOW,HIGH`, instead of the suite's.
    """

    out: Path = Path("results")
    scores: Path | None = None
    suite: str = ""
    tasks: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    env_steps: int | None = None
    score_ranges: tuple[str, ...] = ()
    score: str = "last"


def warn(remarks: Iterable[str]) -> None:
    """Print remarks on standard error."""
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)


def frame_of(
    choice: Choice,
    *,
    none: bool = False,
    columns: Sequence[str] | None = None,
    tell: Callable[[Iterable[str]], None] = warn,
) -> pd.DataFrame:
    """The chosen rows.

    Raises UserError if there are none, or none that the chosen score can be taken from.

    none: Whether there may be none: of a table that has numbers of its own, or of a folder that does not exist.
    columns: Those that are needed of the store's rows; all if None.
    tell: Gets the remarks on ignored input.
    """
    from analysis.numbers import bounded
    from analysis.rows.final import SCORES, TRAIN10
    from analysis.rows.scores import choose
    from results.store import no_rows, read

    if choice.score not in SCORES:
        raise unknown("score", choice.score, SCORES)
    if choice.score == TRAIN10 and choice.scores is not None:
        others = ", ".join(score for score in SCORES if score != TRAIN10)
        raise UserError(f"{choice.scores} holds evaluations only, no training episodes: --score takes {others} there")
    if choice.scores is None:
        missing, where = none and not choice.out.exists(), choice.out
        frame = no_rows() if missing else read(choice.out, columns=columns)
    else:
        from analysis.rows.external import read_scores
        from analysis.rows.lines import ScoresError

        try:
            (frame, remarks), where = read_scores(choice.scores), choice.scores
        except ScoresError as error:
            raise UserError(str(error)) from error
        tell(remarks)
    frame, remarks = bounded(frame)
    tell(remarks)
    if choice.suite:
        frame = frame[frame["suite"] == choice.suite]
    if frame.empty and none:
        return frame
    if frame.empty:
        of_suite = f" of suite {choice.suite!r}" if choice.suite else ""
        raise UserError(f"no rows{of_suite} in {where}; `covr-bench run` makes some")
    if choice.tasks or choice.agents:
        try:
            frame = choose(frame, tasks=choice.tasks, agents=choice.agents)
        except ValueError as error:
            raise UserError(str(error)) from error
    if frame.empty:
        raise UserError(f"none of the agents {', '.join(choice.agents)} was run on {', '.join(choice.tasks)}")
    return frame


def is_chosen(choice: Choice, run_id: str) -> bool:
    """Whether a run is one of those asked for, by its id: it may have no rows yet."""
    from analysis.rows.scores import agent_name

    run = RunId.parse(run_id)
    names = {run.agent, agent_name(run.agent, run.variant)}
    asked = (not choice.suite or choice.suite == run.suite, not choice.tasks or run.task in choice.tasks)
    return all(asked) and (not choice.agents or not names.isdisjoint(choice.agents))


def comparisons_of(frame: pd.DataFrame, choice: Choice, *, finite: bool = False) -> list[Comparison]:
    """One comparison per suite, budget and setting. Raises UserError if nothing was evaluated.

    finite: Only those with a finite score, and raise UserError if there is none.
    """
    from analysis.rows.scores import returns
    from analysis.statistics.comparison import comparisons

    ranges = score_ranges(frame, choice.score_ranges)
    try:
        found = comparisons(frame, ranges, env_steps=choice.env_steps, score=choice.score)
    except ValueError as error:
        raise UserError(str(error)) from error
    scored = [each for each in found if each.has_scores]
    evaluated = not returns(frame, choice.env_steps).empty
    if not scored and (finite or not evaluated):
        raise UserError(NOTHING if choice.score == "last" else f"no run with a finite {choice.score} yet")
    return scored if finite else found


def score_ranges(frame: pd.DataFrame, given: Sequence[str] = ()) -> Ranges:
    """By suite and task: the given range, else the suite's own, else one on which all suites with the task agree."""
    from analysis.statistics.comparison import UNKNOWN_RANGE

    known: Ranges = {
        name: {task.name: task.score_range for task in suite.tasks if task.score_range != UNKNOWN_RANGE}
        for name, suite in registry.suites().items()
    }
    pairs = [(str(suite), str(task)) for suite, task in frame[["suite", "task"]].drop_duplicates().to_numpy()]
    for suite, task in pairs:
        if suite not in registry.suites():
            same = {ranges[task] for ranges in known.values() if task in ranges}
            if len(same) == 1:
                known.setdefault(suite, {})[task] = same.pop()
    ranges: dict[str, tuple[float, float]] = {}
    for only, bounds in sorted(map(_range, given), key=lambda each: each[0]):  # that of every task first
        if ranges.setdefault(only, bounds) != bounds:
            raise UserError(f"--score-range is given twice for {only or 'every task'}: {ranges[only]} and {bounds}")
        tasks = {task for _, task in pairs}
        if only and only not in tasks:
            raise unknown("task of --score-range", only, tasks)
        for suite, task in pairs:
            if only in ("", task):
                known.setdefault(suite, {})[task] = bounds
    return known


def _range(text: str) -> tuple[str, tuple[float, float]]:
    task, _, bounds = text.rpartition("=")
    try:
        low, high = map(float, bounds.split(","))
    except ValueError:
        raise UserError(f"--score-range takes LOW,HIGH or TASK=LOW,HIGH, got {text!r}") from None
    return task, (low, high)


def expected_tasks(choice: Choice, frame: pd.DataFrame) -> dict[str, list[str]]:
    """By suite the tasks that a table of it has to show: those that run by default, if one of them was run."""
    ran = frame[["suite", "task"]].drop_duplicates().groupby("suite", observed=True)["task"].unique()
    expected = {}
    for name, suite in registry.suites().items():
        tasks = [task.name for task in suite.tasks if task.name in suite.default_tasks or not suite.default_tasks]
        if not choice.tasks and set(tasks) & set(ran.get(name, ())):
            expected[name] = tasks
    return expected


def check_format(format_: str) -> None:
    """Raise UserError for an unknown format."""
    if format_ not in FORMATS:
        raise UserError(f"unknown format {format_!r}. Valid: {', '.join(FORMATS)}.")


def show_grids(
    grids: Sequence[Grid], to_csv: Callable[[], str], format_: str, console: Console, *, siunitx: bool = False
) -> None:
    """Print grids in a format; with CSV their notes go to standard error."""
    from analysis.grids import to_html, to_latex, to_markdown, to_terminal

    if format_ == "terminal":
        console.print(to_terminal(grids))
    elif format_ == "csv":
        warn(dict.fromkeys(note for grid in grids for note in grid.notes))
        sys.stdout.write(to_csv())
    else:
        text = {"md": to_markdown, "html": to_html}.get(format_)
        sys.stdout.write(text(grids) if text else to_latex(grids, siunitx=siunitx))
