"""`covr-bench table`: final returns, by themselves or beside a paper's. Imports neither torch nor a simulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.choice import Choice, check_format, expected_tasks, frame_of, score_ranges, show_grids, warn
from covr_bench.cli.options import (
    PAPERS_HELP,
    Format,
    OneSuite,
    OnlyAgent,
    OnlyTask,
    Out,
    Scores,
    UpTo,
    WhichScore,
    console,
)
from covr_bench.cli.show import variant_settings
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from rich.console import Console


def table_command(
    out: Out = Path("results"),
    suite: OneSuite = "",
    format_: Format = "terminal",
    paper: Annotated[
        list[str] | None,
        typer.Option(help=f"Beside the numbers of papers' tables: {PAPERS_HELP}; or `rounds` of the VLM, or `effect`."),
    ] = None,
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score: WhichScore = "last",
    layout: Annotated[
        str, typer.Option(help="Of --paper: paper (methods by tasks), long (a line per number), ours or delta.")
    ] = "paper",
    as_: Annotated[
        list[str] | None,
        typer.Option("--as", metavar="METHOD=AGENT", help="Of --paper: our agent beside a method; repeatable."),
    ] = None,
    siunitx: Annotated[
        bool, typer.Option("--siunitx", help="Of --format latex: numbers by the package siunitx.")
    ] = False,
) -> None:
    """Final returns, mean and deviation over seeds; beside a paper's with --paper."""
    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps, score=score)
    if paper and score != "last":
        raise UserError("--paper compares the last evaluation at the paper's number of steps: it takes no --score")
    if not paper and (as_ or layout != "paper"):
        raise UserError("--as and --layout are of --paper")
    if paper:
        shape = PaperShape(layout, named_agents(as_ or ()), siunitx)
        print_papers(choice, paper, format_, console(), shape)
    else:
        print_table(choice, format_, console(), siunitx=siunitx)


@dataclass(frozen=True)
class PaperShape:
    """How a paper's table is shown.

    Attributes:
        layout: A key of `analysis.papers.layouts.LAYOUTS`.
        named: By method of the paper, our agents that stand beside it.
        siunitx: Whether LaTeX sets numbers by siunitx.
    """

    layout: str = "paper"
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    siunitx: bool = False


def named_agents(texts: Sequence[str]) -> dict[str, list[str]]:
    """`["RAD=rad-image_size=64"]` by method. Raises UserError for anything else."""
    named: dict[str, list[str]] = {}
    for text in texts:
        method, sign, agent = text.partition("=")
        if not (method and sign and agent):
            raise UserError(f"--as takes METHOD=AGENT, such as RAD=rad-image_size=64, got {text!r}")
        named.setdefault(method, []).append(agent)
    return named


def print_table(choice: Choice, format_: str, console: Console, *, siunitx: bool = False) -> None:
    """Print the final scores. Raises UserError for an unknown format, or without rows."""
    from analysis.rows.driving import has_driving
    from analysis.rows.scores import READ
    from analysis.tables.scores import tables, to_csv, to_grids
    from covr_bench.config import registry

    check_format(format_)
    frame = frame_of(choice, columns=READ)
    if has_driving(frame):  # error rates count episodes
        frame = frame_of(choice)
    settings = {} if choice.scores else variant_settings(choice.out, frame)
    score_tables = tables(
        frame,
        tasks=expected_tasks(choice, frame),
        env_steps=choice.env_steps,
        settings=settings,
        score=choice.score,
        budgets={} if choice.scores else registry.budget_docs(),
        ranges=score_ranges(frame),
    )
    rows = "tasks" if format_ == "terminal" else "agents"
    grids = [grid for table in score_tables for grid in to_grids(table, rows=rows)]
    show_grids(grids, lambda: to_csv(score_tables), format_, console, siunitx=siunitx)


def print_papers(
    choice: Choice, papers: Sequence[str], format_: str, console: Console, shape: PaperShape | None = None
) -> None:
    """Print papers' tables beside our runs, the VLM's rounds, the study's answers.

    Raises UserError for an unknown name or format, or where a CSV would have two kinds of columns.
    """
    from analysis.papers.layouts import LAYOUTS
    from analysis.papers.published import PAPERS
    from analysis.papers.tables import several_tables, to_csv
    from analysis.rows.scores import READ, up_to
    from covr_bench.cli.paper_runs import paper_names

    names = paper_names(papers, tuple(OF_RUNS_ALONE))
    tables = [name for name in names if name in PAPERS]
    alone = [name for name in names if name in OF_RUNS_ALONE]
    check_format(format_)
    if format_ == "csv" and len(alone) + bool(tables) > 1:
        raise UserError(f"as CSV, {' and '.join(alone)} cannot stand in one file with others: ask for each by itself")
    shape = shape or PaperShape()
    if shape.layout not in LAYOUTS:
        raise unknown("layout", shape.layout, LAYOUTS)
    frame = up_to(frame_of(choice, none=bool(tables), columns=None if alone else READ), choice.env_steps)
    if tables:
        try:
            made = several_tables(frame, tables, shape.named)
        except ValueError as error:
            raise UserError(str(error)) from error
        if choice.scores and not any(line.ours for each in made for line in each.lines):
            warn([_why_none(choice.scores, frame, tables)])
        grids = [grid for grid in map(LAYOUTS[shape.layout], made) if grid.rows]
        if not grids:  # of ours alone
            raise UserError(f"no run of ours for {', '.join(tables)}: covr-bench run --paper {tables[0]} makes some")
        show_grids(grids, lambda: to_csv(made), format_, console, siunitx=shape.siunitx)
    for name in alone:
        OF_RUNS_ALONE[name](frame, format_, console)


def _why_none(scores: Path, frame: pd.DataFrame, tables: Sequence[str]) -> str:
    """Why no line of a file of scores stands in these tables, and what a line needs to."""
    from analysis.papers.published import published

    numbers = [number for table in tables for number in published(table)]
    wanted = {
        "suite": {suite for number in numbers for suite in number.suites},
        "task": {number.task for number in numbers},
        "agent": {number.agent for number in numbers if number.agent},
    }
    none = f"no line of {scores} stands in {', '.join(tables)}"
    for column, names in wanted.items():
        found = sorted(set(frame[column].astype(str)))
        if not names.intersection(found):
            choices = f"{', '.join(sorted(names))}{'; or give --as METHOD=AGENT' if column == 'agent' else ''}"
            return f"{none}: {column} is {', '.join(map(repr, found))}, and must be one of {choices}"
    return f"{none}: none has agent, task and suite, all three, of one number there"


def _print_rounds(frame: pd.DataFrame, format_: str, console: Console) -> None:
    from analysis.rows import vlm_rounds

    rounds = vlm_rounds.rounds(frame)
    if not rounds:
        raise UserError("no rows of kind 'vlm' with a round: only agents with a VLM write them")
    show_grids([vlm_rounds.to_grid(each) for each in rounds], lambda: vlm_rounds.to_csv(rounds), format_, console)


def _print_effect(frame: pd.DataFrame, format_: str, console: Console) -> None:
    from analysis.tables import effect

    answers = effect.effect(frame)
    if not answers:
        raise UserError("no runs of the suite effect: covr-bench run --suite effect --budget short makes them")
    show_grids(effect.to_grids(answers), lambda: effect.to_csv(answers), format_, console)


OF_RUNS_ALONE = {"rounds": _print_rounds, "effect": _print_effect}  # tables without a paper's numbers
