"""`covr-bench table`: final returns, by themselves or beside a paper's. Imports neither torch nor a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.choice import Choice, check_format, frame_of, show_grids
from covr_bench.cli.options import Format, OneSuite, OnlyAgent, OnlyTask, Out, Scores, UpTo, console
from covr_bench.cli.show import settings_of
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from rich.console import Console


def table_command(
    out: Out = Path("results"),
    suite: OneSuite = "",
    format_: Format = "terminal",
    paper: Annotated[
        str, typer.Option(help="Beside the numbers of: T1 ... T5, hard, vlm, drqv2; or the VLM's rounds.")
    ] = "",
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
) -> None:
    """Final returns, mean and deviation over seeds; beside a paper's with --paper."""
    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps)
    if paper:
        print_paper(choice, paper, format_, console())
    else:
        print_table(choice, format_, console())


def print_table(choice: Choice, format_: str, console: Console) -> None:
    """`covr-bench table`. Raises UserError for an unknown format or when there is nothing."""
    from analysis import tables
    from covr_bench.config import registry

    check_format(format_)
    expected = {name: [task.name for task in suite.tasks] for name, suite in registry.suites().items()}
    expected = {} if choice.tasks else expected
    frame = frame_of(choice)
    settings = {} if choice.scores else settings_of(choice.out, frame)
    made = tables.tables(frame, tasks=expected, env_steps=choice.env_steps, settings=settings)
    rows = "tasks" if format_ == "terminal" else "agents"
    grids = [grid for table in made for grid in tables.to_grids(table, rows=rows)]
    show_grids(grids, lambda: tables.to_csv(made), format_, console)


def print_paper(choice: Choice, paper: str, format_: str, console: Console) -> None:
    """`covr-bench table --paper`. Raises UserError for an unknown paper or format."""
    from analysis.papers import tables as papers
    from analysis.papers.published import PAPERS
    from analysis.rows import vlm_rounds as rounds

    if paper not in (*PAPERS, "rounds"):
        raise unknown("paper table", paper, (*PAPERS, "rounds"))
    check_format(format_)
    frame = frame_of(choice)
    if paper == "rounds":
        made = rounds.rounds(frame)
        if not made:
            raise UserError("no rows of kind 'vlm' with a round: only agents with a VLM write them")
        show_grids([rounds.to_grid(each) for each in made], lambda: rounds.to_csv(made), format_, console)
        return
    tables = papers.paper_tables(frame, paper)
    as_grid = papers.to_long_grid if format_ == "terminal" else papers.to_grid
    show_grids([as_grid(table) for table in tables], lambda: papers.to_csv(tables), format_, console)
