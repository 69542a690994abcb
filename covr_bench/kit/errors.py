"""Errors whose message is meant for the person at the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave or their machine lacks; the message says what, and how to mend it."""


def unknown(what: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that is not one of `valid`: nearest names first, then all."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{hint} Valid: {', '.join(names) or 'none'}.")
