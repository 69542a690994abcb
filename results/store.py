"""The store: one append-only rows.jsonl per run is the truth; everything else is read from it.

`RunWriter` writes one run, `read` gives any number of runs as one table. Schema and guarantees: docs/store.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from results.layout import RunId, StoreError, run_folder
from results.writer import KINDS, RunWriter, writer_pid

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["KINDS", "RunId", "RunWriter", "StoreError", "read", "read_run", "run_folder", "writer_pid"]


def read(out: str | os.PathLike[str] = "results", *, compact: bool = True) -> pd.DataFrame:
    """All rows of all runs under `out`, ordered by run and, within a run, as written.

    Columns: run_id, suite, budget, task, agent, variant, kind, metric, labels (categorical text), seed, env_steps,
    agent_steps, action_repeat (int64), value, wall_s, time (float64), episodes (Arrow list of float64, missing where
    there are none), text (Arrow string, "" for none). labels is `k=v,k=v` sorted, "" for none.
    compact: leave out rows that a later `resume` made void and all but the last of rows with the same kind,
    env_steps and metric. Half-written lines are skipped with one warning per file.
    Raises StoreError when `out` does not exist or a file was written by a newer version.
    """
    from results.cache import load

    return load(out, compact=compact)


def read_run(out: str | os.PathLike[str], run_id: RunId | str, *, compact: bool = True) -> pd.DataFrame:
    """The rows of one run, as `read` gives them, straight from its file. Raises StoreError when it has none."""
    from results.cache import load_run

    return load_run(out, run_id if isinstance(run_id, RunId) else RunId.parse(run_id), compact=compact)
