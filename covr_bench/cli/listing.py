"""`covr-bench list`: what the registry knows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.options import console
from covr_bench.config import registry
from covr_bench.config.experiment import UNNAMED
from covr_bench.kit.errors import UserError
from covr_bench.kit.extensions import usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    from covr_bench.launch.base import LauncherSpec
    from covr_bench.track.base import TrackerSpec
    from suites.base import Suite


class Listing(str, Enum):
    suites = "suites"
    agents = "agents"
    budgets = "budgets"
    tasks = "tasks"
    variants = "variants"
    vlms = "vlms"
    launchers = "launchers"
    trackers = "trackers"


def list_command(
    what: Annotated[Listing | None, typer.Argument(help="[all]")] = None,
    suite: Annotated[str, typer.Option(help="Suites, tasks, budgets, variants: of this suite, by name or file.")] = "",
) -> None:
    """What can be run, and where: suites, agents, budgets, tasks, variants, VLMs, launchers, trackers."""
    for table in tables(what.value if what else None, suite):
        console().print(table)


def tables(what: str | None = None, suite: str = "") -> Iterator[Table]:
    """Yield the listing of one of `Listing`; all of them for None.

    Args:
        what: Which.
        suite: Name or file of the only suite that is listed; its listings alone make sense then.

    Raises:
        UserError: An unknown suite, or a listing that is not of a suite.
    """
    of_suite = {"suites": _suites, "budgets": _budgets, "tasks": _tasks, "variants": _variants}
    if suite and what not in (None, *of_suite):
        raise UserError(f"{what} are of no suite; leave --suite out, or list {', '.join(of_suite)}")
    for name in Listing:
        if what not in (None, name.value):
            continue
        if name.value in of_suite:
            yield of_suite[name.value]([registry.suite(suite)] if suite else list(registry.suites().values()))
        elif not suite:
            yield {"agents": _agents, "vlms": _vlms, "launchers": _launchers, "trackers": _trackers}[name.value]()


def _suites(suites: Sequence[Suite]) -> Table:
    table = _table("Suites", "suite", "version", "tasks", "default agents", "")
    for suite in suites:
        _add(table, suite.name, suite.version, len(suite.tasks), ", ".join(suite.agents), suite.doc)
    return table


def _agents() -> Table:
    table = _table("Agents", "agent", "kind", "needs a VLM", "paper", "checked against")
    for name, spec in usable(registry.agent_names(), registry.agent).items():
        _add(table, name, spec.kind, "yes" if spec.needs_vlm else "no", spec.paper or "-", spec.checked or "-")
    return table


def _budgets(suites: Sequence[Suite]) -> Table:
    """Suites with the same budget share a line."""
    table = _table("Budgets, in env steps", "budget", "suites", "length", "evaluation", "seeds", "")
    users = defaultdict(list)
    for suite in suites:
        for budget in registry.budgets(suite).values():
            evaluation = f"{budget.eval_episodes} episodes every {budget.eval_every:,}"
            if budget.eval_episodes == 1:
                evaluation = f"1 episode every {budget.eval_every:,}"
            seeds = ", ".join(map(str, budget.seeds))
            users[budget.name, f"{budget.env_steps:,}", evaluation, seeds, budget.doc].append(suite.name)
    for (name, *rest), names in users.items():
        _add(table, name, ", ".join(names), *rest)
    return table


def _tasks(suites: Sequence[Suite]) -> Table:
    """Suites with the same task share a line."""
    table = _table("Tasks", "task", "suites (action repeat)", "instruction")
    users = defaultdict(list)
    for suite in suites:
        for task in suite.tasks:
            users[task.name, task.instruction].append(f"{suite.name} ({task.action_repeat})")
    for (name, instruction), names in users.items():
        _add(table, name, ", ".join(names), instruction)
    return table


def _variants(suites: Sequence[Suite]) -> Table:
    table = _table("Variants", "suite", "agent", "variant", "settings", "")
    for suite in suites:
        for variant in suite.variants:
            settings = " ".join(f"{key}={value}" for key, value in variant.settings.items())
            shown = "" if settings == variant.name else settings
            _add(table, suite.name, variant.agent, variant.name or UNNAMED, shown or "-", variant.doc)
    return table


def _vlms() -> Table:
    from covr.vlm.open import OTHER_FORMS, vlm_names, vlm_spec

    table = _table(f"VLMs; --vlm also takes {', '.join(OTHER_FORMS)}", "VLM", "stand-in", "")
    for name, spec in usable(vlm_names(), vlm_spec).items():
        _add(table, name, "yes" if spec.stand_in else "no", spec.doc)
    return table


def _launchers() -> Table:
    from covr_bench.launch.find import launcher, launcher_names

    return _machinery("Launchers", "launcher", usable(launcher_names(), launcher))


def _trackers() -> Table:
    from covr_bench.track.trackers import tracker, tracker_names

    return _machinery("Trackers", "tracker", usable(tracker_names(), tracker))


def _machinery(title: str, called: str, specs: Mapping[str, LauncherSpec | TrackerSpec]) -> Table:
    table = _table(title, called, "settings", "")
    for name, spec in specs.items():
        settings = " ".join(f"{key}={value}" for key, value in asdict(spec.Settings()).items())
        _add(table, name, settings or "-", spec.doc)
    return table


def _add(table: Table, *cells: object) -> None:
    from rich.text import Text

    table.add_row(*(Text(str(cell)) for cell in cells))


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
