"""`covr-bench plot`: figures of scores. Imports neither torch nor a simulator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.choice import Choice, comparisons_of, frame_of, warn
from covr_bench.cli.options import (
    PAPERS_HELP,
    BootstrapSeed,
    OneSuite,
    OnlyAgent,
    OnlyTask,
    Out,
    Over,
    Reps,
    ScoreRange,
    Scores,
    UpTo,
    WhichScore,
    path_option,
)
from covr_bench.cli.show import file_names, writing
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from analysis.papers.cells import PaperTable
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap


CURVES_OF_PAPER = "F3"
PANELS = 24  # of a page of learning curves
OF_RUNS_ALONE = ("rounds", "effect")  # kinds of plot that show whole runs, and tables without a paper's numbers
KINDS = ("curves", "aggregate", "profile", "improvement", *OF_RUNS_ALONE)


def plot_command(
    out: Out = Path("results"),
    suite: OneSuite = "",
    kind: Annotated[str, typer.Option(help="curves, aggregate, profile, improvement, rounds or effect. [curves]")] = "",
    paper: Annotated[
        list[str] | None,
        typer.Option(help=f"Bars of papers' tables: {PAPERS_HELP}; F3, curves of T4 in its grid; or rounds, effect."),
    ] = None,
    file: Annotated[
        Path | None, path_option("-o", "--output", help="PNG, PDF or SVG by its ending. [KIND.png]")
    ] = None,
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score: WhichScore = "last",
    score_range: ScoreRange = None,
    over: Over = "",
    reps: Reps = 50_000,
    seed: BootstrapSeed = 0,
) -> None:
    """Figures: learning curves, aggregate scores, profiles, probability of improvement, the VLM by round, the study."""
    only = (suite, tuple(task or ()), tuple(agent or ()))
    choice = Choice(out, scores, *only, env_steps, tuple(score_range or ()), score)
    draw = partial(plot, reps=reps, seed=seed, over=over)
    if kind and paper:
        raise UserError("--kind and --paper each say which figure: give one of them")
    for path in plot_papers(choice, paper, file, {}, draw) if paper else draw(choice, kind or "curves", file):
        print(path)


def plot(choice: Choice, kind: str, file: Path | None, *, reps: int, seed: int, over: str) -> list[Path]:
    """Draw one file per suite, budget and setting; returns their paths. Raises UserError if none can be drawn."""
    from analysis.rows.scores import READ, up_to

    if kind not in KINDS:
        raise unknown("kind of plot", kind, KINDS)
    file = _drawable(file or Path(f"{kind}.png"))
    frame = frame_of(choice, columns=None if kind in OF_RUNS_ALONE else READ)
    if choice.score != "last" and kind in ("curves", *OF_RUNS_ALONE):
        raise UserError(f"--score is for aggregate, profile and improvement: {kind} shows whole runs")
    whole = {"rounds": _plot_rounds, "effect": _plot_effect}
    try:
        return (
            whole[kind](up_to(frame, choice.env_steps), file)
            if kind in whole
            else _plot(frame, choice, kind, file, reps, seed, over)
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def plot_papers(
    choice: Choice,
    papers: Sequence[str],
    file: Path | None,
    named: Mapping[str, Sequence[str]],
    draw: Callable[[Choice, str, Path | None], Iterable[Path]],
) -> Iterator[Path]:
    """Draw papers' tables as bars, then their other figures; yields the paths. Raises UserError.

    Args:
        choice: Of our runs.
        papers: Names of tables, or of figures: F3, rounds, effect.
        file: Where to; None for `TABLE.png`. Of several names each has its own file beside it.
        named: By method of the paper, our agents that stand beside it in place of its own.
        draw: `plot` with its options, for the figures that are no tables.
    """
    from analysis.papers.published import PAPERS
    from analysis.papers.tables import several_tables
    from analysis.rows.scores import READ, up_to
    from covr_bench.cli.paper_runs import paper_names

    if choice.score != "last":
        raise UserError("--paper shows the last evaluation at the paper's number of steps: it takes no --score")
    names = paper_names(papers, (CURVES_OF_PAPER, *OF_RUNS_ALONE))
    shown = [name for name in names if name in PAPERS]
    file = _drawable(file) if file else None
    files = {name: file.with_name(f"{file.stem}-{name}{file.suffix}") if file and names[1:] else file for name in names}
    try:
        frame = up_to(frame_of(choice, none=True, columns=READ), choice.env_steps) if shown else None
        tables = several_tables(frame, shown, named) if frame is not None else []
    except ValueError as error:
        raise UserError(str(error)) from error
    for name in shown:
        yield from _plot_bars([table for table in tables if table.table == name], files[name] or Path(f"{name}.png"))
    for name in names:
        if name == CURVES_OF_PAPER:
            yield from draw(_of_paper(choice), "curves", files[name])
        elif name in OF_RUNS_ALONE:
            yield from draw(choice, name, files[name])


def _plot_bars(tables: Sequence[PaperTable], file: Path) -> list[Path]:
    """One file per suite, budget and setting; returns their paths."""
    from analysis.figures.papers import bars
    from analysis.papers.layouts import column_names, early, summaries
    from analysis.rows.scores import protocol_name

    paths = _paths(file, [protocol_name(*table.protocol) for table in tables])
    for table, path in zip(tables, paths, strict=True):
        with writing(path.parent):
            shorter = f"\nours only {early(table)}: no reproduction" if early(table) else ""
            bars(table.title + shorter, column_names(table.columns), summaries(table), path)
        if any(line.ours for line in table.lines):  # else they are of the paper's numbers
            warn(f"{protocol_name(*table.protocol)}: {note}" for note in table.notes)
    return paths


def _of_paper(choice: Choice) -> Choice:
    """The agents and tasks of the paper's six DMControl tasks, as far as they were run, in the paper's order."""
    from analysis.papers.published import published

    numbers = [number for number in published("T4") if number.agent]
    frame = frame_of(replace(choice, suite=choice.suite or "dmc6"))
    ran = set(frame["agent"].astype(str))
    agents = tuple(dict.fromkeys(number.agent for number in numbers if number.agent in ran))
    on = set(frame["task"].astype(str))
    tasks = tuple(dict.fromkeys(number.task for number in numbers if number.task in on))
    return replace(choice, suite=choice.suite or "dmc6", tasks=choice.tasks or tasks, agents=choice.agents or agents)


def _drawable(file: Path) -> Path:
    if file.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(f"cannot draw to {str(file)!r}. Valid endings: .png, .pdf, .svg.")
    return file


def _plot(frame: pd.DataFrame, choice: Choice, kind: str, file: Path, reps: int, seed: int, over: str) -> list[Path]:
    from analysis.statistics import summary

    bootstrap = summary.Bootstrap(reps=reps, seed=seed)
    comparisons = comparisons_of(frame, choice, finite=kind != "curves")  # who diverged has a curve up to there
    drawn, refused = [], []
    for comparison, path in zip(comparisons, _paths(file, [each.title for each in comparisons]), strict=True):
        warn(comparison.remarks)
        try:
            warn(_draw(frame, choice, kind, comparison, bootstrap, path, over))
            tasks = list(dict.fromkeys(comparison.plain_tasks.values()))
            drawn += [page for _, page in _pages(tasks, path)] if kind == "curves" else [path]
        except ValueError as error:  # this protocol has too few runs; others may have enough
            refused.append(str(error))
    if not drawn:
        raise UserError("\n".join(refused))
    warn(refused)
    return drawn


def _draw(
    frame: pd.DataFrame, choice: Choice, kind: str, comparison: Comparison, bootstrap: Bootstrap, path: Path, over: str
) -> list[str]:
    """Draw one file; returns remarks on it. Raises ValueError if there is nothing to draw."""
    from analysis.figures.curves import learning_curves
    from analysis.figures.statistics import aggregate, improvement, profile
    from analysis.rows.scores import PROTOCOL, counted, returns
    from analysis.statistics import summary

    with writing(path.parent):
        if kind == "curves":
            rows = counted(returns(frame, choice.env_steps))
            rows = rows[(rows[PROTOCOL] == [comparison.suite, comparison.budget, comparison.setting]).all(axis=1)]
            several = len(comparison.tasks) > 1 and comparison.aggregated_agents
            efficiency = summary.efficiency(comparison, bootstrap) if several else None
            order = list(dict.fromkeys(comparison.plain_tasks.values()))
            remarks = []
            for tasks, page in _pages(order, path):
                remarks += learning_curves(rows[rows["task"].isin(tasks)], page, tasks=tasks, efficiency=efficiency)
                efficiency = None  # on the first page
            return remarks
        if kind == "improvement":
            improvement(comparison, bootstrap, path, over=over)
            return summary.pairing(comparison, over)
        {"aggregate": aggregate, "profile": profile}[kind](comparison, bootstrap, path)
        return []


def _pages(tasks: Sequence[str], path: Path) -> list[tuple[list[str], Path]]:
    """The tasks and file of each page: the file itself if one is enough."""
    pages = [list(tasks[start : start + PANELS]) for start in range(0, len(tasks), PANELS)]
    if len(pages) == 1:
        return [(pages[0], path)]
    return [(page, path.with_name(f"{path.stem}-{n}{path.suffix}")) for n, page in enumerate(pages, start=1)]


def _plot_rounds(frame: pd.DataFrame, file: Path) -> list[Path]:
    from analysis.figures import statistics
    from analysis.rows.scores import protocol_name
    from analysis.rows.vlm_rounds import rounds

    every = rounds(frame)
    protocols = list(dict.fromkeys(each.protocol for each in every)) or [("", "", "")]
    paths = _paths(file, [protocol_name(*protocol) for protocol in protocols])
    for protocol, path in zip(protocols, paths, strict=True):
        some = [each for each in every if each.protocol == protocol]
        with writing(path.parent):
            statistics.rounds(some, path)
        warn(f"{each.title}: {remark}" for each in some for remark in each.remarks)
    return paths


def _plot_effect(frame: pd.DataFrame, file: Path) -> list[Path]:
    from analysis.figures import statistics
    from analysis.rows.scores import protocol_name
    from analysis.tables.effect import SUITES, by_place, effect, labelled, stood_in

    places = by_place([answer for answer in effect(frame) if answer.n])
    if not places:
        raise UserError(
            f"no question of the study can be answered yet: covr-bench run --suite {SUITES[0]} --budget short"
        )
    paths = _paths(
        file,
        [
            f"{protocol_name(suite, budget, setting)}_{task}{f'_{family}' if family else ''}"
            for suite, budget, setting, task, family in places
        ],
    )
    for ((_, budget, setting, task, _), some), path in zip(places.items(), paths, strict=True):
        common, found = labelled(some)
        parts = [task, f"budget {budget}{f' ({setting})' if setting else ''}", *([common] if common else [])]
        with writing(path.parent):
            statistics.differences(found, "\n".join([", ".join(parts), *stood_in(some, badges=True)]), path)
        warn(f"{answer.question}: {remark}" for answer in some for remark in answer.remarks)
        warn(stood_in(some))
    return paths


def _paths(file: Path, titles: Sequence[str]) -> list[Path]:
    """The file itself, or one per protocol beside it."""
    if len(titles) == 1:
        return [file]
    return [file.with_name(f"{file.stem}-{name}{file.suffix}") for name in file_names(titles)]
