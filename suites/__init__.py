"""What is measured: tasks as Gymnasium environments. Nothing here imports the rest of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suites.gymnasium_adapter import from_gymnasium

__all__ = ["from_gymnasium"]


def __getattr__(name: str) -> Any:
    """Imports Gymnasium when it is used, so that the command line starts without it."""
    if name == "from_gymnasium":
        from suites.gymnasium_adapter import from_gymnasium

        return from_gymnasium
    raise AttributeError(f"module 'suites' has no attribute {name!r}")
