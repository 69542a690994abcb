"""What the rows of a run are read from: its file and, where it may be an earlier version's, its record."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from hashlib import blake2b
from typing import NamedTuple

from results.earlier import may_be_earlier, stored_budget
from results.files import read_bytes
from results.layout import PROVENANCE_FILE, ROWS_FILE, RUNS

SETTLED_S = 2.0  # file systems whose clocks tick slower are not in use any more


class Source(NamedTuple):
    """What the rows of a run are read from.

    Attributes:
        run_id: The run.
        rows: Content of its file.
        record: Content of its provenance; empty where rows do not depend on it, and if it cannot be read.
    """

    run_id: str
    rows: bytes
    record: bytes

    @property
    def content(self) -> bytes:
        """Hash of all that the rows depend on."""
        digest = blake2b(self.rows, digest_size=16)
        digest.update(self.record)
        return digest.digest()

    @property
    def budget(self) -> str:
        """What the run's budget is called today."""
        return stored_budget(self.run_id, self.record)


def read_source(out: str | os.PathLike[str], run_id: str) -> Source:
    """Read a run's files. Raises OSError if that of its rows cannot be read."""
    folder = f"{os.fspath(out)}/{RUNS}/{run_id}"
    record = b""
    rows = read_bytes(f"{folder}/{ROWS_FILE}")
    with contextlib.suppress(OSError):
        if may_be_earlier(run_id):
            record = read_bytes(f"{folder}/{PROVENANCE_FILE}")
    return Source(run_id, rows, record)


def stamp_of(out: str | os.PathLike[str], run_id: str, rows: os.stat_result) -> bytes:
    """Size, inode and times of the files of a `Source`; empty if one changed so lately that it may change again within
    its file system's clock.

    The time of an inode's change is set by the system alone: a program that sets back a file's own time moves it.
    rows: Of the run's file.
    """
    stats: list[os.stat_result | None] = [rows]
    if may_be_earlier(run_id):
        try:
            stats.append(os.stat(f"{os.fspath(out)}/{RUNS}/{run_id}/{PROVENANCE_FILE}"))
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
