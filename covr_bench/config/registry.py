"""Finding agents, suites and budgets: ours by file name, a user's by path, an installed package's by entry point.

An agent file ends in `AGENT = AgentSpec(...)`, a suite file in `SUITE = Suite(...)`, a budget file in
`BUDGET = Budget(...)`. A package names the same values in the entry point groups `covr_bench.agents`,
`covr_bench.suites` and `covr_bench.budgets`. Two that claim one name are an error: results carry the name only.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from covr_bench.kit.api import Agent, AgentSpec, Context
    from suites.base import Budget, Suite


def agent_names() -> list[str]:
    """Every agent known here, ours first, without importing any. Raises UserError if two share a name."""
    ours = _our_agents()
    installed = _installed("agents", {name: f"{module.replace('.', '/')}.py" for name, module in ours.items()})
    return [*ours, *sorted(installed)]


def agent(ref: str) -> AgentSpec:
    """The agent of that name, or the one in that file. Raises UserError."""
    if _is_path(ref):
        spec: AgentSpec = _from_file(ref, "AGENT")
        return _unclaimed("agent", spec, agent_names(), ref)  # type: ignore[no-any-return]
    if ref not in (known := agent_names()):
        raise unknown("agent", ref, known)
    if module := _our_agents().get(ref):
        return importlib.import_module(module).AGENT  # type: ignore[no-any-return]
    return _load(_installed("agents", {})[ref])  # type: ignore[no-any-return]


def make_agent(ref: str, settings: Mapping[str, Any], context: Context) -> Agent:
    """An agent with these settings; one that wraps another gets its base made the same way."""
    spec = agent(ref)
    return spec.make(spec.Config(**settings), replace(context, make_agent=make_agent))


def suites() -> dict[str, Suite]:
    """Every suite known here by name. Raises UserError if two share a name."""
    import suites as folder

    found: dict[str, Suite] = {}
    homes = {}
    for module in _modules(folder, r"SUITES?"):
        for suite in _suites_of(importlib.import_module(f"suites.{module}")):
            found[suite.name], homes[suite.name] = suite, f"suites/{module}.py"
    return found | {name: _load(point) for name, point in _installed("suites", homes).items()}


def suite(ref: str) -> Suite:
    """The suite of that name, or the one in that file. Raises UserError."""
    known = suites()
    if _is_path(ref):
        return _unclaimed("suite", _from_file(ref, "SUITE"), known, ref)  # type: ignore[no-any-return]
    if ref not in known:
        raise unknown("suite", ref, known)
    return known[ref]


def budgets(suite: Suite) -> dict[str, Budget]:
    """The budgets a suite can run on: its own and those that installed packages add to every suite."""
    installed = _installed("budgets", dict.fromkeys(suite.budgets, f"suite {suite.name}"))
    return dict(suite.budgets) | {name: _load(point) for name, point in installed.items()}


def budget(suite: Suite, ref: str) -> Budget:
    """The suite's budget of that name, or the one in that file. Raises UserError."""
    known = budgets(suite)
    if _is_path(ref):
        return _unclaimed("budget", _from_file(ref, "BUDGET"), known, ref)  # type: ignore[no-any-return]
    if ref not in known:
        raise unknown(f"budget of suite {suite.name}", ref, known)
    return known[ref]


def _our_agents() -> dict[str, str]:
    """Modules of our agents by name."""
    import baselines
    import covr

    return {name: f"{package.__name__}.{name}" for package in (baselines, covr) for name in _modules(package, "AGENT")}


def _modules(package: ModuleType, constant: str) -> list[str]:
    """The package's modules that define a constant at top level, found without importing any."""
    defines = re.compile(rf"^{constant}\b.*=", re.MULTILINE)
    files = [Path(folder) / f"{info.name}.py" for folder in package.__path__ for info in pkgutil.iter_modules([folder])]
    return [file.stem for file in files if file.is_file() and defines.search(file.read_text(encoding="utf-8"))]


def _installed(group: str, ours: Mapping[str, str]) -> dict[str, EntryPoint]:
    """Entry points of a group by name. ours: where each name already in use comes from."""
    found: dict[str, EntryPoint] = {}
    homes = dict(ours)
    # A package that is found twice on the path (an installed copy beside its source) names the same value.
    for point in dict.fromkeys(entry_points(group=f"covr_bench.{group}")):
        if point.name in homes:
            raise UserError(
                f"two {group} are called {point.name!r}: {homes[point.name]} and {_origin(point)}. Results carry only "
                "the name; rename or uninstall one of them."
            )
        found[point.name], homes[point.name] = point, _origin(point)
    return found


def _load(point: EntryPoint) -> Any:
    """The value an entry point names. Raises UserError."""
    try:
        value = point.load()
    except Exception as error:
        raise UserError(
            f"{_origin(point)} cannot be loaded: {type(error).__name__}: {error}. Mend or uninstall that package."
        ) from error
    if getattr(value, "name", None) != point.name:
        raise UserError(f"{_origin(point)} is named {getattr(value, 'name', None)!r}; both names must be equal")
    return value


def _origin(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "an installed package"
    return f"{point.value} of {package}"


def _unclaimed(what: str, value: Any, known: Iterable[str], ref: str) -> Any:
    """`value`, unless its name is already another's."""
    if value.name in known:
        raise UserError(
            f"{Path(ref).resolve()} calls its {what} {value.name!r}, and there is another {what} of that name "
            f"(`covr-bench list {what}s`). Results carry only the name; give yours another."
        )
    return value


def _is_path(ref: str) -> bool:
    return ref.endswith(".py")


def _suites_of(module: ModuleType) -> tuple[Suite, ...]:
    return tuple(module.SUITES) if hasattr(module, "SUITES") else (module.SUITE,)


def _from_file(ref: str, constant: str) -> Any:
    path = Path(ref).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}")
    name = f"covr_bench_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, constant):
        raise UserError(f"{path} defines no {constant}; it should end in {constant} = ...")
    return getattr(module, constant)
