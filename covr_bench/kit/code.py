"""The identity of code: a hash of an agent's or a suite's source and of the modules beside it that it imports."""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOME = Path(__file__).resolve().parents[2]
USER_MODULE = "covr_bench_user_"  # how the modules of users' files begin in `sys.modules`
_AS_IMPORTED: dict[Path, str] = {}  # files of agents that are known by name, and the hash of all that they consisted of
OURS = ("baselines", "covr", "covr_bench.kit")  # what an agent of ours is made of


def is_path(ref: str) -> bool:
    """Whether a reference is a file's path, and no name."""
    return ref.endswith(".py")


def user_folders() -> set[Path]:
    """Folders of the users' files that were imported."""
    return {Path(str(module.__file__)).parent for name, module in sys.modules.items() if name.startswith(USER_MODULE)}


def code_hash(ref: str, module: str) -> str:
    """SHA-256, in hex, of a file and of all that it imports from beside it, wherever the folder lies.

    Imports inside functions count. Modules of other packages do not: their versions are in a run's provenance.

    Args:
        ref: What the user gave: the path of a file, or a name.
        module: The module that defines what the name stands for. Where it is empty too, so is the hash.
    """
    if not (is_path(ref) or module):
        return ""
    file = Path(ref).expanduser().resolve() if is_path(ref) else _file_of(module)
    digest = hashlib.sha256()
    for name, source in sorted(_sources(file, ref, module).items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def code_as_imported(ref: str, module: str) -> str:
    """`code_hash` of what this process runs under a name.

    Raises:
        UserError: A file of it was edited since: unlike users' files, modules are imported once in a process.
    """
    code = code_hash(ref, module)
    if module and _AS_IMPORTED.setdefault(_file_of(module), code) != code:
        raise UserError(
            f"{_file_of(module)}, or what it imports, was edited since this process imported it, and would run as it "
            "was: start the process, or the notebook's kernel, anew"
        )
    return code


def imports_beside(file: str) -> list[str]:
    """Names of the modules beside a user's file that it imports, and that those import."""
    sources = _sources(Path(file).expanduser().resolve(), file, "")
    return sorted(name for name in sources if name and not _of_ours(name))


def _file_of(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"module {module} has no source file, so that runs of its agent cannot be told from others")
    return Path(spec.origin).resolve()


def _sources(file: Path, ref: str, module: str) -> dict[str, bytes]:
    """Sources by module name, that of `file` itself under the name `''`."""
    beside = _beside(file.parent) if is_path(ref) else _of_package(module)
    found: dict[str, bytes] = {}
    waiting = [("", file, "" if is_path(ref) else module)]
    while waiting:
        name, path, full_name = waiting.pop()
        found[name] = path.read_bytes().replace(b"\r\n", b"\n")
        for imported in _imports(found[name], full_name, path.name == "__init__.py"):
            target = beside(imported) or _of_ours(imported)
            if target and imported not in found and target != file:
                waiting.append((imported, target, imported))
                found[imported] = b""  # on its way
    return found


@cache  # agents share most of their files
def _imports(source: bytes, module: str, is_package: bool) -> tuple[str, ...]:
    """Every name that may be a module's, in order and once: `a`, `a.b` and `a.b.c` of `from a.b import c`."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # says so when it is imported
        return ()
    return tuple(dict.fromkeys(name for node in ast.walk(tree) for name in _imported(node, module, is_package)))


def _imported(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _prefixes(alias.name)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, is_package)
        yield from _prefixes(base)
        yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _prefixes(name: str) -> list[str]:
    parts = name.split(".") if name else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _beside(folder: Path) -> Callable[[str], Path | None]:
    """Modules in a user's folder, unless the standard library, we or an installed package have that name."""

    def find(name: str) -> Path | None:
        top = name.partition(".")[0]
        return None if _taken(top, folder) else _module_file(folder, name)

    return find


def _of_package(module: str) -> Callable[[str], Path | None]:
    """Modules of the package that a module is in."""
    top = module.partition(".")[0]
    file = _file_of(module)
    root = file.parents[module.count(".") + (file.name == "__init__.py")]

    def find(name: str) -> Path | None:
        inside = name.partition(".")[0] == top and top not in ("covr_bench", "baselines", "covr")
        return _module_file(root, name) if inside else None

    return find


@cache
def _of_ours(name: str) -> Path | None:
    ours = any(name == part or name.startswith(f"{part}.") for part in OURS)
    return _module_file(HOME, name) if ours else None


def _taken(top: str, folder: Path) -> bool:
    """Whether an import of this name finds something else than what is in `folder`, which comes last."""
    if top in sys.stdlib_module_names or (HOME / top / "__init__.py").is_file():
        return True
    users = {folder, *user_folders()}
    return PathFinder.find_spec(top, [entry for entry in sys.path if Path(entry).resolve() not in users]) is not None


def _module_file(root: Path, name: str) -> Path | None:
    base = root.joinpath(*name.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file.resolve()
    return None
