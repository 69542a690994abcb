"""The structure of the house, computed from the sources: who imports whom, and how large things are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import covr_bench

ROOT = Path(covr_bench.__file__).resolve().parents[1]
PACKAGES = ("analysis", "baselines", "covr", "covr_bench", "results", "suites")
FLOORS = (  # from the ground up: each may import those of the floors below it
    ("results", "suites", "covr_bench.kit"),
    ("covr",),
    ("baselines", "analysis"),
    ("covr_bench.config",),
    ("covr_bench.run",),
    ("covr_bench.launch", "covr_bench.policies"),
    ("covr_bench.track",),
    ("covr_bench.face",),
    ("covr_bench.cli",),
)
MACHINE = {  # rooms of the machine, and what of it they may import beside themselves
    "kit": (),
    "config": ("kit",),
    "run": ("kit", "config"),
    "launch": ("kit", "config", "run"),
    "track": ("kit", "config", "run", "launch"),
    "policies": ("kit", "config", "run"),
}
LONGEST_FUNCTION, LONGEST_FILE = 65, 300  # lines


@cache
def modules() -> dict[str, Path]:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {_name(file): file for file in files if "runs" not in file.relative_to(ROOT).parts}


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(module: str) -> frozenset[str]:
    """Modules of ours that a file names in an import: at its top, in a function, or for types only."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
            found |= inside if len(inside) == len(node.names) else inside | {node.module}
    return frozenset((found & modules().keys()) - {module})


def circles() -> Iterator[list[str]]:
    """Tarjan 1972: sets of modules each of which reaches every other."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in imported(module):
            if other not in index:
                yield from visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            component, stack[at:] = stack[at:], []
            if len(component) > 1:
                yield sorted(component)

    for module in modules():
        if module not in index:
            yield from visit(module)


def test_there_is_no_import_circle() -> None:
    assert list(circles()) == []


def test_agents_import_the_kit_and_nothing_else_of_the_machine() -> None:
    for module in modules():
        if module.startswith(("baselines.", "covr.")):
            rooms = {
                name for name in imported(module) if name.startswith(("covr_bench", "suites", "results", "analysis"))
            }
            assert all(name.startswith("covr_bench.kit.") for name in rooms), (module, rooms)


def test_no_agent_is_built_on_another_agents_file() -> None:
    agents = {name for name, file in modules().items() if "\nAGENT = " in file.read_text(encoding="utf-8")}
    assert len(agents) > 20
    assert {name: theirs for name in agents if (theirs := imported(name) & agents)} == {}


@pytest.mark.parametrize("room", MACHINE)
def test_rooms_of_the_machine_import_what_is_below_them(room: str) -> None:
    for module in modules():
        if module.startswith(f"covr_bench.{room}."):
            theirs = {name.split(".")[1] for name in imported(module) if name.startswith("covr_bench.")}
            assert theirs <= {room, *MACHINE[room]}, module


def _floor(module: str) -> int | None:
    """The number of a module's floor; None of the package's own face, which is for users."""
    rooms = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    return next((number for room, number in rooms.items() if f"{module}.".startswith(f"{room}.")), None)


def test_no_arrow_runs_back_up() -> None:
    up = []
    for module in modules():
        for other in imported(module):
            here, there = _floor(module), _floor(other)
            up += [(module, other)] if here is not None and there is not None and there > here else []
    assert up == []


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_functions_and_files_are_short() -> None:
    long = []
    for module, file in modules().items():
        text = file.read_text(encoding="utf-8")
        lines = text.count("\n")
        long += [(module, lines)] if lines > LONGEST_FILE else []
        for function in _functions(ast.parse(text)):
            assert function.end_lineno
            length = function.end_lineno - function.lineno + 1
            long += [(f"{module}.{function.name}", length)] if length > LONGEST_FUNCTION else []
    assert long == []


def test_the_door_opens_without_anything_heavy() -> None:
    heavy = ("torch", "numpy", "pandas", "pydantic", "gymnasium", "transformers", "matplotlib", "yaml")
    code = f"import sys, covr_bench.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_engines_are_tested_where_files_say_so() -> None:
    """`tox -e cluster` names its files, since to collect all others takes long."""
    here = Path(__file__).parent
    mark = re.compile(r"^pytestmark = \[?pytest\.mark\.cluster", re.MULTILINE)
    marked = {path.name for path in here.glob("test_*.py") if mark.search(path.read_text(encoding="utf-8"))}
    words = (here.parent / "tox.ini").read_text(encoding="utf-8").partition("[testenv:cluster]")[2].partition("\n[")[0]
    assert set(re.findall(r"test_\w+\.py", words)) == marked != set()
