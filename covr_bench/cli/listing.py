"""`covr-bench list`: what the registry knows."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.options import console
from covr_bench.config import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table


class Listing(str, Enum):
    suites = "suites"
    agents = "agents"
    budgets = "budgets"
    tasks = "tasks"
    variants = "variants"
    vlms = "vlms"


def list_command(what: Annotated[Listing | None, typer.Argument(help="[all]")] = None) -> None:
    """What can be run: suites, agents, budgets, tasks, variants, VLMs."""
    for table in tables(what.value if what else None):
        console().print(table)


def tables(what: str | None = None) -> Iterator[Table]:
    """Yield the listing of `suites`, `agents`, `budgets`, `tasks`, `variants` or `vlms`; all of them for None."""
    makers = {"suites": _suites, "agents": _agents, "budgets": _budgets, "tasks": _tasks, "variants": _variants}
    makers["vlms"] = _vlms
    for name, make in makers.items():
        if what in (None, name):
            yield make()


def _suites() -> Table:
    table = _table("Suites", "suite", "version", "tasks", "default agents", "")
    for suite in registry.suites().values():
        _add(table, suite.name, suite.version, len(suite.tasks), ", ".join(suite.agents), suite.doc)
    return table


def _agents() -> Table:
    table = _table("Agents", "agent", "kind", "needs a VLM", "paper", "checked against")
    for name in registry.agent_names():
        spec = registry.agent(name)
        _add(table, name, spec.kind, "yes" if spec.needs_vlm else "no", spec.paper or "-", spec.checked or "-")
    return table


def _budgets() -> Table:
    """Suites with the same budget share a line."""
    table = _table("Budgets, in env steps", "budget", "suites", "length", "evaluation", "seeds", "")
    users = defaultdict(list)
    for suite in registry.suites().values():
        for budget in registry.budgets(suite).values():
            evaluation = f"{budget.eval_episodes} episodes every {budget.eval_every:,}"
            if budget.eval_episodes == 1:
                evaluation = f"1 episode every {budget.eval_every:,}"
            seeds = ", ".join(map(str, budget.seeds))
            users[budget.name, f"{budget.env_steps:,}", evaluation, seeds, budget.doc].append(suite.name)
    for (name, *rest), names in users.items():
        _add(table, name, ", ".join(names), *rest)
    return table


def _tasks() -> Table:
    """Suites with the same task share a line."""
    table = _table("Tasks", "task", "suites (action repeat)", "instruction")
    users = defaultdict(list)
    for suite in registry.suites().values():
        for task in suite.tasks:
            users[task.name, task.instruction].append(f"{suite.name} ({task.action_repeat})")
    for (name, instruction), names in users.items():
        _add(table, name, ", ".join(names), instruction)
    return table


def _variants() -> Table:
    table = _table("Variants", "suite", "agent", "variant", "settings", "")
    for suite in registry.suites().values():
        for variant in suite.variants:
            settings = " ".join(f"{key}={value}" for key, value in variant.settings.items())
            shown = "" if settings == variant.name else settings
            _add(table, suite.name, variant.agent, variant.name or "-", shown or "-", variant.doc)
    return table


def _vlms() -> Table:
    from covr.vlm.open import OTHER_FORMS, vlm_names, vlm_spec

    table = _table(f"VLMs; --vlm also takes {', '.join(OTHER_FORMS)}", "VLM", "stand-in", "")
    for name in vlm_names():
        spec = vlm_spec(name)
        _add(table, name, "yes" if spec.stand_in else "no", spec.doc)
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
