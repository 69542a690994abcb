"""`covr-bench run`: train and evaluate agents on a suite."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import console, fail, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from covr_bench.config.request import Request
    from covr_bench.face import Preparation
    from covr_bench.launch.base import Job
    from covr_bench.run.cost.estimate import Cost

DAY_S = 86_400

Texts = list[str] | None


Suite = Annotated[str | None, typer.Option(help="Suite name or a .py file that defines SUITE.")]
Agent = Annotated[Texts, typer.Option(help="Agent name or .py file; repeatable. [the suite's line-up]")]
Task = Annotated[Texts, typer.Option(help="Task of the suite; repeatable. [the suite's own choice]")]
Variant = Annotated[Texts, typer.Option(help="Variant of the suite, such as M1 of ablation; repeatable. [all]")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2 or 0-4. [the budget's]")]
Budget = Annotated[str | None, typer.Option(help="smoke, short, paper, another of the suite's, or a .py file. [paper]")]
EnvSteps = Annotated[int | None, typer.Option(min=1, help="Length of a run in environment steps. [the budget's]")]
Settings = Annotated[
    Texts,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Setting of the agents (lr=1e-3, drqv2.lr=1e-3) or the task (env.KEY)."
    ),
]
Vlm = Annotated[
    str | None, typer.Option(help="VLM of the agents that ask one: a name, .py file, folder, hub id or openai:URL.")
]
Config = Annotated[Path | None, typer.Option(help="YAML file of these options by name; the command line overrides it.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Runs at a time. [one per core that memory allows]")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... or auto. [auto]")]
ConvKernel = Annotated[
    str | None, typer.Option(help="Convolutions on a CPU: auto, torch, or winograd, which is compiled. [auto]")
]
Launcher = Annotated[str | None, typer.Option(help="Launcher name or .py file. [local]")]
SetLauncher = Annotated[Texts, typer.Option(metavar="KEY=VALUE", help="Setting of the launcher; repeatable.")]
Track = Annotated[Texts, typer.Option(help="Tracker name or .py file; repeatable. [none]")]
SetTrack = Annotated[Texts, typer.Option(metavar="NAME.KEY=VALUE", help="Setting of a tracker; repeatable.")]
CheckpointEvery = Annotated[float | None, typer.Option(help="Seconds between checkpoints. [300]")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew what is unfinished or was made with other code.")]
AcceptChangedCode = Annotated[
    bool, typer.Option("--accept-changed-code", help="Go on with other code; the rows will say so.")
]
Paper = Annotated[
    str | None, typer.Option(help="Make the runs of a paper's table, one after the other: vlm, three VLMs that drive.")
]
AllowSilentVlm = Annotated[
    bool, typer.Option("--allow-silent-vlm", help="Keep runs whose VLM never answered; the rows will say so.")
]
OutFolder = Annotated[Path | None, typer.Option(help="Folder of the results. [results]")]
CarlaHost = Annotated[str, typer.Option(help="CARLA server to use; short for --set env.host=HOST.")]
CarlaPort = Annotated[int | None, typer.Option(help="Port of the CARLA server. [2000]")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before a plan of more than a day.")]


def run_command(
    suite: Suite = None,
    agent: Agent = None,
    task: Task = None,
    variant: Variant = None,
    seeds: Seeds = None,
    budget: Budget = None,
    env_steps: EnvSteps = None,
    set_: Settings = None,
    vlm: Vlm = None,
    config: Config = None,
    workers: Workers = None,
    device: Device = None,
    conv_kernel: ConvKernel = None,
    launcher: Launcher = None,
    set_launcher: SetLauncher = None,
    track: Track = None,
    set_track: SetTrack = None,
    checkpoint_every: CheckpointEvery = None,
    restart: Restart = False,
    accept_changed_code: AcceptChangedCode = False,
    allow_silent_vlm: AllowSilentVlm = False,
    paper: Paper = None,
    out: OutFolder = None,
    carla_host: CarlaHost = "",
    carla_port: CarlaPort = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Train and evaluate agents on a suite; the same command continues where it stopped."""
    from covr_bench.config.request import from_yaml, overlay, parse_pairs, request
    from covr_bench.launch.stopping import exit_status, heeding_signals

    given: dict[str, Any] = {
        "suite": suite,
        "agents": agent,
        "tasks": task,
        "variants": variant,
        "seeds": seeds,
        "budget": budget,
        "env_steps": env_steps,
        "settings": parse_pairs([*(set_ or ()), *_carla_server(carla_host, carla_port)]),
        "vlm": vlm,
        "workers": workers,
        "device": device,
        "conv_kernel": conv_kernel,
        "launcher": launcher,
        "launcher_settings": parse_pairs(set_launcher or (), "--set-launcher"),
        "trackers": track,
        "tracker_settings": parse_pairs(set_track or (), "--set-track"),
        "checkpoint_every": checkpoint_every,
        "restart": restart,
        "accept_changed_code": accept_changed_code,
        "allow_silent_vlm": allow_silent_vlm,
        "out": out,
    }
    values = overlay(from_yaml(config) if config else {}, given)
    origin = f"{config} and the command line" if config else "the command line"
    asked = [request(overlay(values, part), origin) for part in (paper_requests(paper) if paper else [{}])]
    try:
        with heeding_signals():
            code = max(run_suite(each, console(), dry_run=dry_run, yes=yes) for each in asked)
    except KeyboardInterrupt as stop:  # typer would end here without a word
        fail("stopped; the same command goes on from here", exit_status(stop))
    raise typer.Exit(code)


def paper_requests(table: str) -> list[dict[str, Any]]:
    """What to ask for to make the runs that a paper's table compares, one request a VLM. Raises UserError."""
    from analysis.papers.published import PAPERS, published
    from covr_bench.kit.errors import UserError, unknown

    if table not in PAPERS:
        raise unknown("paper table", table, PAPERS)
    requests: list[dict[str, Any]] = []
    for number in published(table):
        parts = [*number.variants[-1].split(","), *number.labels.split(",")]
        settings = dict(part.split("=", 1) for part in parts if "=" in part)
        if vlm := settings.pop("vlm", ""):
            chosen: dict[str, Any] = {
                "suite": number.suites[0],
                "agents": [number.agent],
                "tasks": [number.task],
                "vlm": vlm,
            }
            chosen |= {"settings": settings}
            requests += [chosen] if chosen not in requests else []
    if not requests:
        raise UserError(f"the runs of the paper table {table!r} compare no VLMs: only `--paper vlm` is one command")
    return requests


def _carla_server(host: str, port: int | None) -> list[str]:
    """The settings of the driving tasks that name a server."""
    named = [f"env.host={host or '127.0.0.1'}"] if host or port else []
    return named + ([f"env.port={port}"] if port else [])


def run_suite(request: Request, console: Console, *, dry_run: bool = False, yes: bool = False) -> int:
    """Plan, ask, launch, report. Returns the exit code: 0, or 1 if a run failed. Raises UserError."""
    from covr_bench.cli.progress import Progress
    from covr_bench.cli.show import report
    from covr_bench.face import execute, prepare
    from covr_bench.launch.base import State

    say(console, f"planning {request.suite} ...")
    preparation = prepare(request)
    seconds = _show_plan(preparation, console)
    if dry_run or (seconds > DAY_S and not yes and sys.stdin.isatty() and not _confirmed(seconds, console)):
        return 0
    jobs: list[Job] = []
    if preparation.plan.todo:
        with Progress(console) as progress:
            jobs = execute(preparation, progress.watch, lambda text: say(console, text))
    report([each.config for each in preparation.plan.runs], preparation.experiment, console)
    return _say_unfinished(
        [job for job in jobs if job.state is not State.FINISHED], len(preparation.plan.runs), console
    )


def _say_unfinished(jobs: Sequence[Job], runs: int, console: Console) -> int:
    if not jobs:
        return 0
    console.print(f"[bold]{len(jobs)} of {runs} runs did not finish:[/bold]")
    for job in jobs:
        say(console, f"  {job.config.run_id} {job.state}: {job.error.strip().splitlines()[-1]}")
    say(console, "The same command tries them again; `covr-bench show RUN` tells more.")
    return 1


def _confirmed(seconds: float, console: Console) -> bool:
    question = f"This will take about {seconds / DAY_S:.1f} days. Start? (y/N) "
    return console.input(question, markup=False).strip().lower() in ("y", "yes")


def _show_plan(preparation: Preparation, console: Console) -> float:
    """Print what will run and what it costs; returns the estimated seconds."""
    experiment, plan = preparation.experiment, preparation.plan
    budget, count, out = experiment.budget, len(plan.runs), experiment.request.out
    runs = f"{count} run{'s' if count > 1 else ''} of {budget.env_steps:,} env steps"
    say(console, f"plan: {runs} ({experiment.suite.name}@{budget.name}): {plan.describe()}")
    for remark in plan.remarks():
        say(console, f"note: {remark}")
    if "gl_backend" in preparation.facts:
        say(console, f"rendering: {preparation.facts['gl_backend']} ({preparation.facts['gl_renderer']})")
    if not plan.todo:
        say(console, f"nothing to do: every run is in {out}")
        return 0.0
    for line in vlm_costs(config.agent_config | {"": config.device} for config in plan.todo):
        say(console, line)
    return _show_cost(preparation, console)


def vlm_costs(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each VLM among the runs' settings asks of this machine; under the empty name, where the run is."""
    from covr.vlm.cost import statement

    asked: dict[tuple[str, str, str, int], None] = {}
    for each in settings:
        if each.get("prior", "vlm") == "vlm" and (name := each.get("vlm")):
            samples = each.get("finetune_min_steps", 0) * each.get("finetune_batch_size", 0)
            asked[name, each.get("vlm_dtype", "auto"), each.get("vlm_device") or each[""], samples] = None
    return [line for each in asked if (line := statement(*each))]


def _show_cost(preparation: Preparation, console: Console) -> float:
    from covr_bench.run.cores import cores

    todo, workers, suite = preparation.plan.todo, preparation.workers, preparation.experiment.suite
    out = Path(preparation.experiment.request.out)
    each = _costs(preparation, console)
    times = [
        cost.seconds(config, suite.task(config.task).max_episode_steps) for cost, config in zip(each, todo, strict=True)
    ]
    seconds = max(sum(times) / workers, max(times))
    running = sorted((cost.running_bytes(config) for cost, config in zip(each, todo, strict=True)), reverse=True)
    disk = sum(running[:workers]) + sum(cost.agent_bytes for cost in each)
    free = shutil.disk_usage(_existing(out)).free
    threads = f"{todo[0].threads} torch thread{'s' if todo[0].threads > 1 else ''}"
    say(console, f"time: about {_span(seconds)}, {workers} at a time, {threads} each on {todo[0].device}")
    if not preparation.experiment.request.workers and (limit := cores().reason(len(todo))):
        say(console, f"note: {limit}")
    if todo[0].device == "cpu":
        say(console, f"convolutions: {preparation.kernel.kernel}. {preparation.kernel.reason}")
    say(console, f"disk: up to {disk / 1e9:.1f} GB while they run, {free / 1e9:.0f} GB free")
    if disk > free:
        console.print("[bold]that is not enough disk: free some, or give another --out[/bold]", soft_wrap=True)
    return seconds


def _costs(preparation: Preparation, console: Console) -> list[Cost]:
    """The cost of each run to do. What is measured for it is shown; in one line where the output is no terminal."""
    from covr_bench.run.cost.estimate import costs

    shown: list[str] = []
    with console.status("looking up what each step costs ...") as status:

        def progress(text: str) -> None:
            status.update(text)
            if not shown:
                say(console, text)
            shown.append(text)

        return costs(preparation.plan.todo, preparation.facts, progress, lambda text: say(console, f"note: {text}"))


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 100:
        return f"{max(minutes, 1):.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{seconds / DAY_S:.1f} days"
