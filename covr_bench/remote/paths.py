"""Paths of this machine in what is published: each is its last name, or that of a folder that matters and the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# From a slash that begins a word, but is none of an address such as `https://`. Inner folders may have brackets.
_IN_TEXT = re.compile(r"""(?<![\w.~:/*}@-])/(?:[^\s/"'`<>:;,|\\]+/)+([\w.@+=~-]+)""")
_QUOTED = re.compile(r"""(["'`])/(?:(?:(?!\1)[^\n/])+/)+((?:(?!\1)[^\n/])+)\1""")  # with spaces, too
_WHOLE = re.compile(r"/(?:[^\n/]+/)+([^\n/]+)/?")


def names_of(record: Mapping[str, Any], folders: Iterable[Path]) -> dict[str, str]:
    """By path that a record states, or folder, what stands in its place, the longest first.

    Args:
        record: JSON values.
        folders: Keep their last names also before what is in them, so that files of two folders stay apart.
    """
    own = {str(path): path.name for each in folders for path in (each.resolve(), each) if len(path.parts) > 2}
    found = dict(own)
    for text in _texts(record):
        if whole := _WHOLE.fullmatch(text):
            inside = [f"{name}{text[len(path) :]}" for path, name in own.items() if text.startswith(f"{path}/")]
            found.setdefault(text, inside[0] if inside else whole[1])
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))


def shortened(value: Any, names: Mapping[str, str]) -> Any:
    """JSON values in whose texts no whole path of this machine stands. names: from `names_of`."""
    if isinstance(value, dict):
        return {shortened(key, names): shortened(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [shortened(each, names) for each in value]
    return _shortened(value, names) if isinstance(value, str) and "/" in value else value


def shortened_lines(text: str, names: Mapping[str, str]) -> str:
    """Lines of JSON, without those that are none: nobody can read them, nor what they tell of this machine."""
    kept = []
    for line in text.splitlines(keepends=True):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        public = shortened(value, names)
        kept.append(line if public == value else f"{json.dumps(public)}\n")
    return "".join(kept)


def _shortened(text: str, names: Mapping[str, str]) -> str:
    if text in names:
        return names[text]
    for path, name in names.items():
        if path in text:
            text = re.sub(rf"{re.escape(path)}(?![\w-])", lambda _, name=name: name, text)  # type: ignore[misc]
    if whole := _WHOLE.fullmatch(text):
        return whole[1]
    return _IN_TEXT.sub(r"\1", _QUOTED.sub(r"\1\2\1", text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
