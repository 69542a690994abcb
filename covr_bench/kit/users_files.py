"""Importing users' files, and modules beside them: after all that is installed, and as they are now."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.code import USER_MODULE, code_hash, user_folders
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

KEPT = frozenset({"__main__", "__mp_main__", "analysis", "baselines", "covr", "covr_bench", "results", "suites"})
_UNDER_WAY: set[Path] = set()  # users' files that are being imported
_CODE: dict[Path, str] = {}  # users' files that were imported, and the hash of all that they consisted of


def imported(path: Path) -> ModuleType:
    """The module that a user's file is now. Raises UserError where it cannot be imported."""
    if path in _UNDER_WAY:
        raise UserError(
            f"{path} asks for itself while it is imported: put what it runs under `if __name__ == '__main__':`"
        )
    name = f"{USER_MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    _forget_if_edited(path)
    _make_room_for(path.parent)
    sys.modules[name] = module  # dataclasses look their module up by name
    _UNDER_WAY.add(path)
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise UserError(
            f"{path} cannot be imported: it calls sys.exit({error.code or 0!r}). Put what it does as a script under "
            "`if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        raise UserError(
            f"{path} cannot be imported: {type(error).__name__}: {error}{_shadowed(path, error)}"
        ) from error
    finally:
        _UNDER_WAY.discard(path)
    return module


def _make_room_for(folder: Path) -> None:
    """Let modules in `folder` be imported: after the standard library, ours and installed ones, which none may hide.

    A module of another user's folder that has the name of one in this folder is forgotten first.
    """
    others = user_folders() - {folder}
    for name, module in list(sys.modules.items()):
        if _home_of(name, module) in others and _holds(folder, name.partition(".")[0]):
            del sys.modules[name]
    theirs = {str(folder), *map(str, others)}
    fixed = next((i for i in range(len(sys.path), 0, -1) if sys.path[i - 1] not in theirs), 0)
    added = [] if str(folder) in sys.path[:fixed] else [str(folder)]
    sys.path[fixed:] = [*added, *(entry for entry in sys.path[fixed:] if entry != str(folder))]
    importlib.invalidate_caches()


def _forget_if_edited(path: Path) -> None:
    """So that a notebook runs what files say now: once one that belongs to this is not what it was, forget its folder.

    Its modules import each other, so that none of them is in use any more. The program itself and what is ours stay.
    """
    code = code_hash(str(path), "")
    if _CODE.get(path, code) != code:
        for other in [each for each in _CODE if each.parent == path.parent]:
            del _CODE[other]  # what they import is as new as this
        for name, module in list(sys.modules.items()):
            if _home_of(name, module) == path.parent and name.partition(".")[0] not in KEPT:
                _forget(name, module)
    _CODE[path] = code


def _forget(name: str, module: ModuleType) -> None:
    compiled = getattr(module.__spec__, "cached", None)
    if compiled:  # it counts as new for a file of the same second and size
        with contextlib.suppress(OSError):
            Path(compiled).unlink()
    del sys.modules[name]


def _home_of(name: str, module: Any) -> Path | None:
    """The folder that a module, or the package it is in, was found in."""
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if not file or name.startswith(USER_MODULE):
        return None
    depth = name.count(".") + (Path(file).name == "__init__.py")
    return Path(file).resolve().parents[depth] if depth < len(Path(file).parents) else None


def _holds(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _shadowed(path: Path, error: Exception) -> str:
    """A hint where an import failed because another module has the name of a file beside `path`."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ImportError) or not name or not _holds(path.parent, name) or name == path.stem:
        return ""
    return f". {path.parent / name} is hidden by another module called {name!r}; rename yours"
