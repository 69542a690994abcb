"""Rows that a finished run has lost, to a copy that was cut short or to somebody's hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from results.files import read_bytes
from results.layout import ROWS_FILE
from results.states import RowKind

if TYPE_CHECKING:
    import os

_LAST_BYTES = 4096  # of the file; the last row is shorter
_END = re.compile(rf'"kind": ?"{RowKind.END.value}"'.encode())


def lost_rows(folder: str | os.PathLike[str]) -> str:
    """What is said of a finished run whose rows, or the last of them, are gone, and how to mend it; else empty."""
    path = Path(folder, ROWS_FILE)
    try:
        last = read_bytes(path, _LAST_BYTES)
        if _END.search(last):
            return ""
        if last:
            return (
                f"it finished, but {path} was cut short: the row of its end is gone. Restore it from a copy, or delete "
                f"{folder} and run it again"
            )
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"it finished, but {path} cannot be read: {error.strerror}"
    return without_rows(folder)


def without_rows(folder: str | os.PathLike[str]) -> str:
    """What is said of a finished run in whose file there is no row."""
    path = Path(folder, ROWS_FILE)
    return f"it finished, but {path} has no rows any more. Restore it from a copy, or delete {folder} and run it again"
