"""All runs as one table, through a Parquet cache that re-reads only what changed.

`<out>/cache/rows.parquet` holds the rows of all runs, `manifest.parquet` one line per run: the hash of what it was read
from, and the stamp of those files, without a change of which they are not hashed again. `seal` is the hash of both, so
that neither a damaged file nor a pair of two rebuilds is used.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.batch import read_all, source_of, to_table, warn_skipped
from results.files import read_bytes, write_bytes
from results.layout import PROVENANCE_FILE, ROWS_FILE, RunId, StoreError, StoreWarning, run_folder, run_ids, scan
from results.lost import without_rows
from results.parse import COLUMNS, LIVE
from results.provenance import is_written, read
from results.source import read_source, stamp_of
from results.states import Status

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_log = logging.getLogger(__name__)
_FILES = ("rows.parquet", "manifest.parquet")
_VERSION = "4"  # raise when the meaning of cached columns changes
_MANIFEST = pa.schema(
    [
        ("run_id", pa.string()),
        ("content", pa.binary(16)),
        ("stamp", pa.binary()),
        ("rows", pa.int64()),
        ("skipped", pa.int64()),
        ("first_skipped", pa.int64()),
    ]
)
# Arrow's own types where pandas would make one Python object per row.
_PANDAS_TYPES = {
    pa.string(): pd.ArrowDtype(pa.string()),
    COLUMNS.field("episodes").type: pd.ArrowDtype(COLUMNS.field("episodes").type),
}


def load(out: str | os.PathLike[str], *, compact: bool, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """See `results.store.read`."""
    if not Path(out).is_dir():
        raise StoreError(f"there is no results folder {out}; pass the folder the runs were written to")
    rows, before = _read_cache(Path(out) / "cache", columns)
    stamps = {run_id: stamp_of(out, run_id, stat) for run_id, stat in scan(out, ROWS_FILE)}
    contents = _contents(out, stamps, before)
    keep = _unchanged(before, contents)
    changed = not keep.all() or len(keep) < len(stamps)
    manifest = _stamped(before, stamps)
    if columns is not None and (changed or not manifest.equals(before)):  # a cache is written with all columns
        return load(out, compact=compact)[list(columns)]
    if changed:
        rows, manifest = _rebuild(out, rows, before, keep, list(stamps))
        manifest = _stamped(manifest, stamps)
    if not manifest.equals(before):  # else all that differs is a run that cannot be read
        _write_cache(Path(out) / "cache", rows, manifest)
    skipped = manifest.filter(pc.greater(manifest["skipped"], 0))
    for line in skipped.to_pylist():
        warn_skipped(run_folder(out, line["run_id"]) / ROWS_FILE, line["skipped"], line["first_skipped"])
    emptied = manifest.filter(pc.equal(manifest["rows"], 0))["run_id"].to_pylist()
    _warn_emptied(out, [*emptied, *(run_id for run_id in run_ids(out) if run_id not in stamps)])
    return _to_frame(rows, compact) if columns is None else _to_frame(rows, compact)[list(columns)]


def _warn_emptied(out: str | os.PathLike[str], emptied: Sequence[str]) -> None:
    """Name the runs that began and have no row, unless they are being written: tables would omit them in silence."""
    for run_id in emptied:
        with contextlib.suppress(StoreError):  # a damaged record is told of where records are read
            if problem := _why_empty(out, run_id):
                warnings.warn(f"run {run_id} {problem}", StoreWarning, stacklevel=3)


def _why_empty(out: str | os.PathLike[str], run_id: str) -> str:
    """What is said of a run without a row; empty where none is to be expected. Raises StoreError."""
    folder = run_folder(out, run_id)
    if not (folder / PROVENANCE_FILE).exists():  # it never began
        return ""
    status = read(folder / PROVENANCE_FILE)["status"]
    if status == Status.FINISHED:
        return f"is left out: {without_rows(folder)}"
    if status == Status.RUNNING and is_written(out, run_id):
        return ""
    state = Status.INTERRUPTED if status == Status.RUNNING else status
    return f"has no row yet ({state}), and no number counts it; the command that began it goes on with it"


def load_none() -> pd.DataFrame:
    """See `results.store.no_rows`."""
    return _to_frame(COLUMNS.empty_table(), compact=False)


def load_run(out: str | os.PathLike[str], run_id: RunId, *, compact: bool) -> pd.DataFrame:
    """See `results.store.read_run`."""
    table, (read,) = to_table(out, [source_of(out, str(run_id))], strict=True)
    if read.skipped:
        warn_skipped(run_folder(out, run_id) / ROWS_FILE, read.skipped, read.first_skipped)
    return _to_frame(table.unify_dictionaries(), compact)


def _contents(out: str | os.PathLike[str], stamps: dict[str, bytes], manifest: pa.Table) -> dict[str, bytes]:
    """By run of the manifest that is still there the hash of its files; none of a file that cannot be read."""
    contents: dict[str, bytes] = {}
    cached = zip(*(manifest[name].to_pylist() for name in ("run_id", "stamp", "content")), strict=True)
    for run_id, stamp, content in cached:
        if stamp and stamps.get(run_id) == stamp:
            contents[run_id] = content
        elif run_id in stamps:
            with contextlib.suppress(OSError):  # `_rebuild` says so
                contents[run_id] = read_source(out, run_id).content
    return contents


def _stamped(manifest: pa.Table, stamps: dict[str, bytes]) -> pa.Table:
    """The manifest with the stamps that its runs' files had before they were read."""
    column = pa.array([stamps.get(run_id, b"") for run_id in manifest["run_id"].to_pylist()], pa.binary())
    return manifest.set_column(manifest.schema.get_field_index("stamp"), _MANIFEST.field("stamp"), column)


def _unchanged(manifest: pa.Table, contents: dict[str, bytes]) -> np.ndarray[Any, Any]:
    """Whether each run of the manifest is still as it was read, bool `(num_cached_runs,)`."""
    cached = zip(manifest["run_id"].to_pylist(), manifest["content"].to_pylist(), strict=True)
    return np.fromiter((contents.get(run) == content for run, content in cached), dtype=bool, count=len(manifest))


def _rebuild(
    out: str | os.PathLike[str],
    rows: pa.Table,
    manifest: pa.Table,
    keep: np.ndarray[Any, Any],
    runs: list[str],
) -> tuple[pa.Table, pa.Table]:
    """Keep the unchanged runs, read the others, and sort all in the order of `runs`.

    A run that cannot be read is left out, with a warning.
    """
    kept = manifest.filter(pa.array(keep))
    known = set(kept["run_id"].to_pylist())
    new_rows, fresh = read_all(out, (run_id for run_id in runs if run_id not in known))
    _log.debug("read %d runs, took %d from the cache", len(fresh), len(kept))
    columns = {"run_id": [each.source.run_id for each in fresh], "content": [each.source.content for each in fresh]}
    columns |= {"stamp": [b""] * len(fresh)}  # `_stamped` has them
    columns |= {name: [getattr(each, name) for each in fresh] for name in ("rows", "skipped", "first_skipped")}
    added = pa.table(columns, schema=_MANIFEST)
    if not known:
        return new_rows, added
    kept_rows = rows.filter(pa.array(np.repeat(keep, manifest["rows"].to_numpy())))
    merged = pa.concat_tables([kept, added])
    all_rows = pa.concat_tables([kept_rows, new_rows]).unify_dictionaries()
    if not fresh:
        return all_rows, merged
    position = {run_id: index for index, run_id in enumerate(runs)}
    place = np.array([position[run_id] for run_id in merged["run_id"].to_pylist()])
    row_order = np.argsort(np.repeat(place, merged["rows"].to_numpy()), kind="stable")
    return all_rows.take(pa.array(row_order)), merged.take(pa.array(np.argsort(place)))


def _read_cache(folder: Path, columns: Sequence[str] | None) -> tuple[pa.Table, pa.Table]:
    """Cached rows, of some columns or of all, and manifest; both empty if there is no valid cache."""
    wanted = pa.schema([field for field in COLUMNS if columns is None or field.name in (*columns, LIVE)])
    try:
        files = [read_bytes(folder / name) for name in _FILES]
        if read_bytes(folder / "seal") != _seal(files):
            raise ValueError("it is damaged, or of two rebuilds")
        of_rows, of_manifest = (pq.ParquetFile(pa.BufferReader(data)) for data in files)
        rows, manifest = of_rows.read(wanted.names, use_threads=False), of_manifest.read(use_threads=False)
        if manifest.schema != _MANIFEST or of_rows.schema_arrow != COLUMNS or rows.schema != wanted:
            raise ValueError("columns differ")
        if sum(manifest["rows"].to_pylist()) != len(rows):
            raise ValueError("the number of rows differs from the manifest's")
    except FileNotFoundError:
        return wanted.empty_table(), _MANIFEST.empty_table()
    except (OSError, ValueError, pa.ArrowException) as error:
        _log.info("the cache in %s is rebuilt: %s", folder, error)
        return wanted.empty_table(), _MANIFEST.empty_table()
    return rows.cast(wanted), manifest  # Parquet renames the element of a list


def _write_cache(folder: Path, rows: pa.Table, manifest: pa.Table) -> None:
    """Replace the files; a reader meanwhile finds the old ones, the new ones, or some that do not match their seal."""
    files = []
    for table in (rows, manifest):
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        files.append(buffer.getvalue().to_pybytes())
    try:
        folder.mkdir(exist_ok=True)
        for name, data in (*zip(_FILES, files, strict=True), ("seal", _seal(files))):
            write_bytes(folder / name, data)
    except OSError as error:
        unwritten = f"results were read, but the cache in {folder} cannot be written: {error}"
        warnings.warn(unwritten, StoreWarning, stacklevel=2)


def _seal(files: Sequence[bytes]) -> bytes:
    digest = blake2b(_VERSION.encode(), digest_size=16)
    for data in files:
        digest.update(data)
    return digest.hexdigest().encode()


def _to_frame(rows: pa.Table, compact: bool) -> pd.DataFrame:
    if compact:
        live = rows["live"]
        rows = rows if pc.all(live).as_py() in (True, None) else rows.filter(live)
    frame: pd.DataFrame = rows.drop_columns(["live"]).to_pandas(
        types_mapper=_PANDAS_TYPES.get, split_blocks=True, self_destruct=True
    )
    return frame
