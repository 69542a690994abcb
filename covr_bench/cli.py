"""The door: `covr-bench`. The only module that knows all rooms; each verb imports what it needs when it runs."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from covr_bench.carla_commands import carla_app
from covr_bench.vlm_commands import vlm_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmark visual RL agents, with and without a vision-language model in the loop.",
)

Out = Annotated[Path, typer.Option("--out", help="Folder of the results.")]
OneSuite = Annotated[str, typer.Option("--suite", help="Only this suite.")]
Format = Annotated[str, typer.Option("--format", help="terminal, md, csv or latex.")]
Scores = Annotated[
    Path | None, typer.Option(help="Instead of the results: CSV or JSONL of agent, task, seed, env_steps, return.")
]
OnlyTask = Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")]
OnlyAgent = Annotated[list[str] | None, typer.Option(help="Only this agent; repeatable.")]
UpTo = Annotated[int | None, typer.Option(min=0, help="Score the last evaluation at or before this step.")]
ScoreRange = Annotated[
    list[str] | None,
    typer.Option(metavar="[TASK=]LOW,HIGH", help="Returns that count as 0 and 1, instead of the suite's; repeatable."),
]
Over = Annotated[str, typer.Option(help="Probability of improvement over this agent only.")]
Reps = Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")]


class ConvKernel(str, Enum):
    torch = "torch"
    winograd = "winograd"


@app.command()
def run(
    suite: Annotated[str, typer.Option(help="Suite name or a .py file that defines SUITE.")],
    agent: Annotated[
        list[str] | None, typer.Option(help="Agent name or .py file; repeatable. [the suite's line-up]")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Task of the suite; repeatable. [the suite's own choice]")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Variant of the suite, such as M1 of ablation; repeatable. [all]")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2 or 0-4. [the budget's]")] = "",
    budget: Annotated[str, typer.Option(help="smoke, short, paper, another of the suite's, or a .py file.")] = "paper",
    env_steps: Annotated[int | None, typer.Option(min=1, help="Length, instead of the budget's.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. [one per core that memory allows]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")] = "auto",
    vlm: Annotated[
        str, typer.Option(help="VLM of the agents that ask one: tiny, a folder, a hub id, openai:URL. [tiny]")
    ] = "",
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
        variants=tuple(variant or ()),
        seeds=seeds,
        budget=budget,
        env_steps=env_steps,
        workers=workers,
        device=device,
        vlm=vlm,
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
    variants = "variants"


@app.command("list")
def list_(what: Annotated[Listing | None, typer.Argument(help="[all]")] = None) -> None:
    """What can be run: suites, agents, budgets, tasks, variants."""
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
    from covr_bench.scoring import Choice, print_paper, print_table

    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps)
    if paper:
        print_paper(choice, paper, format_, _console())
    else:
        print_table(choice, format_, _console())


@app.command()
def stats(
    out: Out = Path("results"),
    suite: OneSuite = "",
    format_: Format = "terminal",
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score_range: ScoreRange = None,
    over: Over = "",
    reps: Reps = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    marl_eval: Annotated[Path | None, typer.Option(help="Also write the returns as marl-eval's JSON.")] = None,
) -> None:
    """IQM, median, mean and optimality gap with intervals, probability of improvement, profiles, sample efficiency."""
    from covr_bench.scoring import Choice, print_stats

    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps, tuple(score_range or ()))
    print_stats(choice, format_, _console(), reps=reps, seed=seed, over=over, marl_eval=marl_eval)


@app.command()
def plot(
    out: Out = Path("results"),
    suite: OneSuite = "",
    kind: Annotated[str, typer.Option(help="curves, aggregate, profile, improvement or rounds.")] = "curves",
    file: Annotated[
        Path | None, typer.Option("-o", "--output", help="PNG, PDF or SVG by its ending. [KIND.png]")
    ] = None,
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score_range: ScoreRange = None,
    over: Over = "",
    reps: Reps = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Figures: learning curves, aggregate scores, profiles, probability of improvement, the VLM by round."""
    from covr_bench.scoring import Choice
    from covr_bench.scoring import plot as draw

    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps, tuple(score_range or ()))
    for path in draw(choice, kind, file, reps=reps, seed=seed, over=over):
        print(path)


@app.command()
def show(run: Annotated[str, typer.Argument(help="A run id, as printed by run.")], out: Out = Path("results")) -> None:
    """One run: its configuration, provenance and curve."""
    from covr_bench.reading import show_run

    show_run(out, run, _console())


app.add_typer(vlm_app, name="vlm")
app.add_typer(carla_app, name="carla")


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
