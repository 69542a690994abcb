"""Many files of rows as one table: at once by Arrow's JSON reader; what is out of the ordinary in any way, by lines."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from results.copied import check_own_seed
from results.layout import ROWS_FILE, SCHEMA, StoreError, StoreWarning, run_folder
from results.parse import COLUMNS, LIVE, MEASURED, by_line, live
from results.source import Source, read_source
from results.states import RowKind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FILES, BYTES = 256, 256 << 20  # read at a time: what Arrow takes to start is shared, and their text stays small
_MINUS_ZERO = re.compile(rb"-0(?![.\d])")
_OPTIONAL = ("episodes", "text")
_WHOLE = ("schema", *(field.name for field in MEASURED if field.type == pa.int64()))
# Arrow reads no dictionaries from JSON: they are text first.
_JSON = pa.schema(
    [
        ("schema", pa.int64()),
        *(
            (field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
            for field in MEASURED
            if field.name not in ("labels", LIVE)
        ),
    ]
)


class Read(NamedTuple):
    """A run that was read: how many rows it has, how many lines are unreadable, and the number of the first."""

    source: Source
    rows: int
    skipped: int
    first_skipped: int


def read_all(out: str | os.PathLike[str], run_ids: Iterable[str]) -> tuple[pa.Table, list[Read]]:
    """The rows of some runs, in order, as one table of `COLUMNS`, and how each was read.

    A run that cannot be read is left out, with a warning.
    """
    pending: list[Source] = []
    tables, found = [COLUMNS.empty_table()], list[Read]()

    def flush() -> None:
        table, reads = to_table(out, pending)
        tables.append(table)
        found.extend(reads)
        pending.clear()

    for run_id in run_ids:
        try:
            pending.append(source_of(out, run_id))
        except StoreError as error:
            _left_out(run_id, error)
        if len(pending) == FILES or sum(len(source.rows) for source in pending) > BYTES:
            flush()
    flush()
    return pa.concat_tables(tables).unify_dictionaries(), found


def source_of(out: str | os.PathLike[str], run_id: str) -> Source:
    """Read one run's files. Raises StoreError if it is absent or unreadable, or a copy of another seed's."""
    check_own_seed(out, run_id)
    try:
        return read_source(out, run_id)
    except OSError as error:
        path = run_folder(out, run_id) / ROWS_FILE
        raise StoreError(f"cannot read run {run_id} from {path}: {error.strerror or error}") from error


def to_table(
    out: str | os.PathLike[str], sources: Sequence[Source], *, strict: bool = False
) -> tuple[pa.Table, list[Read]]:
    """The rows of runs that were read.

    Args:
        out: Folder of the results, for messages.
        sources: The runs.
        strict: Whether a file of a newer version is an error; else it is left out, with a warning.

    Raises:
        StoreError: As `strict` says.
    """
    measured, reads = [MEASURED.empty_table()], list[Read]()
    for group in _ordinary_groups(sources):
        for table, part in _read(out, group, strict):
            measured.append(table)
            reads += part
    lines = pa.array(
        np.repeat(np.arange(len(reads)), [each.rows for each in reads])
    )  # of each row, the place of its run
    table = pa.concat_tables(measured)
    own = {name: pa.array(values, COLUMNS.field(name).type).take(lines) for name, values in _of_runs(reads).items()}
    columns = own | {name: table[name] for name in MEASURED.names}
    return pa.table([columns[name] for name in COLUMNS.names], schema=COLUMNS), reads


def _of_runs(reads: Sequence[Read]) -> dict[str, list[Any]]:
    """The columns that a run's id tells, a value for each run. Ids are those of `results.layout.scan`: whole ones."""
    found: dict[str, list[Any]] = {name: [] for name in COLUMNS.names if name not in MEASURED.names}
    for each in reads:
        run_id = each.source.run_id
        protocol, task, name, seed = run_id.split("/")
        agent, _, variant = name.partition("-")
        suite = protocol.partition("@")[0]
        values = (run_id, suite, each.source.budget, task, agent, variant, int(seed))
        for column, value in zip(found.values(), values, strict=True):
            column.append(value)
    return found


def _ordinary_groups(sources: Sequence[Source]) -> list[list[Source]]:
    """The files in order, those that may be read at once together, each other by itself."""
    groups: list[list[Source]] = []
    together = False
    for source in sources:
        ordinary = _is_ordinary(source.rows)
        if ordinary and together:
            groups[-1].append(source)
        else:
            groups.append([source])
        together = ordinary
    return groups


def _is_ordinary(data: bytes) -> bool:
    """Whether Arrow, if it reads a file at all, reads what `by_line` does.

    Each line holds one object without another in it, and at most one list: Arrow would take two objects of a line for
    two rows, ends at a NUL, and nests without limit. It does not tell null from a key that is missing. Labels have keys
    of their own. Minus zero is 0 as a whole number.
    """
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    return (
        data[:1] == b"{"
        and data.count(b"{") == lines == data.count(b"\n{") + 1
        and data.count(b"[") <= lines
        and data.isascii()
        and not any(odd in data for odd in (b'"labels"', b"null", b"\\u", b"\0"))
        and not (b"-0" in data and _MINUS_ZERO.search(data))
    )


def _read(out: str | os.PathLike[str], sources: Sequence[Source], strict: bool) -> list[tuple[pa.Table, list[Read]]]:
    """The rows of some files as tables of `MEASURED`: at once, else of each half of them, down to one file by lines."""
    if _is_ordinary(sources[0].rows) and (found := _at_once(sources)):
        return [found]
    if len(sources) > 1:
        middle = len(sources) // 2
        return [*_read(out, sources[:middle], strict), *_read(out, sources[middle:], strict)]
    source = sources[0]
    try:
        table, bad = by_line(source.rows, str(run_folder(out, source.run_id) / ROWS_FILE))
    except StoreError as error:
        if strict:
            raise
        _left_out(source.run_id, error)
        return []
    return [(table, [Read(source, len(table), len(bad), bad[0] if bad else 0)])]


def _at_once(sources: Sequence[Source]) -> tuple[pa.Table, list[Read]] | None:
    """Ordinary files, if every line of them is a row that `by_line` would read."""
    from pyarrow import json

    texts = [source.rows if source.rows.endswith(b"\n") else source.rows + b"\n" for source in sources]
    data = b"".join(texts)
    try:
        table = json.read_json(
            pa.BufferReader(data),
            read_options=json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=json.ParseOptions(explicit_schema=_JSON, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowException, ValueError, OverflowError):  # a block of 2 GiB is none of Arrow's
        return None
    counts = [text.count(b"\n") for text in texts]
    required = [name for name in _JSON.names if name not in _OPTIONAL]
    if len(table) != sum(counts) or any(table[name].null_count for name in required):
        return None
    if any(pc.min(table[name]).as_py() < 0 for name in _WHOLE) or pc.max(table["schema"]).as_py() > SCHEMA:
        return None
    if not all(_finite(table[field.name]) for field in _JSON if field.name == "episodes" or field.type == pa.float64()):
        return None  # too many digits, which `by_line` may refuse
    table = table.set_column(table.schema.get_field_index("text"), "text", pc.fill_null(table["text"], ""))
    none = pa.DictionaryArray.from_arrays(np.zeros(len(table), np.int32), pa.array([""]))
    columns = {"labels": none, LIVE: _live(table, counts)}
    columns |= {name: table[name] for name in table.schema.names}
    columns |= {name: table[name].dictionary_encode() for name in ("kind", "metric")}
    measured = pa.table([columns[name] for name in MEASURED.names], schema=MEASURED)
    return measured, [Read(source, count, 0, 0) for source, count in zip(sources, counts, strict=True)]


def _finite(column: pa.ChunkedArray) -> bool:
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return bool(pc.all(pc.is_finite(values)).as_py() in (True, None))


def _live(table: pa.Table, counts: Sequence[int]) -> list[bool]:
    """`live` of each of several files. counts: rows of each."""
    key = ["kind", "env_steps", "metric"]
    file = pa.array(np.repeat(np.arange(len(counts)), counts))
    keys = table.select(key).append_column("file", file)
    resumed = pc.any(pc.equal(table["kind"], RowKind.RESUME.value)).as_py()
    if not resumed and len(keys.group_by([*key, "file"]).aggregate([])) == len(table):
        return [True] * len(table)
    kinds, steps, metrics = (table[name].to_pylist() for name in key)
    ends = np.cumsum(counts).tolist()
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return [each for part in parts for each in live(kinds[part], steps[part], metrics[part])]


def _left_out(run_id: str, error: StoreError) -> None:
    warnings.warn(f"run {run_id} is left out: {error}", StoreWarning, stacklevel=2)


def warn_skipped(path: Path | str, skipped: int, first: int) -> None:
    """Warn that lines of a file were skipped."""
    lines = "1 unreadable line" if skipped == 1 else f"{skipped} unreadable lines"
    reason = f"skipped {lines}, the first is line {first} (a write was cut short, or something else wrote it)"
    warnings.warn(f"{path}: {reason}", StoreWarning, stacklevel=2)
