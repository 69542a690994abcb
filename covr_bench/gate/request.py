"""What was asked of `covr-bench gate`: on the command line, or in `[tool.covr-bench.gate]` of a pyproject.toml."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Lt

from covr_bench.config.request import Kernel, by_name
from covr_bench.gate import revisions
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError, told, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

REFERENCE = "reference"  # what `against` calls those that ship with the package
TABLE = "[tool.covr-bench.gate]"
_NOTHING: tuple[Any, ...] = ((), [], {})  # options that were not given; 0 is a value


@dataclass(frozen=True)
class GateRequest:
    """The options of `covr-bench gate`.

    Attributes:
        agent: Names, or paths of files.
        against: `reference`, a folder of references, the URL of a store that has some, or a git revision.
        suite: Name or path. task: Of it; all that it has where empty.
        set: Settings of the agents, as `covr-bench run --set` takes them.
        margin: Loss of mean training return that does not matter, by task; a tenth of the task's range where not given.
        at_least: Mean training return that has to be reached, by task.
        alpha: Chance that the command alarms where nothing has changed.
        max_minutes: Time for it all.
        allow_change: Pass a change that is not worse.
        no_probe: Leave out the second question.
        bless: Why the new side becomes the reference.
        workers: Runs at a time. conv_kernel: What convolves on a CPU. out: Folder for its runs and reports.
    """

    agent: tuple[str, ...]
    against: str = REFERENCE
    suite: str = "catch"
    task: tuple[str, ...] = ()
    set: dict[str, str] = field(default_factory=dict)
    margin: dict[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    at_least: dict[str, float] = field(default_factory=dict)
    alpha: Annotated[float, Gt(0), Lt(0.5)] = 0.05
    max_minutes: Annotated[float, Gt(0)] | None = None
    allow_change: bool = False
    no_probe: bool = False
    bless: str = ""
    workers: Annotated[int, Ge(1)] | None = None
    conv_kernel: Kernel = "auto"
    out: str = "results/gate"


def request(given: Mapping[str, Any], folder: Path) -> GateRequest:
    """What the command line says, and where it is silent the pyproject.toml of a folder or of one above it.

    Args:
        given: By field; None, False and empty collections for what was not said.
        folder: Where the command was given.

    Raises:
        UserError: No agent is named, an unknown key, an empty text, or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    table, file = _table(folder)
    valid = [item.name for item in fields(GateRequest)]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if (name := key.replace("-", "_")) not in valid:
            raise unknown(f"key of {TABLE} in {file}", name, valid)
        if name in values:
            raise UserError(f"{TABLE} in {file} gives {name!r} twice; leave one out")
        values[name] = value
    said = {key: value for key, value in given.items() if not (value is None or value is False or value in _NOTHING)}
    if file.parent != folder.resolve():
        values = _from_home(values, file.parent, blesses="bless" in values or "bless" in said)
    values |= said
    for key, value in values.items():
        if value == "" or (isinstance(value, (list, tuple)) and "" in value):
            option = "--" + key.replace("_", "-")
            raise UserError(f"{option} is empty, as an unset variable is: give it a value, or leave it out")
    for key in ("against", "out"):
        if str(values.get(key, "")).startswith("~"):
            values[key] = str(Path(values[key]).expanduser())
    if not values.get("agent"):
        raise UserError(f"no agent named: give --agent, or agent = [...] in {TABLE} of a pyproject.toml")
    if isinstance(values["agent"], str):
        values["agent"] = [values["agent"]]
    values["set"] = by_name("set", values.get("set"))
    try:
        return TypeAdapter(GateRequest).validate_python(values)
    except ValidationError as error:
        raise UserError(f"bad value for the gate: {told(error)}") from error


def _from_home(values: Mapping[str, Any], home: Path, *, blesses: bool) -> dict[str, Any]:
    """The values of a table with whole paths: they count from its file's folder, wherever the command is given."""

    def whole(value: Any, always: bool = False) -> Any:
        is_one = isinstance(value, str) and value and (always or is_path(value))
        return str(home / Path(value).expanduser()) if is_one else value

    found = {name: whole(value, name == "out") for name, value in values.items()}
    if isinstance(found.get("agent"), list):
        found["agent"] = [whole(agent) for agent in found["agent"]]
    if isinstance(found.get("set"), dict):
        found["set"] = {name: whole(value) for name, value in found["set"].items()}
    against = found.get("against")
    if isinstance(against, str) and against != REFERENCE and "://" not in against:
        is_new = blesses and not revisions.exists(home, against)  # a folder that is yet to be made
        found["against"] = whole(against, is_new or (home / Path(against).expanduser()).is_dir())
    return found


def _table(folder: Path) -> tuple[dict[str, Any], Path]:
    """The table of the nearest pyproject.toml that has one, and the file; an empty one if there is none."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        file = parent / "pyproject.toml"
        if file.is_file():
            try:
                found = tomllib.loads(file.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise UserError(f"cannot read {file}: {error}") from error
            table: Any = found
            for name in ("tool", "covr-bench", "gate"):
                table = table.get(name, {}) if isinstance(table, dict) else table
            if not isinstance(table, dict):
                raise UserError(f"{TABLE} in {file} is {table!r}; it should be a table, such as agent = ['drqv2']")
            if table:
                return table, file
    return {}, folder / "pyproject.toml"
