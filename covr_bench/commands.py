"""What the verbs `run`, `table`, `plot` and `show` do: rooms joined together, nothing of their own."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench import registry
from covr_bench.config import RunConfig, parse_overrides
from covr_bench.errors import UserError
from covr_bench.plan import Planned, configure, plan

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from suites.base import Budget, Suite

DAY_S = 86_400
RUN_MEMORY = 3 << 30  # bytes of RAM a worker may need on a 100k-step run


@dataclass(frozen=True)
class RunOptions:
    """The command line of `covr-bench run`; empty and None mean the suite's or budget's own choice."""

    suite: str
    agents: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: str = ""
    budget: str = "paper"
    env_steps: int | None = None
    workers: int | None = None
    device: str = "auto"
    out: str = "results"
    overrides: tuple[str, ...] = ()
    dry_run: bool = False
    yes: bool = False


def run_suite(options: RunOptions, console: Console) -> int:
    """Plan, ask, launch, report. Returns the exit code: 0, or 1 if a run failed. Raises UserError."""
    suite = registry.suite(_absolute(options.suite))
    budget = _budget(suite, options)
    agents = {ref: registry.agent(ref) for ref in map(_absolute, options.agents or suite.agents)}
    configs = configure(
        suite,
        _absolute(options.suite),
        agents,
        budget,
        tasks=options.tasks,
        seeds=parse_seeds(options.seeds),
        overrides=parse_overrides(options.overrides),
        device=_device(options.device),
        out=options.out,
    )
    planned = plan(configs)
    todo = [item.config for item in planned if item.state != "done"]
    facts = _rendering(suite, console) if todo else {}
    workers = min(options.workers or _default_workers(), max(len(todo), 1))
    threads = 1 if workers > 1 else _cores()
    todo = [replace(config, threads=threads) for config in todo]
    seconds = _show_plan(planned, todo, workers, suite, budget, facts, console)
    if options.dry_run:
        return 0
    if seconds > DAY_S and not options.yes and sys.stdin.isatty():
        if console.input(f"This will take about {seconds / DAY_S:.1f} days. Start? [y/N] ").strip().lower() != "y":
            return 0
    failed = _launch(todo, workers, facts, console) if todo else []
    _report(options.out, suite.name, budget.name, [config.run_id for config in configs], console)
    if failed:
        console.print(f"[bold]{len(failed)} of {len(configs)} runs failed:[/bold]")
        for job in failed:
            console.print(f"  {job.config.run_id}: {job.error.strip().splitlines()[-1]}", highlight=False, markup=False)
        console.print("The same command tries them again.")
    return 1 if failed else 0


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
    return replace(budget, name=str(options.env_steps), env_steps=options.env_steps, eval_every=every)


def _absolute(ref: str) -> str:
    """Files by their whole path: workers and later commands may start elsewhere."""
    return str(Path(ref).expanduser().resolve()) if ref.endswith(".py") else ref


def _device(name: str) -> str:
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


def _cores() -> int:
    """Cores this process may use; OMP_NUM_THREADS, where set, is obeyed."""
    if (limit := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(limit))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_workers() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_cores(), memory // RUN_MEMORY))


def _rendering(suite: Suite, console: Console) -> dict[str, Any]:
    """Choose the OpenGL backend for this process's children; what was chosen goes into each run's provenance."""
    if not suite.needs_gl:
        return {}
    from suites.gl import GLError, choose_backend

    try:
        backend = choose_backend()
    except GLError as error:
        raise UserError(str(error)) from error
    os.environ["MUJOCO_GL"] = backend.name
    console.print(f"rendering: {backend.name} ({backend.renderer})", highlight=False)
    return {"gl_backend": backend.name, "gl_vendor": backend.vendor, "gl_renderer": backend.renderer}


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
    console.print(
        f"plan: {len(planned)} runs of {budget.env_steps:,} env steps ({suite.name}@{budget.name}): {counts}",
        highlight=False,
    )
    if not todo:
        return 0.0
    from covr_bench.calibrate import costs

    with console.status("trying the first steps of each task ..."):
        each = costs(todo, Path(todo[0].out) / "cache" / "calibration.json", _machine(facts))
    times = [
        cost.seconds(config, suite.task(config.task).max_episode_steps) for cost, config in zip(each, todo, strict=True)
    ]
    seconds = max(sum(times) / workers, max(times))
    running = sorted((cost.running_bytes(config) for cost, config in zip(each, todo, strict=True)), reverse=True)
    disk = sum(running[:workers]) + sum(cost.agent_bytes for cost in each)
    free = shutil.disk_usage(_existing(Path(todo[0].out))).free
    console.print(
        f"estimate: {_span(seconds)} with {workers} at a time ({todo[0].threads} torch thread"
        f"{'s' if todo[0].threads > 1 else ''} each, {todo[0].device}), up to {disk / 1e9:.1f} GB of disk "
        f"({free / 1e9:.0f} GB free)",
        highlight=False,
    )
    if disk > free:
        console.print("[bold]not enough disk for that: free some, or give another --out[/bold]")
    return seconds


def _machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    from results.provenance import collect

    return {name: value for name, value in collect().items() if name not in ("git_sha", "git_dirty")} | dict(facts)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h" if minutes < 2880 else f"{seconds / DAY_S:.1f} days"


def _launch(todo: Sequence[RunConfig], workers: int, facts: dict[str, Any], console: Console) -> list[Any]:
    """Run everything; returns the jobs that failed."""
    from covr_bench.launch.local import launch
    from covr_bench.progress import Progress

    command = shlex.join(["covr-bench", *sys.argv[1:]])
    with Progress(console) as progress:
        jobs = launch(todo, workers, command, facts, progress.watch)
    return [job for job in jobs if job.state == "failed"]


def _frame(out: str | Path, suite: str) -> pd.DataFrame:
    from results.store import read

    frame = read(out)
    frame = frame[frame["suite"] == suite] if suite else frame
    if frame.empty:
        raise UserError(f"no rows{f' of suite {suite!r}' if suite else ''} in {out}; `covr-bench run` makes some")
    return frame


def _task_names() -> dict[str, list[str]]:
    return {name: [task.name for task in suite.tasks] for name, suite in registry.suites().items()}


def _report(out: str, suite: str, budget: str, run_ids: Sequence[str], console: Console) -> None:
    """The table and the curves of the runs a command named, on screen and as files."""
    from analysis.plots import learning_curves
    from analysis.scores import PROTOCOL, returns
    from analysis.tables import tables, to_csv, to_markdown, to_terminal
    from results.store import read

    frame = read(out) if (Path(out) / "runs").exists() else None
    if frame is None or returns(frame := frame[frame["run_id"].isin(run_ids)]).empty:
        console.print("no evaluation yet")
        return
    made = tables(frame, tasks=_task_names())
    console.print(to_terminal(made, rows="tasks"))
    base = Path(out) / "reports" / f"{suite}@{budget}"
    base.parent.mkdir(exist_ok=True)
    files = {base.with_name(f"{base.name}.md"): to_markdown(made), base.with_name(f"{base.name}.csv"): to_csv(made)}
    for path, text in files.items():
        path.write_text(text)
    for labels, rows in frame.groupby(PROTOCOL[-1], observed=True):
        picture = base.with_name(f"{base.name}{f'.{labels}' if labels else ''}.png")
        for remark in learning_curves(rows, picture, tasks=_task_names().get(suite)):
            console.print(remark, highlight=False)
        files[picture] = ""
    for path in files:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def print_table(out: Path, suite: str, format_: str, console: Console) -> None:
    """`covr-bench table`. Raises UserError for an unknown format or when there is nothing."""
    from analysis.tables import tables, to_csv, to_markdown, to_terminal

    if format_ not in ("terminal", "md", "csv"):
        raise UserError(f"unknown format {format_!r}. Valid: terminal, md, csv.")
    made = tables(_frame(out, suite), tasks=_task_names())
    if format_ == "terminal":
        console.print(to_terminal(made, rows="tasks"))
    else:
        sys.stdout.write(to_markdown(made) if format_ == "md" else to_csv(made))


def plot_curves(out: Path, suite: str, file: Path) -> list[Path]:
    """`covr-bench plot`: one file per suite, budget and set of labels; returns their paths. Raises UserError."""
    from analysis.plots import learning_curves
    from analysis.scores import PROTOCOL, protocol_name, returns

    if file.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"cannot draw to {str(file)!r}. Valid endings: .png, .pdf, .svg.")
    rows = returns(_frame(out, suite))
    if rows.empty:
        raise UserError(f"no evaluation in {out} yet")
    groups = [(tuple(map(str, key)), part) for key, part in rows.groupby(PROTOCOL, observed=True)]
    paths = []
    for key, part in groups:
        name = protocol_name(*key).replace(" ", "")
        path = file if len(groups) == 1 else file.with_name(f"{file.stem}-{name}{file.suffix}")
        for remark in learning_curves(part, path, tasks=_task_names().get(key[0])):
            print(remark, file=sys.stderr)
        paths.append(path)
    return paths


def show_run(out: Path, run: str, console: Console) -> None:
    """`covr-bench show`: settings, provenance and the curve drawn in the terminal. Raises UserError."""
    from rich.pretty import Pretty
    from rich.table import Table
    from rich.text import Text

    from analysis.scores import returns
    from results import provenance
    from results.store import RunId, read_run, run_folder

    try:
        run_id = RunId.parse(run.removeprefix(f"{out}/").removeprefix("runs/").strip("/"))
    except ValueError as error:
        raise UserError(str(error)) from error
    if not (run_folder(out, run_id) / provenance.PROVENANCE_FILE).exists():
        from covr_bench.errors import unknown

        raise unknown(f"run in {out}", run, provenance.statuses(out))
    record = provenance.read(run_folder(out, run_id) / provenance.PROVENANCE_FILE)
    grid = Table.grid(padding=(0, 2))
    for name in ("run_id", "status", "wall_s", "config", "seeds", "environment", "sessions"):
        grid.add_row(name, Pretty(record[name], expand_all=name in ("config", "environment")))
    console.print(grid)
    rows = returns(read_run(out, run_id))
    top = max(1e-9, *(abs(value) for value in rows["value"] if value == value)) if len(rows) else 1.0
    console.print("\nreturn by environment steps")
    for step, value in zip(rows["env_steps"], rows["value"], strict=True):
        bar = "█" * round(40 * max(value, 0) / top) if value == value else ""
        console.print(Text(f"{step:>10,} {value:>9.1f} {bar}"))
    for text in read_run(out, run_id).query("kind == 'error'")["text"]:
        console.print(Text(f"\nerror: {text}"))
