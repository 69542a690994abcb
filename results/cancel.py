"""The mark that asks for a run to stop, wherever it is: a file in the run's folder.

The run's writer sees it within a beat of its lease, checkpoints and ends; a launcher does not start a run that has one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from results.layout import CANCEL_FILE, StoreError, run_folder

if TYPE_CHECKING:
    from results.layout import RunId

CANCELLED = "`covr-bench cancel` stopped it; the same `covr-bench run` as before goes on from here"


def cancel(out: str | os.PathLike[str], run_id: RunId | str) -> None:
    """Ask for a run to stop, or not to start. Raises StoreError if the mark cannot be written."""
    folder = run_folder(out, run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(folder / CANCEL_FILE):
            (folder / CANCEL_FILE).touch()
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror or error}. Mend that folder first.") from error


def is_cancelled(out: str | os.PathLike[str], run_id: RunId | str) -> bool:
    """Whether a run is asked to stop."""
    return os.path.lexists(run_folder(out, run_id) / CANCEL_FILE)


def uncancel(out: str | os.PathLike[str], run_id: RunId | str) -> None:
    """Take the mark away, so that the run can start. Raises StoreError."""
    path = run_folder(out, run_id) / CANCEL_FILE
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except NotADirectoryError:  # no folder, no mark
        pass
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror or error}. Mend that folder first.") from error
