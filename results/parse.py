"""From the lines of rows.jsonl to Arrow tables."""

from __future__ import annotations

import contextlib
import os
import struct
import time
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from results.earlier import may_be_earlier, stored_budget
from results.files import read_bytes
from results.layout import PROVENANCE_FILE, ROWS_FILE, SCHEMA, RunId, StoreError, StoreWarning, run_folder
from results.line import json_value, label_text
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SETTLED_S = 2.0  # file systems whose clocks tick slower are not in use any more
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
_ROWS_PER_CHUNK = 50_000  # bounds the Python objects alive while a large store is parsed
_NON_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_MAX_INT = 2**63

Row = tuple[Any, ...]  # the values of _MEASURED


@dataclass(frozen=True)
class Parsed:
    """The rows of one file, which of them are live, how many lines are unreadable, and the number of the first.

    budget: What the run's budget is called today. content: Hash of what all this was read from.
    """

    rows: list[Row]
    live: list[bool]
    skipped: int
    first_skipped: int
    budget: str
    content: bytes


def parse_run(out: str | os.PathLike[str], run_id: RunId) -> Parsed:
    """Read one run's file. Raises StoreError if it is absent, unreadable or written by a newer version."""
    path = run_folder(out, run_id) / ROWS_FILE
    try:
        data = read_bytes(path)
        record = _record_of(out, str(run_id))
    except OSError as error:
        raise StoreError(f"cannot read run {run_id} from {path}: {error.strerror or error}") from error
    rows: list[Row] = []
    bad_lines = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            try:
                rows.append(_row(line, path))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                bad_lines.append(number)
    first_bad = bad_lines[0] if bad_lines else 0
    return Parsed(rows, _live(rows), len(bad_lines), first_bad, stored_budget(run_id, record), _content(data, record))


def content_of(out: str | os.PathLike[str], run_id: str) -> bytes:
    """Hash of all that the rows of a run depend on: its file and, where it may be an earlier version's, its record.

    Raises OSError if its file cannot be read.
    """
    return _content(read_bytes(f"{os.fspath(out)}/runs/{run_id}/{ROWS_FILE}"), _record_of(out, run_id))


def _content(rows: bytes, record: bytes) -> bytes:
    digest = blake2b(rows, digest_size=16)
    digest.update(record)
    return digest.digest()


def _record_of(out: str | os.PathLike[str], run_id: str) -> bytes:
    """The record of a run that may be an earlier version's; empty for others, and if it cannot be read."""
    with contextlib.suppress(OSError):
        if may_be_earlier(run_id):
            return read_bytes(f"{os.fspath(out)}/runs/{run_id}/{PROVENANCE_FILE}")
    return b""


def stamp_of(out: str | os.PathLike[str], run_id: str, rows: os.stat_result) -> bytes:
    """Size, inode and times of the files that `content_of` hashes; empty if one changed so lately that it may change
    again within its file system's clock.

    The time of an inode's change is set by the system alone: a program that sets back a file's own time moves it.
    rows: Of the run's file.
    """
    stats: list[os.stat_result | None] = [rows]
    if may_be_earlier(run_id):
        try:
            stats.append(os.stat(f"{os.fspath(out)}/runs/{run_id}/{PROVENANCE_FILE}"))
        except OSError:
            stats.append(None)
    parts = b""
    for found in stats:
        if found is None:
            parts += b"absent"
            continue
        if abs(time.time() - found.st_ctime) < SETTLED_S:
            return b""
        parts += struct.pack("<QQqq", found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    return parts


def warn_skipped(path: Path | str, skipped: int, first: int) -> None:
    """Warn that lines of a file were skipped."""
    lines = "1 unreadable line" if skipped == 1 else f"{skipped} unreadable lines"
    reason = f"skipped {lines}, the first is line {first} (a write was cut short)"
    warnings.warn(f"{path}: {reason}", StoreWarning, stacklevel=2)


def to_table(runs: Iterable[tuple[RunId, Parsed]]) -> pa.Table:
    """The rows of several runs, in order, as one table of `COLUMNS`."""
    chunks, pending, count = [], [], 0
    for run_id, parsed in runs:
        pending.append((run_id, parsed))
        count += len(parsed.rows)
        if count >= _ROWS_PER_CHUNK:
            chunks.append(_chunk(pending))
            pending, count = [], 0
    chunks.append(_chunk(pending))
    return pa.concat_tables(chunks).unify_dictionaries()


def _chunk(runs: list[tuple[RunId, Parsed]]) -> pa.Table:
    ids = [run_id for run_id, _ in runs]
    counts = [len(parsed.rows) for _, parsed in runs]
    lines = pa.array(np.repeat(np.arange(len(runs)), counts))  # of each row, the place of its run
    of_runs: dict[str, list[Any]] = {name: [getattr(each, name) for each in ids] for name in _OF_RUN}
    of_runs |= {"run_id": list(map(str, ids)), "budget": [parsed.budget for _, parsed in runs]}
    columns = {name: pa.array(values, COLUMNS.field(name).type).take(lines) for name, values in of_runs.items()}
    rows = [row for _, parsed in runs for row in parsed.rows]
    measured = zip(*rows, strict=True) if rows else [()] * len(_MEASURED)
    columns |= dict(zip(_MEASURED, measured, strict=True))
    columns["live"] = [each for _, parsed in runs for each in parsed.live]
    return pa.table({name: columns[name] for name in COLUMNS.names}, schema=COLUMNS)


_OF_RUN = ("suite", "task", "agent", "variant", "seed")
_MEASURED = (
    "kind", "env_steps", "agent_steps", "action_repeat", "metric", "value", "episodes", "text", "labels", "wall_s",
    "time",
)  # fmt: skip


def _row(line: bytes, path: Path) -> Row:
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


def _live(rows: list[Row]) -> list[bool]:
    """Which rows count: those not beyond a later resume, and not written again later."""
    live = [False] * len(rows)
    limit = _MAX_INT
    seen = set()
    for index in range(len(rows) - 1, -1, -1):
        kind, env_steps, metric = rows[index][0], rows[index][1], rows[index][4]
        key = (kind, env_steps, metric)
        if env_steps <= limit and key not in seen:
            live[index] = True
            seen.add(key)
        if kind == RowKind.RESUME:
            limit = min(limit, env_steps)
    return live
