"""Importing users' files, and modules beside them: after all that is installed, and as they are now."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

USER_MODULE = "covr_bench_user_"  # how the modules of users' files begin in `sys.modules`
KEPT = frozenset({"__main__", "__mp_main__", "analysis", "baselines", "covr", "covr_bench", "results", "suites"})
_HELD: dict[str, tuple[ModuleType, bytes | None]] = {}  # modules beside users' files, and what their files held


def imported(path: Path) -> ModuleType:
    """The module that a user's file is now. Raises UserError where it cannot be imported."""
    name = f"{USER_MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    _make_room_for(path.parent)
    sys.modules[name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
        _note(path.parent)
    except SystemExit as error:
        raise UserError(
            f"{path} cannot be imported: it calls sys.exit({error.code or 0!r}). Put what it does as a script under "
            "`if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        raise UserError(
            f"{path} cannot be imported: {type(error).__name__}: {error}{_shadowed(path, error)}"
        ) from error
    return module


def _make_room_for(folder: Path) -> None:
    """Let modules in `folder` be imported: after the standard library, ours and installed ones, which none may hide.

    Forgotten first are modules of another user's folder that have the name of one in this folder, and all of this
    folder where one was edited, so that a notebook runs what its files say now.
    """
    others = user_folders() - {folder}
    for name, module in list(sys.modules.items()):
        if _home_of(name, module) in others and _holds(folder, name.partition(".")[0]):
            del sys.modules[name]
    _forget_if_edited(folder)
    theirs = {str(folder), *map(str, others)}
    fixed = next((i for i in range(len(sys.path), 0, -1) if sys.path[i - 1] not in theirs), 0)
    added = [] if str(folder) in sys.path[:fixed] else [str(folder)]
    sys.path[fixed:] = [*added, *(entry for entry in sys.path[fixed:] if entry != str(folder))]
    importlib.invalidate_caches()


def user_folders() -> set[Path]:
    """Folders of the users' files that were imported."""
    return {Path(str(module.__file__)).parent for name, module in sys.modules.items() if name.startswith(USER_MODULE)}


def _beside(folder: Path) -> dict[str, ModuleType]:
    """Modules in use that come from a user's folder; the program itself and what is ours are not among them."""
    found = {name: module for name, module in list(sys.modules.items()) if _home_of(name, module) == folder}
    return {name: module for name, module in found.items() if name.partition(".")[0] not in KEPT}


def _note(folder: Path) -> None:
    """Remember what the files of the folder's modules hold."""
    for name, module in _beside(folder).items():
        if name not in _HELD or _HELD[name][0] is not module:
            _HELD[name] = module, _content(module)


def _forget_if_edited(folder: Path) -> None:
    """Once a module's file is not what it was, none of the folder's is in use any more: they import each other."""
    own = _beside(folder)
    known = {name: _HELD[name][1] for name, module in own.items() if name in _HELD and _HELD[name][0] is module}
    edited = [own[name] for name, held in known.items() if _content(own[name]) != held]
    for module in edited:
        compiled = getattr(module.__spec__, "cached", None)
        if compiled:  # it counts as new for a file of the same second and size
            with contextlib.suppress(OSError):
                Path(compiled).unlink()
    for name in own if edited else ():
        del sys.modules[name]


def _content(module: ModuleType) -> bytes | None:
    try:
        return Path(str(module.__file__)).read_bytes()
    except OSError:
        return None


def _home_of(name: str, module: Any) -> Path | None:
    """The folder that a module, or the package it is in, was found in."""
    file = getattr(module, "__file__", None)
    if not file or name.startswith(USER_MODULE):
        return None
    depth = name.count(".") + (Path(file).name == "__init__.py")
    return Path(file).resolve().parents[depth] if depth < len(Path(file).parents) else None


def _holds(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _shadowed(path: Path, error: Exception) -> str:
    """A hint where an import failed because another module has the name of a file beside `path`."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ImportError) or not name or not _holds(path.parent, name) or name == path.stem:
        return ""
    return f". {path.parent / name} is hidden by another module called {name!r}; rename yours"
