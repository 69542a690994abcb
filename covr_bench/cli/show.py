"""Stored runs in the terminal: `covr-bench show`, and the summary at the end of `run`. Imports no torch."""

from __future__ import annotations

import hashlib
import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import Out, console, say
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from covr_bench.config.experiment import Experiment
    from covr_bench.config.run_config import RunConfig

LONGEST_NAME = 120  # bytes of a file's name, beside what is put before and after it


def show_command(
    run: Annotated[str, typer.Argument(help="A run id, as printed by run.")], out: Out = Path("results")
) -> None:
    """One run: its configuration, provenance and curve."""
    show_run(out, run, console())


def report(configs: Sequence[RunConfig], experiment: Experiment, console: Console) -> None:
    """Print the table of a command's runs, and write it and their curves to files."""
    from analysis.figures.curves import learning_curves
    from analysis.rows.scores import returns, with_setting
    from analysis.tables.scores import tables, to_csv, to_markdown, to_terminal
    from results.files import write_bytes
    from results.store import read

    out = Path(configs[0].out)
    frame = read(out) if (out / "runs").exists() else None
    run_ids = [config.run_id for config in configs]
    if frame is None or returns(frame := frame[frame["run_id"].isin(run_ids)]).empty:
        console.print("no evaluation yet")
        return
    tasks = list(dict.fromkeys(config.task for config in configs))
    score_tables = tables(frame, tasks={experiment.suite.name: tasks}, settings=variant_settings(out, frame))
    console.print(to_terminal(score_tables, rows="tasks"))
    base = out / "reports" / f"{experiment.suite.name}@{experiment.budget.name}"
    groups = list(with_setting(frame).groupby("setting", observed=True))
    names = file_names(f"{base.name}{f'.{setting}' if setting else ''}" for setting, _ in groups)
    pictures = {base.with_name(f"{name}.png"): rows for name, (_, rows) in zip(names, groups, strict=True)}
    texts = {
        base.with_name(f"{base.name}.md"): to_markdown(score_tables),
        base.with_name(f"{base.name}.csv"): to_csv(score_tables),
    }
    with writing(base.parent):
        base.parent.mkdir(exist_ok=True)
        for path, text in texts.items():
            write_bytes(path, text.encode())
        for path, rows in pictures.items():
            for remark in learning_curves(rows, path, tasks=tasks):
                say(console, remark)
    for path in (*texts, *pictures):
        say(console, f"wrote {path}")


def file_names(titles: Iterable[str]) -> list[str]:
    """Names of files for titles of protocols: without slashes and spaces, short enough, and all different."""
    names: list[str] = []
    for title in titles:
        name = title.replace(" ", "").replace("/", "_")
        if len(name.encode()) > LONGEST_NAME or name in names:
            name = f"{name[: LONGEST_NAME // 4]}-{hashlib.sha256(title.encode()).hexdigest()[:8]}"
        names.append(name)
    return names


def variant_settings(out: Path, frame: pd.DataFrame) -> dict[str, str]:
    """The settings behind the variants of these rows that are named by a hash."""
    from results.provenance import hashed_settings

    runs = frame[["variant", "run_id"]].drop_duplicates("variant").astype(str)
    return hashed_settings(out, dict(zip(runs["variant"], runs["run_id"], strict=True)))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise UserError in place of OSError."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"cannot write to {folder}: there is no such folder; make it, or give another") from error
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}. The runs' rows are kept; free some space or make "
            "the folder writable, then give the same command again."
        ) from error


def show_run(out: Path, run: str, console: Console) -> None:
    """Print a run's settings, provenance and curve. Raises UserError for an unknown run."""
    from analysis.rows.scores import returns
    from results import provenance
    from results.layout import PROVENANCE_FILE, ROWS_FILE
    from results.lost import lost_rows
    from results.store import RowKind, RunId, Status, StoreError, read_run, run_folder

    try:
        run_id = RunId.parse(run.removeprefix(f"{out}/").removeprefix("runs/").strip("/"))
    except ValueError as error:
        raise UserError(str(error)) from error
    path = run_folder(out, run_id) / PROVENANCE_FILE
    if not os.path.lexists(path):
        raise unknown(f"run in {out}", run, provenance.statuses(out))
    try:
        provenance.read(path)
    except StoreError as error:
        raise UserError(f"{error} `covr-bench table` still shows the run's numbers.") from error
    record = provenance.statuses(out)[str(run_id)]
    console.print(f"[bold]{run_id}[/bold]", highlight=False)
    console.print(_facts(record))
    lost = lost_rows(run_folder(out, run_id)) if record["status"] == Status.FINISHED else ""
    if os.path.exists(rows := run_folder(out, run_id) / ROWS_FILE) and (rows.stat().st_size or not lost):
        frame = read_run(out, run_id)
        _draw(returns(frame), console)
    elif not lost:
        console.print("\nno evaluation yet")
        return
    if lost:
        raise UserError(f"run {run_id}: {lost}")
    if record["status"] == Status.FAILED:
        for text in frame[frame["kind"] == RowKind.ERROR.value]["text"].tail(1):
            say(console, f"\nerror: {text}")


def _facts(record: Mapping[str, Any]) -> Table:
    """Settings and provenance of a run, a line each."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, text in _fact_lines(record).items():
        grid.add_row(name, Text(text))
    return grid


def _fact_lines(record: Mapping[str, Any]) -> dict[str, str]:
    from analysis.report.origin import processor, rendering
    from results.code_identity import code_changes, own_code, project_code

    config, environment, session = record["config"], record["environment"], record["sessions"][-1]
    settings = {name: value for name, value in config.items() if name not in ("run_id", "agent_config", "env", "code")}
    lines = {
        "status": f"{record['status']} after {record['wall_s']:.0f} s in {len(record['sessions'])} session(s)",
        "started": f"{record['sessions'][0]['started']} by: {session['command']}",
        "settings": _pairs(settings),
        "agent settings": _pairs(config.get("agent_config", {})) or "none",
        "task settings": _pairs(config.get("env", {})) or "as published",
        "seeds": _pairs(record["seeds"]),
        "code": project_code(environment),
        "own code": own_code(record),
        "packages": _pairs({"python": environment.get("python", "unknown"), **environment["packages"]}, " "),
        "machine": f"{processor(environment)}, {environment.get('platform') or 'unknown'}",
        "gpu": ", ".join(environment["gpus"]) or "none",
    }
    if changes := code_changes(record):
        lines["own code"] += f"; went on with changed code, {', '.join(changes)}"
    if place := environment.get("cuda_visible_devices"):
        lines["gpu"] += f"; it ran on {place}"
    if environment.get("gl_backend"):
        lines["rendering"] = rendering(environment)
    return lines


def _pairs(values: Mapping[str, Any], sign: str = "=") -> str:
    return ", ".join(f"{name}{sign}{value}" for name, value in values.items())


def _draw(rows: pd.DataFrame, console: Console) -> None:
    """Print returns against environment steps as bars."""
    if rows.empty:
        console.print("\nno evaluation yet")
        return
    top = max(1e-9, *(abs(value) for value in rows["value"] if math.isfinite(value)), 0.0)
    console.print("\n env steps    return")
    for step, value in zip(rows["env_steps"], rows["value"], strict=True):
        bar = "█" * round(40 * max(value, 0) / top) if math.isfinite(value) else ""
        say(console, f"{step:>10,} {value:>9.1f} {bar}")
