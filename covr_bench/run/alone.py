"""One process at a time in a folder that two would fill with different things."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError
from results.lock import flock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def alone(folder: Path, what: str, to: Path) -> Iterator[None]:
    """Hold `folder`, which is made where it is missing, while the block runs.

    Args:
        folder: That the processes share.
        what: What each of them does, as in `another pull into results goes on`.
        to: The folder that the user named.

    Raises:
        UserError: Another process does the same, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write to {to}: {error.strerror}; mend that folder, or give another --out") from error
    with lock:
        try:
            flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another {what} {to} goes on; wait for it, or give another --out") from None
        yield
