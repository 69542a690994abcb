"""`covr-bench list`: what the registry knows."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from covr_bench import registry


def tables() -> Iterator[tuple[str, Table]]:
    """The name and table of each listing; each is made when it is asked for."""
    for make in (_suites, _agents, _budgets, _tasks):
        yield make.__name__.strip("_"), make()


def _suites() -> Table:
    table = _table("suites", "suite", "version", "tasks", "agents by default", "")
    for suite in registry.suites().values():
        table.add_row(suite.name, str(suite.version), str(len(suite.tasks)), ", ".join(suite.agents), suite.doc)
    return table


def _agents() -> Table:
    table = _table("agents", "agent", "kind", "needs a VLM", "paper", "checked against")
    for name in registry.agent_names():
        spec = registry.agent(name)
        table.add_row(name, spec.kind, "yes" if spec.needs_vlm else "no", spec.paper or "-", spec.checked or "-")
    return table


def _budgets() -> Table:
    table = _table("budgets", "suite", "budget", "env steps", "evaluated every", "episodes", "seeds", "")
    for suite in registry.suites().values():
        for budget in registry.budgets(suite).values():
            lengths = (f"{budget.env_steps:,}", f"{budget.eval_every:,}", str(budget.eval_episodes))
            table.add_row(suite.name, budget.name, *lengths, ",".join(map(str, budget.seeds)), budget.doc)
    return table


def _tasks() -> Table:
    table = _table("tasks", "suite", "task", "action repeat", "instruction")
    for suite in registry.suites().values():
        for task in suite.tasks:
            table.add_row(suite.name, task.name, str(task.action_repeat), task.instruction)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table
