"""The lock of a run, by which a machine's processes know at once who writes it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

from results.files import is_away
from results.layout import LOCK_FILE, run_folder

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from results.layout import RunId

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # such as Lustre mounted without `-o flock`
_TRIES, _WAIT_S = 5, 0.1  # outlasts a reader that tests whether the run is alive


def flock(file: int | IO[str], operation: int) -> None:
    """`fcntl.flock`; nothing where the file system knows no locks: there the leases alone tell who writes a run."""
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def writer_pid(out: str | os.PathLike[str], run_id: RunId | str) -> int | None:
    """The process that holds a run.

    Args:
        out: Folder of the results.
        run_id: The run.

    Returns:
        Its process number, 0 if the file does not tell it, or None if nobody writes the run.

    Raises:
        OSError: The folder is away.
    """
    try:
        descriptor = os.open(run_folder(out, run_id) / LOCK_FILE, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait
    except OSError as error:
        if is_away(error) and not isinstance(error, FileNotFoundError):
            raise
        return None  # nor can a writer open what is no file
    try:
        flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0)
        return int(holder) if holder.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def acquire(folder: Path) -> int | str:
    """Lock a run for this process.

    Args:
        folder: The run's.

    Returns:
        The descriptor that holds the lock until it is closed; or, as text, the process that holds it.

    Raises:
        OSError: The lock file cannot be opened.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    for attempt in range(_TRIES):
        try:
            flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _TRIES:
                time.sleep(_WAIT_S)
        except OSError:
            os.close(descriptor)
            raise
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
    holder = os.pread(descriptor, 32, 0).decode(errors="replace") or "unknown"
    os.close(descriptor)
    return f"process {holder}"


def replace_lock(folder: Path) -> int | str:
    """As `acquire`, with a new lock file: for the holder of the lease, where a frozen process holds the old lock."""
    (folder / LOCK_FILE).unlink(missing_ok=True)
    return acquire(folder)
