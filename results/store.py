"""The store: one append-only rows.jsonl per run is the truth; everything else is derived from it.

`RunWriter` writes one run, `read` returns all runs as one table. docs/store.md has the schema and the guarantees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from results.layout import RunId, StoreError, run_folder
from results.lock import writer_pid
from results.states import RowKind, Status
from results.writer import KINDS, RunWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pandas as pd

__all__ = [
    "KINDS", "RowKind", "RunId", "RunWriter", "Status", "StoreError", "no_rows", "read", "read_run", "run_folder",
    "writer_pid",
]  # fmt: skip


def read(
    out: str | os.PathLike[str] = "results", *, compact: bool = True, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """All rows of all runs under `out`. Half-written lines are skipped with one warning per file.

    Args:
        out: Folder of the results.
        compact: Leave out rows that a later `resume` made void, and all but the last of rows with the same kind,
            env_steps and metric.
        columns: Those to return, all if None: without the episodes a large store is read sooner.

    Returns:
        Rows ordered by run and, within a run, as written. Columns: run_id, suite, budget, task, agent, variant, kind,
        metric, labels (categorical text; labels are `k=v,k=v` sorted, "" for none), seed, env_steps, agent_steps,
        action_repeat (int64), value (float64, in the metric's unit), wall_s (float64, seconds), time (float64, Unix
        seconds), episodes (Arrow list of float64, missing where there are none), text (Arrow string, "" for none).

    Raises:
        StoreError: If `out` does not exist, or a file was written by a newer version.
    """
    from results.cache import load

    return load(out, compact=compact, columns=columns)


def no_rows() -> pd.DataFrame:
    """A table like that of `read`, without a row."""
    from results.cache import load_none

    return load_none()


def read_run(out: str | os.PathLike[str], run_id: RunId | str, *, compact: bool = True) -> pd.DataFrame:
    """The rows of one run, straight from its file.

    Args:
        out: Folder of the results.
        run_id: The run.
        compact: As of `read`.

    Returns:
        Rows with the columns of `read`.

    Raises:
        ValueError: If `run_id` is no run id.
        StoreError: If the run has no file, or it was written by a newer version.
    """
    from results.cache import load_run

    return load_run(out, run_id if isinstance(run_id, RunId) else RunId.parse(run_id), compact=compact)
