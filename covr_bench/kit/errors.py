"""Errors whose message is meant for the person at the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """Something the user gave or their machine lacks; the message says what, and how to mend it."""


class Note(UserWarning):
    """Something the person at the terminal should know; the command line prints it as a note, once."""


MANY = 100  # names: more than a person reads; the settings of two agents are fewer


def unknown(what: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`: nearest names first, then all, unless they are very many."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listed = ", ".join(names) if len(names) <= MANY else f"{len(names)} names, see `covr-bench list`"
    return UserError(f"unknown {what} {name!r}.{hint} Valid: {listed or 'none'}.")


SHOWN = 80  # characters of a bad value: as much as tells which it is


def told(error: ValidationError) -> str:
    """What was found wrong, such as `lr = -1: Input should be greater than 0`, each thing once."""
    found = [(".".join(map(str, each["loc"])), repr(each["input"])[:SHOWN], each["msg"]) for each in error.errors()]
    return "; ".join(dict.fromkeys(f"{name} = {value}: {message}" for name, value, message in found))
