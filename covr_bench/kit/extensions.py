"""Finding what can be added to the machine: ours by module, a user's by file, an installed package's by entry point.

A file ends in a constant named after the kind, such as `AGENT = AgentSpec(...)`; a package names the same value in the
entry point group `covr_bench.agents`. Two that claim one name are an error: results carry the name only.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from covr_bench.kit.code import is_path
from covr_bench.kit.errors import Note, UserError, told, unknown
from covr_bench.kit.users_files import imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of extension.

    Attributes:
        name: In lower case, such as `agent`.
        type: What its values are instances of, such as `AgentSpec`; each has a `name`.
        problems: Why a stranger's value could not be used, though all it holds is of its type, a sentence each.
    """

    name: str
    type: type[T]
    problems: Callable[[T], Iterator[str]] = lambda value: iter(())

    @property
    def constant(self) -> str:
        """What a file calls its value."""
        return self.name.upper()

    @property
    def group(self) -> str:
        """The entry point group."""
        return f"covr_bench.{self.name}s"


def names(kind: Kind[Any], ours: Mapping[str, str]) -> list[str]:
    """Every name known, ours first, without importing anything.

    Args:
        kind: What is looked for.
        ours: Modules by name, such as `{"drqv2": "baselines.drqv2"}`.

    Raises:
        UserError: Two share a name.
    """
    return [*ours, *sorted(installed(kind, _homes(ours)))]


def find(kind: Kind[T], ref: str, ours: Mapping[str, str]) -> T:
    """The value of that name, or the one in that file.

    Args:
        kind: What is looked for.
        ref: A name, or the path of a `.py` file.
        ours: Modules by name.

    Raises:
        UserError: No such name or file, one that cannot be imported, or a name that another has.
    """
    others = installed(kind, _homes(ours))
    if is_path(ref):
        return unclaimed(kind, from_file(kind, ref), [*ours, *others], ref)
    if ref in ours:
        return checked(kind, getattr(importlib.import_module(ours[ref]), kind.constant), ours[ref])
    if ref in others:
        return load(kind, others[ref])
    raise unknown(kind.name, ref, [*ours, *sorted(others)])


def absolute(ref: str) -> str:
    """A file by its whole path, since workers and later commands may start elsewhere; a name as it is."""
    return str(Path(ref).expanduser().resolve()) if is_path(ref) else ref


def modules_with(package: str, constant: str) -> dict[str, str]:
    """Modules of a package that define a constant at top level, by last name, found without importing any.

    Args:
        package: Name of the package to look in; not in its sub-packages.
        constant: A regular expression for the constant's name.
    """
    return {name: f"{package}.{name}" for name in _modules_with(package, constant)}


@cache
def _modules_with(package: str, constant: str) -> tuple[str, ...]:
    defines = re.compile(rf"^{constant}\b.*=", re.MULTILINE)
    folders = importlib.import_module(package).__path__
    files = [Path(folder) / f"{info.name}.py" for folder in folders for info in pkgutil.iter_modules([folder])]
    return tuple(file.stem for file in files if file.is_file() and defines.search(file.read_text(encoding="utf-8")))


def installed(kind: Kind[Any], homes: Mapping[str, str]) -> dict[str, EntryPoint]:
    """Entry points of a kind by name.

    Args:
        kind: What is looked for.
        homes: Where each name already in use comes from.

    Raises:
        UserError: Two share a name.
    """
    found: dict[str, EntryPoint] = {}
    taken = dict(homes)
    for point in _entry_points(kind.group, tuple(sys.path)):
        if point.name in taken:
            raise UserError(
                f"two {kind.name}s are called {point.name!r}: {taken[point.name]} and {_origin(point)}. Results carry "
                "only the name; rename or uninstall one of them."
            )
        found[point.name], taken[point.name] = point, _origin(point)
    return found


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Of a group, as packages on this path declare them: reading them all takes a tenth of a second."""
    from importlib.metadata import entry_points  # slow to import

    # A package that is found twice on the path (an installed copy beside its source) names the same value.
    return tuple(dict.fromkeys(entry_points(group=group)))


def load(kind: Kind[T], point: EntryPoint) -> T:
    """The value an entry point names. Raises UserError."""
    try:
        value = point.load()
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{_origin(point)} cannot be loaded: {type(error).__name__}: {error}. Mend or uninstall that package."
        ) from error
    found = sound(kind, value, _origin(point))
    if found.name != point.name:  # type: ignore[attr-defined]
        raise UserError(f"{_origin(point)} is named {value.name!r}; both names must be equal")
    return found


def usable(names: Iterable[str], find: Callable[[str], T]) -> dict[str, T]:
    """What `find` has for each name; one whose package is broken is left out, and a note says why."""
    found = {}
    for name in names:
        try:
            found[name] = find(name)
        except UserError as error:
            warnings.warn(Note(f"{error} It is left out."), stacklevel=2)
    return found


def from_file(kind: Kind[T], ref: str) -> T:
    """The value of a user's file. Modules beside the file can be imported from it. Raises UserError."""
    path = Path(ref).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}")
    module = imported(path)
    if not hasattr(module, kind.constant):
        raise UserError(f"{path} defines no {kind.constant}; it should end in {kind.constant} = ...")
    return sound(kind, getattr(module, kind.constant), str(path))


def checked(kind: Kind[T], value: Any, home: str) -> T:
    """`value`, if it is of the kind's type. Raises UserError."""
    if isinstance(value, kind.type):
        return value
    what = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    raise UserError(
        f"{kind.constant} of {home} is {what}; it should be {kind.constant} = {kind.type.__name__}(...), "
        f"see {kind.type.__module__}.{kind.type.__name__}"
    )


def sound(kind: Kind[T], value: Any, home: str) -> T:
    """A stranger's `value`, if all that it holds is of its type: lists are made tuples. Raises UserError."""
    from pydantic import TypeAdapter, ValidationError

    owner: Any = checked(kind, value, home)
    names = [item.name for item in fields(kind.type) if item.init]  # type: ignore[arg-type]
    try:
        found = TypeAdapter(kind.type).validate_python({name: getattr(owner, name) for name in names})
    except ValidationError as error:
        raise UserError(f"bad value in {kind.constant} = {kind.type.__name__}(...) of {home}: {told(error)}") from error
    if wrong := next(kind.problems(found), ""):
        raise UserError(f"the {kind.name} of {home} cannot be run: {wrong}")
    return replace(owner, **{name: getattr(found, name) for name in names})  # type: ignore[no-any-return]


def unclaimed(kind: Kind[T], value: T, known: Iterable[str], ref: str) -> T:
    """`value`, unless its name is already another's. Raises UserError."""
    name = value.name  # type: ignore[attr-defined]
    if name in known:
        raise UserError(
            f"{Path(ref).resolve()} calls its {kind.name} {name!r}, and there is another {kind.name} of that name "
            f"(`covr-bench list {kind.name}s`). Results carry only the name; give yours another."
        )
    return value


def _homes(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: f"{module.replace('.', '/')}.py" for name, module in ours.items()}


def _origin(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "an installed package"
    return f"{point.value} of {package}"
