"""The rows of one file, line by line: what is read of any line, and which lines are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from results.layout import SCHEMA, StoreError
from results.line import json_value, label_text
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT = pa.dictionary(pa.int32(), pa.string())
COLUMNS = pa.schema(
    [
        ("run_id", _TEXT),
        ("suite", _TEXT),
        ("budget", _TEXT),
        ("task", _TEXT),
        ("agent", _TEXT),
        ("variant", _TEXT),
        ("seed", pa.int64()),
        ("kind", _TEXT),
        ("env_steps", pa.int64()),
        ("agent_steps", pa.int64()),
        ("action_repeat", pa.int64()),
        ("metric", _TEXT),
        ("value", pa.float64()),
        ("episodes", pa.list_(pa.float64())),
        ("text", pa.string()),
        ("labels", _TEXT),
        ("wall_s", pa.float64()),
        ("time", pa.float64()),
        ("live", pa.bool_()),  # neither void after a resume nor written again later
    ]
)
LIVE = COLUMNS.names[-1]
MEASURED = pa.schema([COLUMNS.field(name) for name in COLUMNS.names[COLUMNS.names.index("kind") :]])  # not of the run
_NON_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_MAX_INT = 2**63

Row = tuple[Any, ...]  # the values of MEASURED without `live`


def by_line(data: bytes, path: str) -> tuple[pa.Table, list[int]]:
    """Read one file.

    Args:
        data: Its content.
        path: Its name, for errors.

    Returns:
        Its rows, as a table of `MEASURED`, and the numbers of lines that are none.

    Raises:
        StoreError: If it was written by a newer version.
    """
    rows: list[Row] = []
    bad_lines = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            try:
                rows.append(_row(line, path))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                bad_lines.append(number)
    columns = list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in MEASURED.names[:-1]]
    by_name = dict(zip(MEASURED.names, columns, strict=False))
    by_name[LIVE] = live(by_name["kind"], by_name["env_steps"], by_name["metric"])
    return pa.table(by_name, schema=MEASURED), bad_lines


def _row(line: bytes, path: str) -> Row:
    row = json_value(line)
    schema = _whole(row["schema"])
    if schema > SCHEMA:
        raise StoreError(
            f"{path} has rows of schema {schema}, this version reads up to {SCHEMA}: pip install --upgrade covr-bench"
        )
    episodes = row.get("episodes")
    return (
        _text(row["kind"]),
        _whole(row["env_steps"]),
        _whole(row["agent_steps"]),
        _whole(row["action_repeat"]),
        _text(row["metric"]),
        _number(row["value"]),
        None if episodes is None else _numbers(episodes),
        _text(row.get("text", "")),
        _labels(row["labels"]) if row.get("labels") else "",
        _number(row["wall_s"]),
        _number(row["time"]),
    )


def _labels(value: Any) -> str:
    if not isinstance(value, dict):
        raise TypeError
    return _text(label_text(value))


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_INT:  # a bool is an int, but none that Arrow takes
        raise ValueError
    return value


def _number(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool):
        raise TypeError
    return _NON_FINITE[value] if isinstance(value, str) else float(value)


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list):
        raise TypeError
    return values if set(map(type, values)) == {float} else [_number(value) for value in values]


def _text(value: Any) -> str:
    """Text that Arrow can hold: half a surrogate pair (from an undecodable file name) is escaped."""
    if not isinstance(value, str):
        raise TypeError
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def live(kinds: Sequence[str], env_steps: Sequence[int], metrics: Sequence[str]) -> list[bool]:
    """Which rows of a file count: those not beyond a later resume, and not written again later."""
    found = [False] * len(kinds)
    limit = _MAX_INT
    seen = set()
    for index in range(len(kinds) - 1, -1, -1):
        key = (kinds[index], env_steps[index], metrics[index])
        if key[1] <= limit and key not in seen:
            found[index] = True
            seen.add(key)
        if key[0] == RowKind.RESUME:
            limit = min(limit, key[1])
    return found
