"""`covr-bench check-env`: whether an environment can be trained on, and what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import SetEnv, console
from covr_bench.config import registry
from covr_bench.config.request import parse_pairs
from covr_bench.config.settings import check_names, of_env
from covr_bench.kit.extensions import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from suites.base import Suite, Task
    from suites.contract.check import Finding


def check_env_command(
    suite: Annotated[str, typer.Argument(metavar="SUITE[/TASK]", help="Suite name or a .py file that defines SUITE.")],
    set_: SetEnv = None,
) -> None:
    """Try environments: can they be trained on, and if not, what mends them?"""
    raise typer.Exit(check_env(suite, tuple(set_ or ()), console()))


def check_env(ref: str, overrides: Sequence[str], console: Console) -> int:
    """Print every promise of every task named, kept or broken.

    Args:
        ref: `SUITE` or `SUITE/TASK`; a suite's name or file.
        overrides: `env.KEY=VALUE`.
        console: Where to.

    Returns:
        The exit code: 0, or 1 if a promise is broken.

    Raises:
        UserError: No such suite, task or setting.
    """
    from rich.text import Text

    from suites.contract.check import examine

    suite, tasks = _named(ref)
    wanted = parse_pairs(overrides)
    check_names("setting", wanted, [], tasks)
    problems = 0
    for task in tasks:
        own = {key: value for key, value in wanted.items() if key.removeprefix("env.") in task.options}
        for options in _ways_to_see(task, of_env(task, own)):
            console.print(Text(f"{suite.name}/{task.name}: {task.observed(options)}", "bold"))
            problems += _print(examine(task, options), console)
    if problems:
        console.print(f"{problems} problem{'s' if problems > 1 else ''}. docs/suites.md says what is promised.")
    return int(problems > 0)


def _named(ref: str) -> tuple[Suite, list[Task]]:
    """The suite and the tasks of `SUITE` or `SUITE/TASK`. Raises UserError."""
    if ref.endswith(".py") or "/" not in ref:
        suite = registry.suite(absolute(ref))
        tasks = list(suite.tasks)
    else:
        _, suite, task = registry.task(ref, "")
        tasks = [task]
    if any(task.needs_gl for task in tasks):
        from covr_bench.run.machine import rendering

        rendering()
    return suite, tasks


def _ways_to_see(task: Task, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The options, once for each kind of observation that the task offers and they leave open."""
    if "observation" in options or len(task.observations) == 1:
        yield dict(options)
        return
    for kind in task.observations:
        yield {**options, "observation": kind}


def _print(findings: Iterator[Finding], console: Console) -> int:
    """Print findings as they come; the number of problems."""
    from rich.table import Table
    from rich.text import Text

    problems = 0
    for finding in findings:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=4)
        table.add_column(width=17)
        for text in finding.problems or ("",):
            mark = Text("FAIL", "bold red") if text else Text("ok", "green")
            table.add_row(mark, finding.promise, Text(text))
        console.print(table)
        problems += len(finding.problems)
    return problems
