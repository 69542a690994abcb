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
from covr_bench.kit.errors import unknown
from covr_bench.kit.extensions import Kind, is_path, modules_with
from suites.base import Budget, Suite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from covr_bench.kit.api import Agent, Context

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
    spec = agent(ref)
    return spec.make(spec.Config(**settings), replace(context, make_agent=make_agent))


def our_agents() -> dict[str, str]:
    """Modules of the agents that ship with the project, by name."""
    return {name: module for home in AGENT_HOMES for name, module in modules_with(home, AGENTS.constant).items()}


def suites() -> dict[str, Suite]:
    """Every suite known here by name; one module may define several. Raises UserError if two share a name."""
    found: dict[str, Suite] = {}
    homes: dict[str, str] = {}
    for file, name in modules_with("suites", r"SUITES?").items():
        module = importlib.import_module(name)
        for each in getattr(module, "SUITES", None) or (module.SUITE,):
            found[each.name], homes[each.name] = each, f"suites/{file}.py"
    return found | {name: extensions.load(SUITES, at) for name, at in extensions.installed(SUITES, homes).items()}


def suite(ref: str) -> Suite:
    """The suite of that name, or the one in that file. Raises UserError."""
    known = suites()
    if is_path(ref):
        return extensions.unclaimed(SUITES, extensions.from_file(SUITES, ref), known, ref)
    if ref not in known:
        raise unknown("suite", ref, known)
    return known[ref]


def budgets(suite: Suite) -> dict[str, Budget]:
    """The budgets a suite can run on: its own and those that installed packages add to every suite."""
    points = extensions.installed(BUDGETS, dict.fromkeys(suite.budgets, f"suite {suite.name}"))
    return dict(suite.budgets) | {name: extensions.load(BUDGETS, point) for name, point in points.items()}


def budget_docs() -> dict[str, str]:
    """What each budget of our suites is, a sentence by `<suite>@<budget>`."""
    return {f"{suite.name}@{name}": each.doc for suite in suites().values() for name, each in suite.budgets.items()}


def budget(suite: Suite, ref: str) -> Budget:
    """The suite's budget of that name, or the one in that file. Raises UserError."""
    known = budgets(suite)
    if is_path(ref):
        return extensions.unclaimed(BUDGETS, extensions.from_file(BUDGETS, ref), known, ref)
    if ref not in known:
        raise unknown(f"budget of suite {suite.name}", ref, known)
    return known[ref]
