"""What `covr-bench run` does: rooms joined together, nothing of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import Out, console, fail, say
from covr_bench.cli.show import report
from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig, parse_overrides
from covr_bench.kit.errors import UserError
from covr_bench.run.plan import Planned, configure, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from covr_bench.kit.api import AgentSpec
    from suites.base import Budget, Suite

DAY_S = 86_400
RUN_MEMORY = 3 << 30  # bytes of RAM a worker may need on a 100k-step run


class ConvKernel(str, Enum):
    torch = "torch"
    winograd = "winograd"


def run_command(
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
        code = run_suite(options, console())
    except KeyboardInterrupt:  # typer would end here without a word
        fail("stopped; the same command goes on from here", 130)
    raise typer.Exit(code)


def _carla_server(host: str, port: int | None) -> list[str]:
    """The settings of the driving tasks that name a server."""
    named = [f"env.host={host or '127.0.0.1'}"] if host or port else []
    return named + ([f"env.port={port}"] if port else [])


@dataclass(frozen=True)
class RunOptions:
    """The command line of `covr-bench run`; empty and None mean the suite's or budget's own choice."""

    suite: str
    agents: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    seeds: str = ""
    budget: str = "paper"
    env_steps: int | None = None
    workers: int | None = None
    device: str = "auto"
    vlm: str = ""
    conv_kernel: str = "torch"
    out: str = "results"
    overrides: tuple[str, ...] = ()
    dry_run: bool = False
    yes: bool = False


def run_suite(options: RunOptions, console: Console) -> int:
    """Plan, ask, launch, report. Returns the exit code: 0, or 1 if a run failed. Raises UserError."""
    suite = registry.suite(_absolute(options.suite))
    budget = _budget(suite, options)
    agents = {ref: registry.agent(ref) for ref in map(_absolute, options.agents or suite.agents)}
    overrides = parse_overrides(options.overrides) | _vlm(options.vlm, agents)
    configs = configure(
        suite,
        _absolute(options.suite),
        agents,
        budget,
        tasks=options.tasks,
        seeds=parse_seeds(options.seeds),
        variants=options.variants,
        overrides=overrides,
        device=device(options.device),
        out=options.out,
    )
    planned = plan(configs)
    _check_kernel(options.conv_kernel)
    todo = [item.config for item in planned if item.state != "done"]
    facts = _rendering(any(suite.task(config.task).needs_gl for config in todo), console)
    workers = min(options.workers or _default_workers(), max(len(todo), 1))
    threads = 1 if workers > 1 else _cores()
    todo = [replace(config, threads=threads, conv_kernel=options.conv_kernel) for config in todo]
    seconds = _show_plan(planned, todo, workers, suite, budget, facts, console)
    if options.dry_run:
        return 0
    if seconds > DAY_S and not options.yes and sys.stdin.isatty() and not _confirmed(seconds, console):
        return 0
    unfinished = _launch(todo, workers, facts, console) if todo else []
    report(configs, suite, budget, console)
    if unfinished:
        console.print(f"[bold]{len(unfinished)} of {len(configs)} runs did not finish:[/bold]")
        for job in unfinished:
            say(console, f"  {job.config.run_id} {job.state}: {job.error.strip().splitlines()[-1]}")
        say(console, "The same command tries them again; `covr-bench show RUN` tells more.")
    return 1 if unfinished else 0


def _confirmed(seconds: float, console: Console) -> bool:
    question = f"This will take about {seconds / DAY_S:.1f} days. Start? (y/N) "
    return console.input(question, markup=False).strip().lower() in ("y", "yes")


def parse_seeds(text: str) -> list[int]:
    """`"0,1,2"` or `"0-4"` or both. Raises UserError."""
    seeds: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, dash, last = part.partition("-")
            seeds += range(int(first), int(last) + 1) if dash else [int(part)]
    except ValueError:
        raise UserError(f"--seeds takes numbers and ranges such as 0,1,2 or 0-4, got {text!r}") from None
    if len(set(seeds)) < len(seeds) or (text and not seeds):
        raise UserError(f"--seeds names {'no seed' if not seeds else 'a seed twice'}: {text!r}")
    return seeds


def _budget(suite: Suite, options: RunOptions) -> Budget:
    budget = registry.budget(suite, _absolute(options.budget))
    if options.env_steps is None:
        return budget
    every = min(budget.eval_every, options.env_steps)
    return replace(budget, name=f"{budget.name}-{options.env_steps}", env_steps=options.env_steps, eval_every=every)


def _vlm(name: str, agents: Mapping[str, AgentSpec]) -> dict[str, str]:
    """The `--vlm` option as a setting. Raises UserError if none of the agents asks a VLM."""
    if not name:
        return {}
    if not any(spec.needs_vlm for spec in agents.values()):
        raise UserError(f"--vlm {name}: none of the agents {', '.join(agents)} asks a VLM; add --agent covr")
    return {"vlm": str(Path(name).resolve()) if Path(name).is_dir() else name}


def _absolute(ref: str) -> str:
    """Files by their whole path: workers and later commands may start elsewhere."""
    return str(Path(ref).expanduser().resolve()) if ref.endswith(".py") else ref


def device(name: str) -> str:
    """A torch device by name, `auto` for a GPU if there is one. Raises UserError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UserError(f"unknown device {name!r}. Valid: auto, cpu, cuda, cuda:0, ...") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} needs an NVIDIA GPU and a CUDA build of torch; this torch sees none")
    return name


def _check_kernel(name: str) -> None:
    """Compile the kernel once, before any worker needs it. Raises UserError."""
    if name == "winograd":
        from covr_bench.kit.winograd import build

        build()


def _cores() -> int:
    """Cores this process may use; OMP_NUM_THREADS, where set, is obeyed."""
    if (limit := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(limit))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_workers() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_cores(), memory // RUN_MEMORY))


def _rendering(needed: bool, console: Console) -> dict[str, Any]:
    """Choose the OpenGL backend for this process's children; what was chosen goes into each run's provenance."""
    if not needed:
        return {}
    from covr_bench.policies.load import backend

    chosen = backend()
    say(console, f"rendering: {chosen['gl_backend']} ({chosen['gl_renderer']})")
    return chosen


def _show_plan(
    planned: Sequence[Planned],
    todo: Sequence[RunConfig],
    workers: int,
    suite: Suite,
    budget: Budget,
    facts: Mapping[str, Any],
    console: Console,
) -> float:
    """Print what will run and what it costs; returns the estimated seconds."""
    states = [item.state for item in planned]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    runs = f"{len(planned)} run{'s' if len(planned) > 1 else ''} of {budget.env_steps:,} env steps"
    say(console, f"plan: {runs} ({suite.name}@{budget.name}): {counts}")
    if not todo:
        say(console, f"nothing to do: every run is in {planned[0].config.out}")
        return 0.0
    from covr_bench.run.cost import costs

    with console.status("trying the first steps of each task ..."):
        each = costs(todo, Path(todo[0].out) / "cache" / "calibration.json", _machine(facts))
    times = [
        cost.seconds(config, suite.task(config.task).max_episode_steps) for cost, config in zip(each, todo, strict=True)
    ]
    seconds = max(sum(times) / workers, max(times))
    running = sorted((cost.running_bytes(config) for cost, config in zip(each, todo, strict=True)), reverse=True)
    disk = sum(running[:workers]) + sum(cost.agent_bytes for cost in each)
    free = shutil.disk_usage(_existing(Path(todo[0].out))).free
    threads = f"{todo[0].threads} torch thread{'s' if todo[0].threads > 1 else ''}"
    say(console, f"time: about {_span(seconds)}, {workers} at a time, {threads} each on {todo[0].device}")
    say(console, f"disk: up to {disk / 1e9:.1f} GB while they run, {free / 1e9:.0f} GB free")
    if disk > free:
        console.print("[bold]that is not enough disk: free some, or give another --out[/bold]", soft_wrap=True)
    return seconds


def _machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    from results.provenance import collect

    return {name: value for name, value in collect().items() if name not in ("git_sha", "git_dirty")} | dict(facts)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 100:
        return f"{max(minutes, 1):.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{seconds / DAY_S:.1f} days"


def _launch(todo: Sequence[RunConfig], workers: int, facts: dict[str, Any], console: Console) -> list[Any]:
    """Run everything; returns the jobs that did not finish."""
    from covr_bench.cli.progress import Progress
    from covr_bench.launch.local import launch

    command = shlex.join(["covr-bench", *sys.argv[1:]])
    with Progress(console) as progress:
        jobs = launch(todo, workers, command, facts, progress.watch)
    return [job for job in jobs if job.state != "finished"]
