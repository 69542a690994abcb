"""A setting's text as a value of its type: as Python has it, else as JSON has it: `[3, 4]`, `{"a": 1}`, `null`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import TypeAdapter

    from covr_bench.kit.api import AgentSpec

NOTHING = "null"
_LIST = ", written as [3, 4]"
_WRITTEN = dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), _LIST) | {
    "dict_type": ', written as {"a": 1}',
    "dataclass_type": ', written as {"a": 1}',
}  # what pydantic's errors do not tell, by their types


def typed(kind: Any, value: Any) -> Any:
    """The value as JSON has it, or what its text says. Raises pydantic's ValidationError."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    try:
        found = adapter.validate_python(value)
    except ValidationError as error:
        try:
            found = adapter.validate_json(value if isinstance(value, str) else "")
        except ValidationError:
            raise error from None
    return adapter.dump_python(found, mode="json")


def checked_config(spec: AgentSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of an agent's Config that is made with some values, JSON values. Raises UserError for a bad one."""
    from pydantic import TypeAdapter, ValidationError

    try:
        adapter = TypeAdapter(spec.Config)
        config: dict[str, Any] = adapter.dump_python(_validated(adapter, values), mode="json")
        again: dict[str, Any] = adapter.dump_python(adapter.validate_python(config), mode="json")
    except ValidationError as error:
        # A default that follows from a bad setting is no second error.
        errors = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        places = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: " if e["loc"] else "" for e in errors]
        lines = [place + e["msg"] + _WRITTEN.get(e["type"], "") for place, e in zip(places, errors, strict=True)]
        raise UserError(f"bad setting of {spec.name}: " + "; ".join(lines)) from error
    except Exception as error:  # of a user's own __post_init__
        raise UserError(f"bad setting of {spec.name}: its Config raised {type(error).__name__}: {error}") from error
    # What is recorded is what agents are made with, and a policy years later.
    if changing := [name for name, value in config.items() if json.dumps(value) != json.dumps(again.get(name))]:
        raise UserError(
            f"bad setting of {spec.name}: its Config changes {', '.join(changing)} each time it is made of its own "
            "values; derive in the agent what follows from settings, or under another name"
        )
    return config


def _validated(adapter: TypeAdapter[Any], values: Mapping[str, Any]) -> Any:
    """The Config. Texts that its fields do not take are read as JSON; `null` is None where a field takes that."""
    from pydantic import ValidationError

    wanted = {key: None if value == NOTHING else value for key, value in values.items()}
    try:
        return adapter.validate_python(wanted)
    except ValidationError as error:
        read = dict(wanted)
        for key in {str(e["loc"][0]) for e in error.errors() if e["loc"]} & wanted.keys():
            if values[key] == NOTHING:
                read[key] = NOTHING
            elif isinstance(values[key], str):
                with suppress(ValueError):
                    read[key] = json.loads(values[key])
        if read == wanted:
            raise
        try:
            return adapter.validate_python(read)
        except ValidationError:
            return adapter.validate_python(dict(values))  # whose message has what was typed
