"""The door: `covr-bench`. The only module that knows all rooms; each verb imports what it needs when it runs."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmark visual RL agents, with and without a vision-language model in the loop.",
)

Out = Annotated[Path, typer.Option("--out", help="Folder of the results.")]


class ConvKernel(str, Enum):
    torch = "torch"
    winograd = "winograd"


@app.command()
def run(
    suite: Annotated[str, typer.Option(help="Suite name or a .py file that defines SUITE.")],
    agent: Annotated[
        list[str] | None, typer.Option(help="Agent name or .py file; repeatable. [the suite's line-up]")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task of the suite; repeatable. [all]")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2 or 0-4. [the budget's]")] = "",
    budget: Annotated[str, typer.Option(help="smoke, short, paper, another of the suite's, or a .py file.")] = "paper",
    env_steps: Annotated[int | None, typer.Option(min=1, help="Length, instead of the budget's.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. [one per core that memory allows]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")] = "auto",
    conv_kernel: Annotated[ConvKernel, typer.Option(help="Compiled CPU kernel for convolutions.")] = ConvKernel.torch,
    out: Out = Path("results"),
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Setting of the agents (lr=1e-3, drqv2.lr=1e-3) or the task (env.KEY)."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a plan of more than a day.")] = False,
) -> None:
    """Train and evaluate agents on a suite; the same command continues where it stopped."""
    from covr_bench.commands import RunOptions, run_suite

    options = RunOptions(
        suite=suite,
        agents=tuple(agent or ()),
        tasks=tuple(task or ()),
        seeds=seeds,
        budget=budget,
        env_steps=env_steps,
        workers=workers,
        device=device,
        conv_kernel=conv_kernel.value,
        out=str(out),
        overrides=tuple(set_ or ()),
        dry_run=dry_run,
        yes=yes,
    )
    try:
        code = run_suite(options, _console())
    except KeyboardInterrupt:  # typer would end here without a word
        _fail("stopped; the same command goes on from here", 130)
    raise typer.Exit(code)


class Listing(str, Enum):
    suites = "suites"
    agents = "agents"
    budgets = "budgets"
    tasks = "tasks"


@app.command("list")
def list_(what: Annotated[Listing | None, typer.Argument(help="[all four]")] = None) -> None:
    """What can be run: suites, agents, budgets, tasks."""
    from covr_bench.listing import tables

    for table in tables(what.value if what else None):
        _console().print(table)


@app.command()
def doctor() -> None:
    """Check this machine: versions, rendering, cores, GPU, disk, optional parts."""
    from covr_bench.doctor import examine

    raise typer.Exit(examine(_console()))


@app.command()
def table(
    out: Out = Path("results"),
    suite: Annotated[str, typer.Option(help="Only this suite.")] = "",
    format_: Annotated[str, typer.Option("--format", help="terminal, md or csv.")] = "terminal",
) -> None:
    """Final returns of the stored runs, mean and deviation over seeds."""
    from covr_bench.reading import print_table

    print_table(out, suite, format_, _console())


@app.command()
def plot(
    out: Out = Path("results"),
    suite: Annotated[str, typer.Option(help="Only this suite.")] = "",
    file: Annotated[Path, typer.Option("-o", "--output", help="PNG, PDF or SVG by its ending.")] = Path("curves.png"),
) -> None:
    """Learning curves of the stored runs."""
    from covr_bench.reading import plot_curves

    for path in plot_curves(out, suite, file):
        _console().print(f"{path}", highlight=False)


@app.command()
def show(run: Annotated[str, typer.Argument(help="A run id, as printed by run.")], out: Out = Path("results")) -> None:
    """One run: its configuration, provenance and curve."""
    from covr_bench.reading import show_run

    show_run(out, run, _console())


def _console() -> Any:
    from rich.console import Console

    return Console()


def main() -> None:
    """The entry point: errors meant for the user become one message and exit code 2."""
    from covr_bench.errors import UserError

    try:
        app()
    except UserError as error:
        _fail(str(error), 2)
    except Exception as error:
        from results.layout import StoreError

        if not isinstance(error, StoreError):
            raise
        _fail(str(error), 2)


def _fail(message: str, code: int) -> NoReturn:
    print(f"covr-bench: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
