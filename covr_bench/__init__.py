"""The public names of covr-bench, and a guard against foreign packages that hide its folders."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HOME = Path(__file__).resolve().parent.parent
for _name in ("suites", "baselines", "covr", "results", "analysis"):
    _spec = importlib.util.find_spec(_name)
    _found = _spec and (_spec.origin or list(_spec.submodule_search_locations or ()))
    if not isinstance(_found, str) or Path(_found).resolve().parent.parent != _HOME:
        raise ImportError(
            f"covr-bench's package {_name!r} should be in {_HOME}, found: {_found}; rename or remove that."
        )

if TYPE_CHECKING:
    from covr_bench.kit.api import Agent, AgentSpec, Context, Metrics
    from covr_bench.kit.errors import UserError
    from covr_bench.kit.replay import Batch, Replay
    from suites.base import Budget, Suite, Task

__all__ = ["Agent", "AgentSpec", "Batch", "Budget", "Context", "Metrics", "Replay", "Suite", "Task", "UserError"]
_HOMES = {
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
