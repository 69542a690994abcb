"""All runs as one table, through a Parquet cache that re-reads only what changed.

`<out>/cache/rows.parquet` holds the rows of all runs, `manifest.parquet` one line per run: size and time of the file
it was read from. Both carry the token of the rebuild that wrote them, so a pair from two rebuilds is not used.
"""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.layout import ROWS_FILE, RunId, StoreError, run_folder, scan
from results.parse import COLUMNS, Parsed, parse_run, to_table, warn_skipped

_log = logging.getLogger(__name__)
_TOKEN = b"covr_bench_cache"
_VERSION = "2"  # raise when the meaning of cached columns changes
_MANIFEST = pa.schema(
    [
        ("run_id", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
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


def load(out: str | os.PathLike[str], *, compact: bool) -> pd.DataFrame:
    """See `results.store.read`."""
    if not Path(out).is_dir():
        raise StoreError(f"there is no results folder {out}; pass the folder the runs were written to")
    runs, sizes, times = _stats(out)
    rows, manifest = _read_cache(Path(out) / "cache")
    keep = _unchanged(manifest, runs, sizes, times)
    if not keep.all() or len(keep) < len(runs):
        rows, manifest = _rebuild(out, rows, manifest, keep, runs, sizes, times)
        _write_cache(Path(out) / "cache", rows, manifest)
    skipped = manifest.filter(pc.greater(manifest["skipped"], 0))
    for line in skipped.to_pylist():
        warn_skipped(run_folder(out, line["run_id"]) / ROWS_FILE, line["skipped"], line["first_skipped"])
    return _to_frame(rows, compact)


def load_run(out: str | os.PathLike[str], run_id: RunId, *, compact: bool) -> pd.DataFrame:
    """See `results.store.read_run`."""
    parsed = parse_run(out, run_id)
    if parsed.skipped:
        warn_skipped(run_folder(out, run_id) / ROWS_FILE, parsed.skipped, parsed.first_skipped)
    return _to_frame(to_table([(run_id, parsed)]), compact)


def _stats(out: str | os.PathLike[str]) -> tuple[list[str], list[int], list[int]]:
    runs, sizes, times = [], [], []
    for run_id, stat in scan(out, ROWS_FILE):
        runs.append(run_id)
        sizes.append(stat.st_size)
        times.append(stat.st_mtime_ns)
    return runs, sizes, times


def _unchanged(manifest: pa.Table, runs: list[str], sizes: list[int], times: list[int]) -> np.ndarray[Any, Any]:
    """Whether each run of the manifest is still as it was read, bool `(num_cached_runs,)`."""
    cached = zip(*(manifest[name].to_pylist() for name in ("run_id", "size", "mtime_ns")), strict=True)
    found = set(zip(runs, sizes, times, strict=True))
    return np.fromiter((run in found for run in cached), dtype=bool, count=len(manifest))


def _rebuild(
    out: str | os.PathLike[str],
    rows: pa.Table,
    manifest: pa.Table,
    keep: np.ndarray[Any, Any],
    runs: list[str],
    sizes: list[int],
    times: list[int],
) -> tuple[pa.Table, pa.Table]:
    """Keep the unchanged runs, parse the others, and sort all in the order of `runs`."""
    kept_rows = rows.filter(pa.array(np.repeat(keep, manifest["rows"].to_numpy())))
    kept = manifest.filter(pa.array(keep))
    known = set(kept["run_id"].to_pylist())
    fresh: list[dict[str, Any]] = []

    def parse() -> Any:
        for run_id, size, mtime_ns in zip(runs, sizes, times, strict=True):
            if run_id not in known:
                parsed: Parsed = parse_run(out, RunId.parse(run_id))
                counts = {"rows": len(parsed.rows), "skipped": parsed.skipped, "first_skipped": parsed.first_skipped}
                fresh.append({"run_id": run_id, "size": size, "mtime_ns": mtime_ns, **counts})
                yield RunId.parse(run_id), parsed

    new_rows = to_table(parse())
    _log.debug("parsed %d runs, took %d from the cache", len(fresh), len(kept))
    merged = pa.concat_tables([kept, pa.Table.from_pylist(fresh, schema=_MANIFEST)])
    all_rows = pa.concat_tables([kept_rows, new_rows]).unify_dictionaries()
    if not known or not fresh:
        return all_rows, merged
    position = {run_id: index for index, run_id in enumerate(runs)}
    place = np.array([position[run_id] for run_id in merged["run_id"].to_pylist()])
    row_order = np.argsort(np.repeat(place, merged["rows"].to_numpy()), kind="stable")
    return all_rows.take(pa.array(row_order)), merged.take(pa.array(np.argsort(place)))


def _read_cache(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Cached rows and manifest; both empty if there is no valid cache."""
    try:
        manifest = pq.read_table(folder / "manifest.parquet", page_checksum_verification=True)
        rows = pq.read_table(folder / "rows.parquet", page_checksum_verification=True)
        token = (manifest.schema.metadata or {}).get(_TOKEN, b"")
        if not token.startswith(f"{_VERSION}:".encode()) or (rows.schema.metadata or {}).get(_TOKEN) != token:
            raise ValueError("rows and manifest are of different rebuilds")
        manifest, rows = manifest.replace_schema_metadata(), rows.replace_schema_metadata()
        if manifest.schema != _MANIFEST or rows.schema != COLUMNS:
            raise ValueError("columns differ")
        if sum(manifest["rows"].to_pylist()) != len(rows):
            raise ValueError("the number of rows differs from the manifest's")
    except FileNotFoundError:
        return COLUMNS.empty_table(), _MANIFEST.empty_table()
    except (OSError, ValueError, pa.ArrowException) as error:
        _log.info("the cache in %s is rebuilt: %s", folder, error)
        return COLUMNS.empty_table(), _MANIFEST.empty_table()
    return rows.cast(COLUMNS), manifest  # Parquet renames the element of a list


def _write_cache(folder: Path, rows: pa.Table, manifest: pa.Table) -> None:
    """Replace both files; a reader meanwhile finds the old pair, the new pair, or a pair that does not match."""
    token = {_TOKEN: f"{_VERSION}:{secrets.token_hex(8)}".encode()}
    try:
        folder.mkdir(exist_ok=True)
        for name, table in (("rows.parquet", rows), ("manifest.parquet", manifest)):
            temporary = folder / f"{name}.{secrets.token_hex(4)}.tmp"
            try:
                pq.write_table(table.replace_schema_metadata(token), temporary, write_page_checksum=True)
                os.replace(temporary, folder / name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"results were read, but the cache in {folder} cannot be written: {error}", stacklevel=2)


def _to_frame(rows: pa.Table, compact: bool) -> pd.DataFrame:
    if compact:
        live = rows["live"]
        rows = rows if pc.all(live).as_py() in (True, None) else rows.filter(live)
    frame: pd.DataFrame = rows.drop_columns(["live"]).to_pandas(
        types_mapper=_PANDAS_TYPES.get, split_blocks=True, self_destruct=True
    )
    return frame
