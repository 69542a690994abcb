"""What compares stored runs, or scores from elsewhere: `covr-bench table`, `stats` and `plot`.

Imports neither torch nor a simulator.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.cli.show import settings_of, writing
from covr_bench.config import registry
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd
    from rich.console import Console

    from analysis.grids import Grid
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap

FORMATS = ("terminal", "md", "csv", "latex")
KINDS = ("curves", "aggregate", "profile", "improvement", "rounds")
Ranges = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True)
class Choice:
    """Which scores: of the store `out`, or of the file or folder `scores`; empty and None mean all.

    score_ranges: `LOW,HIGH` for every task or `TASK=LOW,HIGH`, instead of the suite's.
    """

    out: Path = Path("results")
    scores: Path | None = None
    suite: str = ""
    tasks: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    env_steps: int | None = None
    score_ranges: tuple[str, ...] = ()


def frame_of(choice: Choice) -> pd.DataFrame:
    """The rows chosen; what was passed over is said on standard error. Raises UserError."""
    from analysis.rows.scores import choose
    from results.store import read

    if choice.scores is None:
        frame, where = read(choice.out), choice.out
    else:
        from analysis.rows.external import ScoresError, read_scores

        try:
            (frame, remarks), where = read_scores(choice.scores), choice.scores
        except ScoresError as error:
            raise UserError(str(error)) from error
        _warn(remarks)
    if choice.suite:
        frame = frame[frame["suite"] == choice.suite]
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


def print_table(choice: Choice, format_: str, console: Console) -> None:
    """`covr-bench table`. Raises UserError for an unknown format or when there is nothing."""
    from analysis import tables

    _check_format(format_)
    expected = {name: [task.name for task in suite.tasks] for name, suite in registry.suites().items()}
    expected = {} if choice.tasks else expected
    frame = frame_of(choice)
    settings = {} if choice.scores else settings_of(choice.out, frame)
    made = tables.tables(frame, tasks=expected, env_steps=choice.env_steps, settings=settings)
    rows = "tasks" if format_ == "terminal" else "agents"
    grids = [grid for table in made for grid in tables.to_grids(table, rows=rows)]
    _show(grids, lambda: tables.to_csv(made), format_, console)


def print_paper(choice: Choice, paper: str, format_: str, console: Console) -> None:
    """`covr-bench table --paper`. Raises UserError for an unknown paper or format."""
    from analysis.papers import tables as papers
    from analysis.papers.published import PAPERS
    from analysis.rows import vlm_rounds as rounds

    if paper not in (*PAPERS, "rounds"):
        raise unknown("paper table", paper, (*PAPERS, "rounds"))
    _check_format(format_)
    frame = frame_of(choice)
    if paper == "rounds":
        made = rounds.rounds(frame)
        if not made:
            raise UserError("no rows of kind 'vlm' with a round: only agents with a VLM write them")
        _show([rounds.to_grid(each) for each in made], lambda: rounds.to_csv(made), format_, console)
        return
    tables = papers.paper_tables(frame, paper)
    as_grid = papers.to_long_grid if format_ == "terminal" else papers.to_grid
    _show([as_grid(table) for table in tables], lambda: papers.to_csv(tables), format_, console)


def print_stats(
    choice: Choice, format_: str, console: Console, *, reps: int, seed: int, over: str, marl_eval: Path | None
) -> None:
    """`covr-bench stats`. Raises UserError for an unknown format, task or agent, or when there is nothing."""
    from analysis.statistics import summary

    _check_format(format_)
    frame = frame_of(choice)
    comparisons = _comparisons(frame, choice)
    how = summary.Bootstrap(reps=reps, seed=seed)
    try:
        grids = [] if format_ == "csv" else [grid for each in comparisons for grid in summary.to_grids(each, how, over)]
        if format_ == "csv":
            _warn(remark for each in comparisons for remark in each.remarks)
        _show(grids, lambda: summary.to_csv(comparisons, how, over), format_, console)
    except ValueError as error:
        raise UserError(str(error)) from error
    if marl_eval:
        from analysis.rows.external import to_marl_eval

        exported, remarks = to_marl_eval(frame)
        with writing(marl_eval.parent):
            marl_eval.write_text(json.dumps(exported, allow_nan=False) + "\n")
        _warn(remarks)
        print(f"wrote {marl_eval}", file=sys.stderr)


def plot(choice: Choice, kind: str, file: Path | None, *, reps: int, seed: int, over: str) -> list[Path]:
    """`covr-bench plot`: one file per suite, budget and setting; returns their paths. Raises UserError."""
    if kind not in KINDS:
        raise unknown("kind of plot", kind, KINDS)
    file = file or Path(f"{kind}.png")
    if file.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"cannot draw to {str(file)!r}. Valid endings: .png, .pdf, .svg.")
    frame = frame_of(choice)
    try:
        return _plot_rounds(frame, file) if kind == "rounds" else _plot(frame, choice, kind, file, reps, seed, over)
    except ValueError as error:
        raise UserError(str(error)) from error


def _plot(frame: pd.DataFrame, choice: Choice, kind: str, file: Path, reps: int, seed: int, over: str) -> list[Path]:
    from analysis.statistics import summary

    how = summary.Bootstrap(reps=reps, seed=seed)
    comparisons = [each for each in _comparisons(frame, choice) if len(each.evaluations)]
    if not comparisons:
        raise UserError("no evaluation with a finite return yet")
    drawn, refused = [], []
    for made, path in zip(comparisons, _paths(file, [each.title for each in comparisons]), strict=True):
        _warn(made.remarks)
        try:
            _warn(_draw(frame, choice, kind, made, how, path, over))
            drawn.append(path)
        except ValueError as error:  # of this protocol there is too little; others may have enough
            refused.append(str(error))
    if not drawn:
        raise UserError("\n".join(refused))
    _warn(refused)
    return drawn


def _draw(
    frame: pd.DataFrame, choice: Choice, kind: str, made: Comparison, how: Bootstrap, path: Path, over: str
) -> list[str]:
    """One file; returns what must be said of it. Raises ValueError when there is nothing to draw."""
    from analysis.figures import statistics as figures
    from analysis.figures.curves import learning_curves
    from analysis.rows.scores import PROTOCOL, returns
    from analysis.statistics import summary

    with writing(path.parent):
        if kind == "curves":
            rows = returns(frame, choice.env_steps)
            rows = rows[(rows[PROTOCOL] == [made.suite, made.budget, made.setting]).all(axis=1)]
            together = summary.efficiency(made, how) if len(made.tasks) > 1 else None
            order = [task.split(" (action repeat ")[0] for task in made.tasks]
            return learning_curves(rows, path, tasks=list(dict.fromkeys(order)), efficiency=together)
        if kind == "improvement":
            figures.improvement(made, how, path, over=over)
            return summary.pairing(made, over)
        {"aggregate": figures.aggregate, "profile": figures.profile}[kind](made, how, path)
        return []


def _plot_rounds(frame: pd.DataFrame, file: Path) -> list[Path]:
    from analysis.figures import statistics as figures
    from analysis.rows.scores import protocol_name
    from analysis.rows.vlm_rounds import rounds

    made = rounds(frame)
    protocols = list(dict.fromkeys(each.protocol for each in made)) or [("", "", "")]
    paths = _paths(file, [protocol_name(*protocol) for protocol in protocols])
    for protocol, path in zip(protocols, paths, strict=True):
        some = [each for each in made if each.protocol == protocol]
        with writing(path.parent):
            figures.rounds(some, path)
        _warn(f"{each.title}: {remark}" for each in some for remark in each.remarks)
    return paths


def _paths(file: Path, titles: Sequence[str]) -> list[Path]:
    """The file itself, or one per protocol beside it."""
    if len(titles) == 1:
        return [file]
    names = [title.replace(" ", "").replace("/", "_") for title in titles]
    return [file.with_name(f"{file.stem}-{name}{file.suffix}") for name in names]


def _comparisons(frame: pd.DataFrame, choice: Choice) -> list[Comparison]:
    from analysis.statistics.comparison import comparisons

    ranges = score_ranges(frame, choice.score_ranges)
    try:
        made = comparisons(frame, ranges, env_steps=choice.env_steps)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not any(len(each.evaluations) for each in made):
        raise UserError("no evaluation with a finite return yet")
    return made


def score_ranges(frame: pd.DataFrame, given: Sequence[str] = ()) -> Ranges:
    """By suite and task: what was given, else the suite's own, else that of the task's name where suites agree."""
    known: Ranges = {
        name: {task.name: task.score_range for task in suite.tasks} for name, suite in registry.suites().items()
    }
    pairs = [(str(suite), str(task)) for suite, task in frame[["suite", "task"]].drop_duplicates().to_numpy()]
    for suite, task in pairs:
        if suite not in registry.suites():
            same = {ranges[task] for ranges in known.values() if task in ranges}
            if len(same) == 1:
                known.setdefault(suite, {})[task] = same.pop()
    for text in given:
        only, bounds = _range(text)
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


def _check_format(format_: str) -> None:
    if format_ not in FORMATS:
        raise UserError(f"unknown format {format_!r}. Valid: {', '.join(FORMATS)}.")


def _show(grids: Sequence[Grid], to_csv: Callable[[], str], format_: str, console: Console) -> None:
    from analysis.grids import to_latex, to_markdown, to_terminal

    if format_ == "terminal":
        console.print(to_terminal(grids))
    elif format_ == "csv":
        _warn(dict.fromkeys(note for grid in grids for note in grid.notes))
        sys.stdout.write(to_csv())
    else:
        sys.stdout.write(to_markdown(grids) if format_ == "md" else to_latex(grids))


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
