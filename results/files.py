"""Files that are replaced as a whole: a reader, or a full disk, meets the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AWAY = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ENOENT", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH",
        "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ESHUTDOWN", "EREMOTEIO", "ENXIO", "ENODEV", "EAGAIN",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Errors of a shared folder whose server or network is away: waiting may help. A full disk is none of them."""


def is_away(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, is of a folder that is away."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in AWAY


def read_bytes(path: str | os.PathLike[str], last: int | None = None) -> bytes:
    """The content of a regular file, or its `last` bytes; a pipe would wait for a writer. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        stat = os.fstat(descriptor)
        if not S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        if last is not None:
            os.lseek(descriptor, max(0, stat.st_size - last), os.SEEK_SET)
        parts = []
        while part := os.read(descriptor, stat.st_size + 1):  # as a rule all of it
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def write_bytes(path: str | os.PathLike[str], data: bytes, check: Callable[[], None] | None = None) -> None:
    """Write a file in one step.

    Args:
        path: The file. Through a link the file it points to is replaced; what is no regular file is written to.
        data: Its new content.
        check: Called last before the new file replaces the old one; may raise.

    Raises:
        OSError: If it cannot be written; the old one remains.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():  # a device or a pipe; a folder raises
        path.write_bytes(data)
        return
    temporary = f"{path.parent}/{path.name[:100]}{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        if check:
            check()
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
