"""What an extension's `make` gives, held to its protocol before it is used."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def built(owner: str, protocol: type[T], make: Callable[..., Any], *arguments: Any) -> T:
    """What `make` gives, if it has all that the protocol promises.

    Args:
        owner: Whose it is, for errors, such as `tracker mine`.
        protocol: The methods and attributes that it is used by.
        make: An extension's own code.
        arguments: Of `make`.

    Raises:
        UserError: `make` fails, or gives something else.
    """
    try:
        found = make(*arguments)
    except UserError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{owner} cannot be made: {type(error).__name__}: {error} ({at.filename}, line {at.lineno}). Mend its code."
        ) from error
    check_promised(owner, protocol, found)
    return found  # type: ignore[no-any-return]


def check_promised(owner: str, protocol: type[Any], found: object) -> None:
    """Raises UserError if `found`, which `owner` makes, lacks something of the protocol."""
    if lacking := [name for name in promised(protocol) if not hasattr(found, name)]:
        raise UserError(
            f"{owner} makes a {type(found).__name__}, which has no {', '.join(lacking)}; "
            f"see {protocol.__module__}.{protocol.__name__}"
        )


def promised(protocol: type[Any]) -> list[str]:
    """The names of a protocol's methods and attributes, its parents' too."""
    parts = [part for part in protocol.__mro__ if part not in (Protocol, Generic, object)]
    return list(dict.fromkeys(name for part in parts for name in vars(part) if not name.startswith("_")))
