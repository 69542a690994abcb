"""`covr-bench run`: train and evaluate agents on a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import PAPERS_HELP, console, fail, path_option, say
from covr_bench.cli.plan_cost import DAY_S, check_vlms_fit, show_cost, vlm_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from covr_bench.config.request import Request
    from covr_bench.face import Preparation
    from covr_bench.launch.base import Job
    from covr_bench.run.plan import Plan

Texts = list[str] | None


Suite = Annotated[str | None, typer.Option(help="Suite name or a .py file that defines SUITE.")]
Agent = Annotated[Texts, typer.Option(help="Agent name or .py file; repeatable. [the suite's line-up]")]
Task = Annotated[Texts, typer.Option(help="Task of the suite; repeatable. [the suite's own choice]")]
Variant = Annotated[
    Texts,
    typer.Option(
        help="Variant of the suite, such as M1 of ablation, or - for the agent as published; repeatable. [all]"
    ),
]
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
Config = Annotated[Path | None, path_option(help="YAML file of these options by name; the command line overrides it.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Runs at a time. [one per core that memory allows]")]
PerGpu = Annotated[int | None, typer.Option(min=1, help="Runs at a time on each GPU, on all GPUs. [one GPU for all]")]
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
AllowSilentVlm = Annotated[
    bool, typer.Option("--allow-silent-vlm", help="Keep runs whose VLM never answered; the rows will say so.")
]
OutFolder = Annotated[Path | None, path_option(help="Folder of the results. [results]")]
CarlaHost = Annotated[str, typer.Option(help="CARLA server to use; short for --set env.host=HOST.")]
CarlaPort = Annotated[int | None, typer.Option(help="Port of the CARLA server. [2000]")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")]
Paper = Annotated[
    Texts,
    typer.Option("--paper", help=f"Exactly the runs of papers' tables: {PAPERS_HELP}, rounds."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before a plan of more than a day.")]


def run_command(
    suite: Suite = None,
    paper: Paper = None,
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
    per_gpu: PerGpu = None,
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
    out: OutFolder = None,
    carla_host: CarlaHost = "",
    carla_port: CarlaPort = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Train and evaluate agents on a suite; the same command continues where it stopped."""
    from covr_bench.config.request import from_yaml, overlay, parse_pairs

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
        "per_gpu": per_gpu,
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
    raise typer.Exit(_run(paper or (), values, origin, dry_run=dry_run, yes=yes))


def _carla_server(host: str, port: int | None) -> list[str]:
    """The settings of the driving tasks that name a server."""
    named = [f"env.host={host or '127.0.0.1'}"] if host or port else []
    return named + ([f"env.port={port}"] if port else [])


def _run(papers: Sequence[str], values: dict[str, Any], origin: str, *, dry_run: bool, yes: bool) -> int:
    from covr_bench.config.request import request
    from covr_bench.launch.stopping import exit_status, heeding_signals

    try:
        with heeding_signals():
            if papers:
                return run_papers(papers, values, origin, console(), dry_run=dry_run, yes=yes)
            return run_suite(request(values, origin), console(), dry_run=dry_run, yes=yes)
    except KeyboardInterrupt as stop:  # typer would end here without a word
        fail("stopped; the same command goes on from here", exit_status(stop))


def run_papers(
    papers: Sequence[str], values: dict[str, Any], origin: str, console: Console, *, dry_run: bool, yes: bool
) -> int:
    """Run what some papers' tables need, one suite after another. Returns the exit code: 1 if a run failed.

    Raises UserError, after the others, for suites that cannot be run here.
    """
    from covr_bench.cli.paper_runs import paper_runs
    from covr_bench.kit.errors import UserError

    found = paper_runs(papers, values, origin)
    for note in found.notes:
        say(console, f"note: {note}")
    codes = [_code(each, console, dry_run=dry_run, yes=yes) for each in found.requests]
    if None in codes:
        raise UserError(f"{codes.count(None)} of {len(codes)} plans cannot be run here, for the reasons above")
    return max(code for code in codes if code is not None)


def _code(request: Request, console: Console, *, dry_run: bool, yes: bool) -> int | None:
    """The exit code of a plan. None if it cannot be run: why is said, so that the plans after it go on."""
    from covr_bench.kit.errors import UserError

    try:
        return run_suite(request, console, dry_run=dry_run, yes=yes)
    except UserError as error:
        say(console, f"this plan cannot be run here: {error}")
        return None


def run_suite(request: Request, console: Console, *, dry_run: bool = False, yes: bool = False) -> int:
    """Plan, ask, launch, report. Returns the exit code: 0, or 1 if a run failed. Raises UserError."""
    from covr_bench.cli.progress import Progress
    from covr_bench.cli.show import report
    from covr_bench.face import execute, prepare
    from covr_bench.kit.errors import UserError
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
    unfinished = [job for job in jobs if job.state not in (State.FINISHED, State.SUBMITTED)]
    try:
        report([each.config for each in preparation.plan.runs], preparation.experiment, console)
    except UserError as error:
        if not unfinished:
            raise
        say(console, f"no report: {error}")  # of a full disk the runs tell too
    return _say_unfinished(unfinished, preparation.plan, console)


def _say_unfinished(jobs: Sequence[Job], plan: Plan, console: Console) -> int:
    left_out = plan.left_out
    if not jobs and not left_out:
        return 0
    console.print(f"[bold]{len(jobs) + len(left_out)} of {len(plan.runs)} runs did not finish:[/bold]")
    for run_id, problem in left_out.items():
        say(console, f"  {run_id} left out: {problem}")
    for job in jobs:
        say(console, f"  {job.config.run_id} {job.state}: {job.last_words}")
    say(console, "The same command tries them again; `covr-bench show RUN` tells more.")
    return 1


def _confirmed(seconds: float, console: Console) -> bool:
    question = f"This will take about {seconds / DAY_S:.1f} days. Start? (y/N) "
    return console.input(question, markup=False).strip().lower() in ("y", "yes")


def _show_plan(preparation: Preparation, console: Console) -> float:
    """Print what will run and what it costs; returns the estimated seconds."""
    from covr_bench.launch.base import HasNodes
    from covr_bench.run.machine import sees
    from covr_bench.run.twins import twins

    experiment, plan = preparation.experiment, preparation.plan
    budget, count, out = experiment.budget, len(plan.runs), experiment.request.out
    runs = f"{count} run{'s' if count > 1 else ''} of {budget.env_steps:,} env steps"
    say(console, f"plan: {runs} ({experiment.suite.name}@{budget.name}): {plan.describe()}")
    for remark in (*plan.remarks(), *twins(plan.todo)):
        say(console, f"note: {remark}")
    if "gl_backend" in preparation.facts:
        say(console, f"rendering: {preparation.facts['gl_backend']} ({preparation.facts['gl_renderer']})")
    for remark in preparation.placement.remarks if preparation.placement else ():
        say(console, remark)
    if not plan.todo:
        say(console, f"nothing to do: every {'other ' if plan.left_out else ''}run is in {out}")
        return 0.0
    settings = [config.agent_config | {"": config.device} for config in plan.todo]
    for line in vlm_costs(settings):
        say(console, line)
    if not isinstance(preparation.launcher, HasNodes):
        check_vlms_fit(settings)
    if not sees(plan.todo[0].device):
        say(console, "time: not known, since there is no GPU here to measure on")
        return 0.0
    return show_cost(preparation, console)
