"""Finding agents, suites and budgets: ours by file name, a user's by path, an installed package's by entry point.

An agent file ends in `AGENT = AgentSpec(...)`, a suite file in `SUITE = Suite(...)` or `SUITES = (...)`, a budget file
in `BUDGET = Budget(...)`. A package names the same values in the entry point groups `covr_bench.agents`,
`covr_bench.suites` and `covr_bench.budgets`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from covr_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from covr_bench.api import AgentSpec
    from suites.base import Budget, Suite


def agent_names() -> list[str]:
    """Every agent known here, ours first, without importing any."""
    import baselines

    return [module.name for module in pkgutil.iter_modules(baselines.__path__)] + sorted(_installed("agents"))


def agent(ref: str) -> AgentSpec:
    """The agent of that name, or the one in that file. Raises UserError."""
    if _is_path(ref):
        return _from_file(ref, "AGENT")  # type: ignore[no-any-return]
    if ref in (installed := _installed("agents")):
        return installed[ref].load()  # type: ignore[no-any-return]
    if ref not in agent_names():
        raise unknown("agent", ref, agent_names())
    return importlib.import_module(f"baselines.{ref}").AGENT  # type: ignore[no-any-return]


def suites() -> dict[str, Suite]:
    """Every suite known here by name."""
    import suites as folder

    found: dict[str, Suite] = {}
    for info in pkgutil.iter_modules(folder.__path__):
        found |= _suites_of(importlib.import_module(f"suites.{info.name}"))
    return found | {name: point.load() for name, point in _installed("suites").items()}


def suite(ref: str) -> Suite:
    """The suite of that name, or the one in that file. Raises UserError."""
    if _is_path(ref):
        return _from_file(ref, "SUITE")  # type: ignore[no-any-return]
    if ref not in (known := suites()):
        raise unknown("suite", ref, known)
    return known[ref]


def budgets(suite: Suite) -> dict[str, Budget]:
    """The budgets a suite can run on: its own and those that installed packages add to every suite."""
    return {name: point.load() for name, point in _installed("budgets").items()} | dict(suite.budgets)


def budget(suite: Suite, ref: str) -> Budget:
    """The suite's budget of that name, or the one in that file. Raises UserError."""
    if _is_path(ref):
        return _from_file(ref, "BUDGET")  # type: ignore[no-any-return]
    if ref not in (known := budgets(suite)):
        raise unknown(f"budget of suite {suite.name}", ref, known)
    return known[ref]


def _installed(group: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=f"covr_bench.{group}")}


def _is_path(ref: str) -> bool:
    return ref.endswith(".py")


def _suites_of(module: ModuleType) -> dict[str, Suite]:
    several = getattr(module, "SUITES", None) or [suite for suite in [getattr(module, "SUITE", None)] if suite]
    return {suite.name: suite for suite in several}


def _from_file(ref: str, constant: str) -> Any:
    path = Path(ref).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}")
    name = f"covr_bench_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, constant):
        raise UserError(f"{path} defines no {constant}; it should end in {constant} = ...")
    return getattr(module, constant)
