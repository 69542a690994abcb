"""The door: `covr-bench`. The only module that knows all rooms; each verb imports what it needs when it runs."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from covr_bench.cli.carla import carla_app
from covr_bench.cli.vlm import vlm_app

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
OfTask = Annotated[str, typer.Option(metavar="SUITE/TASK", help="[the run's own]")]
StartSeed = Annotated[int | None, typer.Option(min=0, help="Of the starts. [the run's own: those of its evaluations]")]
SetEnv = Annotated[
    list[str] | None, typer.Option("--set", metavar="env.KEY=VALUE", help="Setting of the task; repeatable.")
]
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
    carla_host: Annotated[str, typer.Option(help="Of a CARLA server to use; short for --set env.host=HOST.")] = "",
    carla_port: Annotated[
        int | None, typer.Option(help="Its port, of this machine if no host is given. [2000]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a plan of more than a day.")] = False,
) -> None:
    """Train and evaluate agents on a suite; the same command continues where it stopped."""
    from covr_bench.cli.run import RunOptions, run_suite

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
        overrides=(*(set_ or ()), *_carla_server(carla_host, carla_port)),
        dry_run=dry_run,
        yes=yes,
    )
    try:
        code = run_suite(options, _console())
    except KeyboardInterrupt:  # typer would end here without a word
        _fail("stopped; the same command goes on from here", 130)
    raise typer.Exit(code)


def _carla_server(host: str, port: int | None) -> list[str]:
    """The settings of the driving tasks that name a server."""
    named = [f"env.host={host or '127.0.0.1'}"] if host or port else []
    return named + ([f"env.port={port}"] if port else [])


class Listing(str, Enum):
    suites = "suites"
    agents = "agents"
    budgets = "budgets"
    tasks = "tasks"
    variants = "variants"


@app.command("list")
def list_(what: Annotated[Listing | None, typer.Argument(help="[all]")] = None) -> None:
    """What can be run: suites, agents, budgets, tasks, variants."""
    from covr_bench.cli.listing import tables

    for table in tables(what.value if what else None):
        _console().print(table)


@app.command()
def doctor() -> None:
    """Check this machine: versions, rendering, cores, GPU, disk, optional parts."""
    from covr_bench.cli.doctor import examine

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
    from covr_bench.cli.scores import Choice, print_paper, print_table

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
    from covr_bench.cli.scores import Choice, print_stats

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
    from covr_bench.cli.scores import Choice
    from covr_bench.cli.scores import plot as draw

    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps, tuple(score_range or ()))
    for path in draw(choice, kind, file, reps=reps, seed=seed, over=over):
        print(path)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Folder of results, commit, or file or folder of scores.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same; what is judged, against A.")],
    out: Annotated[Path, typer.Option("--out", help="Results in which a commit's runs are.")] = Path("results"),
    suite: OneSuite = "",
    format_: Annotated[str, typer.Option("--format", help="terminal, md, csv or json.")] = "terminal",
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score_range: ScoreRange = None,
    metric: Annotated[str, typer.Option(help="What the evaluations measured.")] = "return",
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Of the metric.")] = False,
    margin: Annotated[float, typer.Option(min=0, help="Differences that do not matter, in units of the metric.")] = 0.0,
    fail_on_worse: Annotated[
        bool, typer.Option("--fail-on-worse", help="Exit with 1 if B is worse, or failed where A did not.")
    ] = False,
    reps: Reps = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
) -> None:
    """Two folders of results or commits side by side, with a verdict per task that respects the number of seeds."""
    from covr_bench.cli.compare import Question
    from covr_bench.cli.compare import compare as judge
    from covr_bench.cli.scores import Choice

    choice = Choice(out, None, suite, tuple(task or ()), tuple(agent or ()), env_steps, tuple(score_range or ()))
    question = Question(a, b, choice, metric, margin, lower_is_better, reps, seed)
    raise typer.Exit(judge(question, format_, _console(), fail_on_worse=fail_on_worse))


@app.command()
def report(
    out: Out = Path("results"),
    suite: OneSuite = "",
    file: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Of the page.")] = "",
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score_range: ScoreRange = None,
    over: Over = "",
    reps: Reps = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    videos: Annotated[bool, typer.Option("--videos", help="Record an episode of each agent and task.")] = False,
) -> None:
    """One HTML page with everything in it: tables, curves, statistics, failures, provenance, commands."""
    from covr_bench.cli.report import ReportOptions, write_report
    from covr_bench.cli.scores import Choice

    choice = Choice(out, scores, suite, tuple(task or ()), tuple(agent or ()), env_steps, tuple(score_range or ()))
    for remark in write_report(choice, file, ReportOptions(title, reps, seed, over, videos)):
        print(f"note: {remark}", file=sys.stderr)
    print(file)


@app.command()
def show(run: Annotated[str, typer.Argument(help="A run id, as printed by run.")], out: Out = Path("results")) -> None:
    """One run: its configuration, provenance and curve."""
    from covr_bench.cli.show import show_run

    show_run(out, run, _console())


@app.command("eval")
def eval_(
    run: Annotated[list[str], typer.Argument(help="Run ids, folders of runs, or parts of ids that fit one run each.")],
    task: OfTask = "",
    episodes: Annotated[int | None, typer.Option(min=1, help="Episodes. [the run's]")] = None,
    seed: StartSeed = None,
    set_: SetEnv = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")] = "auto",
    out: Out = Path("results"),
) -> None:
    """Evaluate trained policies on another task of the same shapes, without training on it."""
    from covr_bench.cli.eval import EvalOptions, evaluate_runs

    try:
        evaluate_runs(EvalOptions(tuple(run), task, episodes, seed, tuple(set_ or ()), device, out), _console())
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on from here", 130)


@app.command()
def record(
    run: Annotated[str, typer.Argument(help="A run id, the folder of a run, or a part of an id that fits one run.")],
    task: OfTask = "",
    file: Annotated[Path, typer.Option("-o", "--output", help="MP4, WebM or GIF by its ending.")] = Path("episode.mp4"),
    episodes: Annotated[int, typer.Option(min=1, help="Episodes, one after the other.")] = 1,
    size: Annotated[int, typer.Option(help="Height of the frames, in pixels.")] = 480,
    seed: StartSeed = None,
    prior: Annotated[bool, typer.Option("--prior/--no-prior", help="Ask the run's VLM, if any, beside it.")] = True,
    set_: SetEnv = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")] = "auto",
    out: Out = Path("results"),
) -> None:
    """A video of a trained policy with its reward and action, and what the VLM would have done."""
    from covr_bench.cli.record import RecordOptions
    from covr_bench.cli.record import record as film

    overrides = tuple(set_ or ())
    film(RecordOptions(run, file, task, episodes, size, seed, prior, overrides, device, out), _console())


app.add_typer(vlm_app, name="vlm")
app.add_typer(carla_app, name="carla")


def _console() -> Any:
    from rich.console import Console

    return Console()


def main() -> None:
    """The entry point: errors meant for the user become one message and exit code 2."""
    from covr_bench.kit.errors import UserError

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
