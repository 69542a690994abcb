"""Registers the tasks here when Gymnasium is imported after `suites`, without importing it.

Gymnasium asks no package for its tasks: `gymnasium.register_envs(suites)` does nothing, and a package that is imported
already is not run again. So Gymnasium's own import is watched, and that of modules here, which may be what imports it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Watcher:
    """A finder of modules that finds what the others find, and registers after the import that brought Gymnasium in.

    Args:
        register: Called once. It imports modules here, so it waits for those that are being imported.
    """

    def __init__(self, register: Callable[[], object]) -> None:
        self._register = register
        self._open, self._done = 0, False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module as the other finders find it, its import watched; None for modules that are no matter here."""
        if self._done or not (name == "gymnasium" or name.startswith("suites.")):
            return None
        for finder in [finder for finder in sys.meta_path if finder is not self]:
            if spec := finder.find_spec(name, path, target):
                if spec.loader:
                    spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]  # it has what a loader has
                return spec
        return None

    def run(self, load: Callable[[ModuleType], None], module: ModuleType) -> None:
        """Run a module, and register if that was the outermost of the watched ones and Gymnasium is there."""
        self._open += 1
        try:
            load(module)
        finally:
            self._open -= 1
        if not (self._open or self._done) and "gymnasium" in sys.modules:
            self._done = True
            self._register()


class _Loader:
    """The loader of a watched module, which has it back once the module runs."""

    def __init__(self, loader: Any, watcher: Watcher) -> None:
        self._loader, self._watcher = loader, watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__:
            module.__spec__.loader = self._loader
        self._watcher.run(self._loader.exec_module, module)
