"""`covr-bench status` and `covr-bench cancel`: where the runs of a plan are, and stopping them there.

Both read and write the store alone: they know runs on other machines as well as on this one.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import console, say
from covr_bench.cli.plan_cost import span
from covr_bench.cli.run import (
    Agent,
    Budget,
    Config,
    EnvSteps,
    OutFolder,
    Seeds,
    Settings,
    Suite,
    Task,
    Variant,
    Vlm,
)
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from results.overview import RunView

MOST_LINES = 40  # of each kind of run

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Watch runs on other machines until it is certain that they live (a minute).")
]
All = Annotated[bool, typer.Option("--all", help="Every unfinished run of the store.")]


def status_command(
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
    out: OutFolder = None,
    json_: Json = False,
    wait: Wait = False,
) -> None:
    """Where the runs of a plan are; of a whole store, if no suite is named."""
    from results.overview import as_dict, counts, seconds_left

    given = _given(suite, agent, task, variant, seeds, budget, env_steps, set_, vlm)
    folder, chosen = _selection(given, config, out)
    views, unsure = _views(folder, chosen, wait)
    left = seconds_left(views)
    if json_:
        values: dict[str, Any] = {
            "out": str(folder),
            "counts": counts(views),
            "seconds_left": left if math.isfinite(left) else None,
        }
        values |= {"unsure": unsure, "runs": [as_dict(each) for each in views]}
        sys.stdout.write(json.dumps(values, indent=1) + "\n")
    else:
        _show(views, left, unsure, folder, console())


def cancel_command(
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
    out: OutFolder = None,
    all_: All = False,
) -> None:
    """Stop the runs of a plan wherever they are, each after a checkpoint; `run` goes on with them."""
    from results.layout import StoreError
    from results.overview import Place

    given = _given(suite, agent, task, variant, seeds, budget, env_steps, set_, vlm)
    if not (suite or config or all_):
        raise UserError("say what to cancel: --suite, with the options that `run` was given, or --all for every run")
    folder, chosen = _selection(given, config, out)
    views, _ = _views(folder, chosen, wait=False)
    todo = [each for each in views if each.place is not Place.DONE]
    failed = {each.run_id: problem for each in todo if (problem := _cancelled(folder, each.run_id))}
    todo = [each for each in todo if each.run_id not in failed]
    running = sum(each.place is Place.RUNNING for each in todo)
    say(console(), f"{len(todo)} of {len(views)} runs cancelled: {running} are running and checkpoint within seconds,")
    say(console(), f"{len(todo) - running} do not start. `covr-bench run` as before goes on with them.")
    if failed:
        raise StoreError("\n".join(f"{run_id} is not cancelled: {problem}" for run_id, problem in failed.items()))


def _cancelled(out: Path, run_id: str) -> str:
    """Why a run cannot be asked to stop; empty once it is."""
    from results.cancel import cancel
    from results.layout import StoreError

    try:
        cancel(out, run_id)
    except StoreError as error:
        return str(error)
    return ""


def _given(
    suite: str | None,
    agent: list[str] | None,
    task: list[str] | None,
    variant: list[str] | None,
    seeds: str | None,
    budget: str | None,
    env_steps: int | None,
    set_: list[str] | None,
    vlm: str | None,
) -> dict[str, Any]:
    """What the command line says of which runs, by the fields of a request."""
    from covr_bench.config.request import parse_pairs

    values = {"suite": suite, "agents": agent, "tasks": task, "variants": variant, "seeds": seeds, "budget": budget}
    return values | {"env_steps": env_steps, "settings": parse_pairs(set_ or ()), "vlm": vlm}


def _selection(given: Mapping[str, Any], config: Path | None, out: Path | None) -> tuple[Path, dict[str, int] | None]:
    """The store, and the plan's runs with their lengths in environment steps; None for all of the store."""
    from covr_bench.config.request import from_yaml, overlay, request

    if config is None and not any(given.values()):
        return out or Path("results"), None
    from covr_bench.config.experiment import design

    values = overlay(from_yaml(config) if config else {}, {**given, "out": out})
    asked = request(values, f"{config} and the command line" if config else "the command line")
    runs = design(asked).runs(device="cpu", threads=1, conv_kernel="torch")
    return Path(asked.out), {run.run_id: run.env_steps for run in runs}


def _views(out: Path, chosen: Mapping[str, int] | None, wait: bool) -> tuple[list[RunView], int]:
    """The runs as the store shows them, and how many on other machines were not seen to beat yet."""
    from covr_bench.run.beats import Beats
    from results.layout import StoreError, run_ids
    from results.overview import view

    if chosen is None and not (out / "runs").is_dir():
        raise UserError(f"no results in {out}; `covr-bench run` makes some, and --out names another folder")
    lengths = dict.fromkeys(run_ids(out), 0) if chosen is None else chosen
    beats = Beats(out)
    try:
        views = [view(out, run_id, beats.silent, total) for run_id, total in lengths.items()]
        if wait and beats.unsure:
            beats.watch()
            views = [view(out, run_id, beats.silent, total) for run_id, total in lengths.items()]
    except OSError as error:
        raise StoreError(f"cannot read {out}: {error.strerror or error}; is the folder away?") from error
    beats.keep()
    return views, len(beats.unsure)


def _show(views: Sequence[RunView], left: float, unsure: int, out: Path, console: Console) -> None:
    from results.overview import Place, counts

    found = ", ".join(f"{count} {place}" for place, count in counts(views).items())
    say(console, f"{len(views)} run{'' if len(views) == 1 else 's'} in {out}: {found or 'none'}")
    for place in (Place.RUNNING, Place.LOST, Place.INTERRUPTED, Place.FAILED, Place.UNREADABLE):
        lines = [each for each in views if each.place is place]
        for each in lines[:MOST_LINES]:
            say(console, f"  {each.place:<11} {'  '.join(_cells(each))}")
            if each.problem:
                say(console, f"    {each.problem}")
        if len(lines) > MOST_LINES:
            say(console, f"  ... and {len(lines) - MOST_LINES} more {place}; --json lists all")
    running = [each for each in views if each.place is Place.RUNNING]
    if running and math.isfinite(left):
        speed = sum(each.speed for each in running)
        say(console, f"time left: about {span(left)}, {len(running)} at a time, {speed:,.1f} env steps/s together")
    if unsure:
        say(
            console,
            f"note: {unsure} of them on other machines were not seen to beat yet: another `status` in a minute knows "
            "whether they live, and so does --wait",
        )


def _cells(each: RunView) -> list[str]:
    cells = [each.run_id, f"{each.env_steps:,}{f'/{each.total:,}' if each.total else ''} env steps"]
    if each.speed > 0:
        cells += [f"{each.speed:.1f}/s", f"{span(each.seconds_left)} left"]
    if each.last_return is not None:
        cells.append(f"return {each.last_return:.1f}")
    if each.holding:
        cells += [each.holding.where(), f"{each.holding.peak_memory / 1e9:.1f} GB"]
    return [*cells, "cancelled"] if each.cancelled else cells
