"""What a name stands for: agents, suites, budgets, launchers, trackers and VLMs, ours or others'.

Each kind joins by name, by file and by entry point, see `kit.extensions`. An agent file in `baselines/` or `covr/` ends
in `AGENT = AgentSpec(...)`, a suite file in `SUITE = Suite(...)`, and so on.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from covr_bench.config import problems
from covr_bench.kit import extensions
from covr_bench.kit.api import AgentSpec
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import unknown
from covr_bench.kit.extensions import Kind, absolute, modules_with
from suites.base import Budget, Suite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from covr_bench.kit.api import Agent, Context
    from suites.base import Task

AGENTS = Kind("agent", AgentSpec, problems.of_agent)
SUITES, BUDGETS = Kind("suite", Suite, problems.of_suite), Kind("budget", Budget)
AGENT_HOMES = ("baselines", "covr")


def agent_names() -> list[str]:
    """Every agent known here, ours first, without importing any. Raises UserError if two share a name."""
    return extensions.names(AGENTS, our_agents())


def agent(ref: str) -> AgentSpec:
    """The agent of that name, or the one in that file. Raises UserError, also for one that could not be run."""
    return extensions.find(AGENTS, ref, our_agents())


def module_of(ref: str) -> str:
    """The module that defines the agent of that name; empty for a file, or a name that is not known."""
    ours = our_agents()
    if is_path(ref) or ref in ours:
        return ours.get(ref, "")
    installed = extensions.installed(AGENTS, {})
    return installed[ref].module if ref in installed else ""


def make_agent(ref: str, settings: Mapping[str, Any], context: Context) -> Agent:
    """An agent with these settings; one that wraps another gets its base made the same way."""
    from pydantic import TypeAdapter

    spec = agent(ref)
    # A standard dataclass would keep the JSON values: the text of an enum's member, a dict for a part.
    config = TypeAdapter(spec.Config).validate_python(dict(settings))
    return spec.make(config, replace(context, make_agent=make_agent))


def our_agents() -> dict[str, str]:
    """Modules of the agents that ship with the project, by name."""
    return {name: module for home in AGENT_HOMES for name, module in modules_with(home, AGENTS.constant).items()}


def suites() -> dict[str, Suite]:
    """Every suite known here by name, but for those of broken packages. Raises UserError if two share a name."""
    ours, others = _known_suites()
    return ours | extensions.usable(others, lambda name: extensions.load(SUITES, others[name]))


def suite(ref: str) -> Suite:
    """The suite of that name, or the one in that file. Raises UserError."""
    ours, others = _known_suites()
    if is_path(ref):
        return extensions.unclaimed(SUITES, extensions.from_file(SUITES, ref), [*ours, *others], ref)
    if ref in others:
        return extensions.load(SUITES, others[ref])
    if ref not in ours:
        raise unknown("suite", ref, [*ours, *others])
    return ours[ref]


def task(text: str, home: str) -> tuple[str, Suite, Task]:
    """What `SUITE/TASK`, or a task of one suite, stands for.

    Args:
        text: What the user gave.
        home: Name or file of the suite where `text` names none.

    Returns:
        The suite's name or whole path, the suite, and the task.

    Raises:
        UserError: An unknown suite or task.
    """
    ref, _, name = text.rpartition("/")
    ref = absolute(ref or home)
    found = suite(ref)
    if name not in (names := [each.name for each in found.tasks]):
        raise unknown(f"task of suite {found.name}", name, names)
    return ref, found, found.task(name)


def _known_suites() -> tuple[dict[str, Suite], dict[str, EntryPoint]]:
    """Ours by name, of which one module may define several, and where packages have theirs."""
    ours: dict[str, Suite] = {}
    homes: dict[str, str] = {}
    for file, name in modules_with("suites", r"SUITES?").items():
        module = importlib.import_module(name)
        for each in getattr(module, "SUITES", None) or (module.SUITE,):
            ours[each.name], homes[each.name] = each, f"suites/{file}.py"
    return ours, extensions.installed(SUITES, homes)


def budgets(suite: Suite) -> dict[str, Budget]:
    """The budgets a suite can run on: its own, and those that packages which are not broken add to every suite."""
    others = _other_budgets(suite)
    return _own_budgets(suite) | extensions.usable(others, lambda name: extensions.load(BUDGETS, others[name]))


def budget(suite: Suite, ref: str) -> Budget:
    """The suite's budget of that name, or the one in that file. Raises UserError."""
    own, others = _own_budgets(suite), _other_budgets(suite)
    if is_path(ref):
        return extensions.unclaimed(BUDGETS, extensions.from_file(BUDGETS, ref), [*own, *others], ref)
    if ref in others:
        return extensions.load(BUDGETS, others[ref])
    if ref not in own:
        raise unknown(f"budget of suite {suite.name}", ref, [*own, *others])
    return own[ref]


def budget_docs() -> dict[str, str]:
    """What each budget of our suites is, a sentence by `<suite>@<budget>`."""
    return {f"{suite.name}@{name}": each.doc for suite in suites().values() for name, each in suite.budgets.items()}


def _own_budgets(suite: Suite) -> dict[str, Budget]:
    """By the name the suite gives each, which is the name that is asked for and stored."""
    return {name: replace(each, name=name) for name, each in suite.budgets.items()}


def _other_budgets(suite: Suite) -> dict[str, EntryPoint]:
    return extensions.installed(BUDGETS, dict.fromkeys(suite.budgets, f"suite {suite.name}"))
