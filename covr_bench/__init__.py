"""The public names of covr-bench, and a guard against foreign packages that hide its folders."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from covr_bench.run.child import HOME, search_path

_STARTED = os.path.basename(*sys.argv[:1] or [""])
_OURS = re.search(r" -m ?covr_bench(\.| |$)", " ".join(sys.orig_argv))  # `python -m` imports a stranger's package, too
if _STARTED == "covr-bench" or (_STARTED == "-m" and _OURS):  # our command line, not a program that imports us
    if _OURS and os.path.realpath(sys.path[0] or ".") == os.path.realpath(os.getcwd()):
        del sys.path[0]  # put there by `python -m`
    sys.path[:] = search_path(sys.path)

_HOME = Path(HOME)
for _name in ("suites", "baselines", "covr", "results", "analysis"):
    _spec = importlib.util.find_spec(_name)
    _found = _spec and (_spec.origin or list(_spec.submodule_search_locations or ()))
    if not isinstance(_found, str) or Path(_found).resolve().parent.parent != _HOME:
        raise ImportError(
            f"covr-bench's package {_name!r} should be in {_HOME}, found: {_found}; rename or remove that."
        )

if TYPE_CHECKING:
    from covr_bench.config.request import Request
    from covr_bench.face import Outcome, Results, load_policy, plan, read, run
    from covr_bench.kit.api import Agent, AgentSpec, Context, Metrics
    from covr_bench.kit.errors import UserError
    from covr_bench.kit.replay import Batch, Replay
    from suites.base import Budget, Suite, Task

__all__ = [
    "Agent",
    "AgentSpec",
    "Batch",
    "Budget",
    "Context",
    "Metrics",
    "Outcome",
    "Replay",
    "Request",
    "Results",
    "Suite",
    "Task",
    "UserError",
    "load_policy",
    "plan",
    "read",
    "run",
]
_HOMES = {
    "covr_bench.config.request": ("Request",),
    "covr_bench.face": ("Outcome", "Results", "load_policy", "plan", "read"),
    "covr_bench.kit.api": ("Agent", "AgentSpec", "Context", "Metrics"),
    "covr_bench.kit.errors": ("UserError",),
    "covr_bench.kit.replay": ("Batch", "Replay"),
    "suites.base": ("Budget", "Suite", "Task"),
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that the command line starts without torch or a simulator."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'covr_bench' has no attribute {name!r}")


class _CallableRoom(ModuleType):
    """The room `covr_bench.run`, which is also the function `covr_bench.run(...)`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return importlib.import_module("covr_bench.face").run(*args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(importlib.import_module("covr_bench.face").run)


# Importing any file of the room makes it an attribute of this package, in place of a function of the same name.
importlib.import_module("covr_bench.run").__class__ = _CallableRoom
