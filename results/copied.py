"""Runs whose folder is a copy of another seed's: one run would count as two."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from results.files import read_bytes
from results.layout import PROVENANCE_FILE, RunId, StoreError, run_folder

if TYPE_CHECKING:
    import os

_RUN_ID = re.compile(rb'^  "run_id": "([^"\n]+)"', re.MULTILINE)  # of the record itself, as it is written


def check_own_seed(out: str | os.PathLike[str], run_id: str) -> None:
    """Raises StoreError if the record in the folder of a run is that of another seed."""
    folder = run_folder(out, run_id)
    try:
        of = _RUN_ID.search(read_bytes(folder / PROVENANCE_FILE))
        recorded = RunId.parse(of[1].decode()) if of else None
    except (OSError, ValueError):  # told of where records are read
        return
    here = RunId.parse(run_id)
    if recorded and recorded.seed != here.seed and recorded == replace(here, seed=recorded.seed):
        raise StoreError(
            f"{folder} is a copy of run {recorded}, by its {PROVENANCE_FILE}, and no seed of its own. Delete it; "
            f"a run of seed {here.seed} makes one"
        )
