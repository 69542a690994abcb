"""Lines that others wrote: CSV and JSON read strictly, and each checked as a score. Every complaint names its place."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from analysis.grids import unguarded
from results.layout import StoreWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

REQUIRED = ("agent", "task", "seed", "env_steps", "return")
OPTIONAL = {"suite": "scores", "budget": "given", "variant": "", "labels": "", "action_repeat": 1}
_MAX_WHOLE = 2**63 - 1  # of the store's columns


class ScoresError(Exception):
    """A file of scores cannot be read. The message names the file and line, and what is expected."""


class ScoresWarning(StoreWarning):
    """A file of scores was not read as it stands. The message names it and says how."""


def csv_lines(text: Iterable[str], file: Path, before: int = 0) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and values of each line of a CSV table.

    Args:
        text: The table's lines, the first of which names the columns.
        file: Where they are from.
        before: How many lines of the file were read before these.

    Raises:
        ScoresError: For two columns of one name, other separators, or lines of another length than the first.
    """
    reader = csv.DictReader(text, skipinitialspace=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise ScoresError(f"{file}: the header has two columns {', '.join(map(repr, twice))}; rename one")
    separator = next((each for each in ";\t" if len(header) == 1 and each in header[0]), "")
    if separator:
        raise ScoresError(
            f"{file}: columns are separated by {separator!r}; save it with ',' between columns and '.' in numbers"
        )
    for line in reader:
        where = f"{file}:{before + reader.line_num}"
        if None in line or None in line.values():
            raise ScoresError(f"{where}: not as many values as the header has columns, which is {len(header)}")
        if not any(line.values()):  # `,,,`, an empty line of a spreadsheet
            continue
        yield where, {name: unguarded(value) for name, value in line.items()}


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """Place and value of each line of JSON that is not blank. Raises ScoresError for one that is none."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield f"{file}:{number}", json_value(line, f"{file}:{number}")


def not_utf8(file: Path, error: UnicodeDecodeError) -> ScoresError:
    """What to tell of a file in another encoding, such as the UTF-16 of some spreadsheets."""
    return ScoresError(f"{file} is not a table in UTF-8 text, save it as UTF-8: {error}")


def json_value(text: str | bytes, where: str) -> Any:
    """The value that JSON text states. Raises ScoresError for other text, and for two entries of one name."""
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ScoresError(f"{where} is not JSON: {error.msg} (character {error.pos + 1})") from error
    except (ValueError, RecursionError) as error:
        raise ScoresError(f"{where} is not JSON: {error}") from error
    except ScoresError as error:
        raise ScoresError(f"{where}: {error}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose last of two equal names would win unseen."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ScoresError(f"an object has two entries {', '.join(map(repr, twice))}; rename one")
    return dict(pairs)


def checked_line(line: Any, where: str) -> dict[str, Any]:
    """One line with every column, each value of its type. Raises ScoresError."""
    if not isinstance(line, dict):
        raise ScoresError(f"{where}: not an object with {', '.join(REQUIRED)}")
    missing = [name for name in REQUIRED if name not in line]
    if missing:
        raise ScoresError(
            f"{where}: no {', '.join(missing)}; needed are {', '.join(REQUIRED)}, there are {', '.join(map(str, line))}"
        )
    checked = {name: default if line.get(name) in (None, "") else line[name] for name, default in OPTIONAL.items()}
    checked |= line | {name: checked[name] for name in OPTIONAL} | {"where": where}
    for name in ("suite", "budget", "labels", "task", "agent", "variant"):
        checked[name] = _name(checked[name], name, where)
    for name, least in (("seed", 0), ("env_steps", 0), ("action_repeat", 1)):
        checked[name] = whole(checked[name], name, where, least)
    checked["return"] = _number(checked["return"], where)
    return checked


def whole(value: Any, column: str, where: str, least: int = 0) -> int:
    """A whole number from `least` on, exactly as written: seeds may have more digits than a float.

    Raises ScoresError for anything else.
    """
    try:
        number = Decimal("nan") if isinstance(value, bool) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        number = Decimal("nan")
    if not (number.is_finite() and least <= number <= _MAX_WHOLE and number == int(number)):
        most = f", at most {_MAX_WHOLE:,}" if number.is_finite() and number > _MAX_WHOLE else ""
        raise ScoresError(f"{where}: {column} is {_short(value)}; a whole number, {least} or more{most}, is needed")
    return int(number)


def _name(value: Any, column: str, where: str) -> str:
    text = "" if value is None else str(value).strip()
    if column == "labels":
        return _labels(value, text, where)
    if isinstance(value, (dict, list)) or not text.isprintable() or not (text or column == "variant"):
        raise ScoresError(f"{where}: {column} is {_short(value)}; a name of printable characters is needed")
    return text


def _labels(value: Any, text: str, where: str) -> str:
    parts = [[each.strip() for each in part.split("=")] for part in text.split(",") if text]
    if isinstance(value, (dict, list)) or not text.isprintable() or not all(len(p) == 2 and all(p) for p in parts):
        raise ScoresError(f"{where}: labels are {_short(value)}; expected k=v,k=v")
    return ",".join(sorted(map("=".join, parts)))


def _number(value: Any, where: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ScoresError(f"{where}: return is {_short(value)}; a number or nan is needed")


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**100 else "a number of more than 100 digits"
    return text if len(text) <= 200 else f"{text[:200]}..."
