"""`covr-bench reproduce T4`: the runs of a paper's table, then the table, its figures and the report."""

from __future__ import annotations

import contextlib
import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.choice import Choice
from covr_bench.cli.options import PAPERS_HELP, Out, console, fail, say
from covr_bench.cli.run import (
    Agent,
    Budget,
    Device,
    DryRun,
    EnvSteps,
    Seeds,
    Settings,
    Task,
    Vlm,
    Workers,
    Yes,
    run_papers,
)
from covr_bench.cli.table import PaperShape, print_papers
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

FORMATS = {"md": "md", "latex": "tex", "csv": "csv", "html": "html"}  # endings of the table's files
REPS = 10_000  # bootstrap replicates of the report: its intervals move by less than they show


def reproduce_command(
    papers: Annotated[list[str], typer.Argument(metavar="TABLE...", help=f"{PAPERS_HELP}; or rounds.")],
    agent: Agent = None,
    task: Task = None,
    budget: Budget = None,
    seeds: Seeds = None,
    env_steps: EnvSteps = None,
    set_: Settings = None,
    vlm: Vlm = None,
    workers: Workers = None,
    device: Device = None,
    out: Out = Path("results"),
    as_: Annotated[
        list[str] | None, typer.Option("--as", metavar="METHOD=AGENT", help="Our agent beside a method; repeatable.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Run what a paper's table needs and is not stored yet; then write the table, its figures and the report."""
    from covr_bench.cli.table import named_agents
    from covr_bench.config.request import overlay, parse_pairs
    from covr_bench.launch.stopping import exit_status, heeding_signals

    given: dict[str, Any] = {"budget": budget, "seeds": seeds, "env_steps": env_steps, "vlm": vlm, "workers": workers}
    given |= {"device": device, "out": out, "settings": parse_pairs(set_ or ())}
    given |= {"agents": agent, "tasks": task}
    shape = PaperShape(named=named_agents(as_ or ()))
    printed, problem = console(), None
    try:
        with heeding_signals():
            code = run_papers(papers, overlay({}, given), "the command line", printed, dry_run=dry_run, yes=yes)
    except KeyboardInterrupt as stop:
        fail("stopped; the same command goes on from here", exit_status(stop))
    except UserError as error:  # of some suites; what the others have is written all the same
        if dry_run:
            raise
        code, problem = 2, error
    if not dry_run:
        write_all(papers, out, shape, printed)
    if problem:
        raise problem
    raise typer.Exit(code)


def write_all(papers: Sequence[str], out: Path, shape: PaperShape, console: Console) -> list[Path]:
    """Write tables in every format, their figures and the report to `<out>/reports/TABLE`; returns the files.

    What cannot be made yet, for want of runs, is said. Raises UserError if the folder cannot be written.
    """
    from covr_bench.cli.paper_runs import paper_names
    from covr_bench.cli.plot import plot, plot_papers
    from covr_bench.cli.report import ReportOptions, write_report
    from covr_bench.cli.show import writing
    from results.files import write_bytes

    asked, names = ",".join(papers).replace(",", "-"), paper_names(papers)
    choice, folder, files = Choice(out), out / "reports" / asked, list[Path]()
    draw = partial(plot, reps=REPS, seed=0, over="")
    for format_, ending in FORMATS.items():
        with _said(console), writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            text = io.StringIO()
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
                print_papers(choice, names, format_, console, shape)
            write_bytes(folder / f"{asked}.{ending}", text.getvalue().encode())
            files.append(folder / f"{asked}.{ending}")
    with _said(console):
        for path in plot_papers(choice, names, folder / "table.pdf", shape.named, draw):
            files.append(path)
    with _said(console):
        files += draw(choice, "curves", folder / "curves.pdf")
    with _said(console):
        report = folder / "report.html"
        for remark in write_report(choice, report, ReportOptions(f"{', '.join(names)}, from {out}", REPS)):
            print(f"note: {remark}", file=sys.stderr)
        files.append(report)
    for file in files:
        say(console, f"wrote {file}")
    return files


@contextlib.contextmanager
def _said(console: Console) -> Iterator[None]:
    """Say what cannot be made, and go on with the rest."""
    try:
        yield
    except UserError as error:
        say(console, f"note: {error}")
