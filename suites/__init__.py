"""What is measured: tasks as Gymnasium environments. Nothing here imports the rest of the project.

`import gymnasium, suites`, in any order, makes every task known to `gymnasium.make`: `suites/gymnasium_ids.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from suites.gymnasium_late import Watcher

if TYPE_CHECKING:
    from suites.gymnasium_adapter import from_gymnasium
    from suites.gymnasium_ids import register

__all__ = ["from_gymnasium", "register"]


def __getattr__(name: str) -> Any:
    """Imports Gymnasium when it is used, so that the command line starts without it."""
    if name == "from_gymnasium":
        from suites.gymnasium_adapter import from_gymnasium

        return from_gymnasium
    if name == "register":
        from suites.gymnasium_ids import register

        return register
    raise AttributeError(f"module 'suites' has no attribute {name!r}")


if "gymnasium" in sys.modules:
    __getattr__("register")()
else:
    sys.meta_path.insert(0, Watcher(lambda: __getattr__("register")()))
