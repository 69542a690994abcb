"""Settings of an extension, from the text of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from covr_bench.kit.errors import UserError, told, unknown


def settings_of(owner: str, Settings: type[Any], given: Mapping[str, str]) -> Any:
    """An extension's settings: its defaults, and over them what the user gave.

    Args:
        owner: Whose they are, for errors, such as `launcher local`.
        Settings: A dataclass with a default for each.
        given: Values as typed, by name.

    Raises:
        UserError: A name that is none of its settings, or a value of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    names = [item.name for item in fields(Settings)]
    for name in given:
        if name not in names:
            raise unknown(f"setting of {owner}", name, names)
    try:
        return TypeAdapter(Settings).validate_python(dict(given))
    except ValidationError as error:
        raise UserError(f"bad setting of {owner}: {told(error)}") from error
