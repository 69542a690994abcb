"""A folder behind a URL, by fsspec: each call ends in time or is given up."""

from __future__ import annotations

import contextlib
import os
import posixpath
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Result = TypeVar("Result")
SLOWEST = 1e6  # bytes a second: a transfer that is slower is given up, some time beside
EXAMPLES = "s3://bucket/folder, gs://bucket/folder, hf://datasets/user/name, file:///mnt/disk/folder"


class Hung(UserError):
    """A file system did not answer in time; nothing more is asked of it."""


class Remote:
    """A folder behind a URL.

    Args:
        url: Such as `s3://bucket/folder`.
        timeout_s: Seconds after which a call is given up; a transfer may take as much longer as its bytes need.

    Raises:
        UserError: It is no URL, or the package of its protocol is not installed.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url, self._timeout_s = url.rstrip("/"), timeout_s
        self._fs, self._root = _opened(self.url)

    def __str__(self) -> str:
        return self.url

    def sizes(self, folder: str, unread: dict[str, Exception] | None = None) -> dict[str, int]:
        """Bytes of each file below a folder, by its path from there; empty if there is no such folder.

        Args:
            folder: Its path from the URL's.
            unread: To be filled with the folders below that cannot be listed, by their paths, and why; without it the
                first of them raises.
        """
        top = self._path(folder)
        self._within(0, "list", folder, self._fs.invalidate_cache)
        if not _walks(self._fs):
            try:
                found = self._within(0, "list", folder, self._fs.find, top, detail=True)
            except FileNotFoundError:
                return {}
            return {posixpath.relpath(path, top): int(info["size"] or 0) for path, info in found.items()}
        sizes, folders = {}, [top]
        while folders:
            here = folders.pop()
            try:
                entries = self._within(0, "list", folder, self._fs.ls, here, detail=True)
            except FileNotFoundError:  # the top, or one that has just been removed
                continue
            except OSError as error:
                if unread is None or here == top:
                    raise
                unread[posixpath.relpath(here, top)] = error
                continue
            for info in entries:
                path = info["name"].rstrip("/")
                if info["type"] != "directory":
                    sizes[posixpath.relpath(path, top)] = int(info["size"] or 0)
                elif path != here:  # some list a folder as its own first entry
                    folders.append(path)
        return dict(sorted(sizes.items()))

    @contextlib.contextmanager
    def asked_to(self, do: str) -> Iterator[None]:
        """Raise UserError for what the block raises: each protocol has errors of its own. do: such as `list`."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"cannot {do} {self}: {type(error).__name__}: {error}") from error

    def read(self, path: str) -> bytes:
        """A small file. Raises FileNotFoundError."""
        data: bytes = self._within(0, "read", path, self._fs.cat_file, self._path(path))
        return data

    def write(self, path: str, data: bytes) -> None:
        """A small file, replaced."""
        self._made(path, lambda: self._within(len(data), "write", path, self._fs.pipe_file, self._path(path), data))

    def upload(self, file: Path, path: str) -> None:
        """A file of this machine, replaced."""
        size = file.stat().st_size
        self._made(path, lambda: self._within(size, "write", path, self._fs.put_file, str(file), self._path(path)))

    def download(self, path: str, file: Path, size: int) -> None:
        """To a file of this machine. size: what it should have, in bytes. Raises FileNotFoundError."""
        self._within(size, "read", path, self._fs.get_file, self._path(path), str(file))

    def remove(self, path: str) -> None:
        """A file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._within(0, "remove", path, self._fs.rm_file, self._path(path))
        if self._on_disk():  # an empty folder is not nothing there: a checkpoint is one
            with contextlib.suppress(OSError):
                os.removedirs(posixpath.dirname(self._path(path)))

    def is_folder(self, folder: Path) -> bool:
        """Whether it is this folder of this machine."""
        there = self._on_disk() and os.path.exists(self._root) and folder.exists()
        return there and os.path.samefile(self._root, folder)

    def _on_disk(self) -> bool:
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self._fs, LocalFileSystem)

    def _path(self, path: str) -> str:
        return posixpath.join(self._root, path) if path else self._root

    def _made(self, path: str, call: Callable[[], object]) -> None:
        """Make the file's folder where the file system has folders, and try again."""
        try:
            call()
        except FileNotFoundError:
            parent = posixpath.dirname(self._path(path))
            self._within(0, "make", path, self._fs.makedirs, parent, exist_ok=True)
            call()

    def _within(
        self, size: int, verb: str, path: str, call: Callable[..., Result], *args: Any, **options: Any
    ) -> Result:
        """What a call returns or raises. Raises Hung if it takes too long: its thread is left behind."""
        ended: list[Result] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                ended.append(call(*args, **options))
            except BaseException as error:
                failed.append(error)

        limit = self._timeout_s + size / SLOWEST
        thread = threading.Thread(target=work, name=f"{verb} {path}", daemon=True)
        thread.start()
        thread.join(limit)
        if failed:
            raise failed[0]
        if not ended:
            raise Hung(
                f"{self.url} has not answered for {limit:.0f} s (to {verb} {path or 'it'}). What is done is kept, and "
                "the same command goes on; see to the network, or give a longer --timeout"
            )
        return ended[0]


def _walks(fs: Any) -> bool:
    """Whether it lists a tree by fsspec's own walk, which takes a folder that fails to be listed for an empty one."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    kind = type(fs)
    return kind.find is AbstractFileSystem.find and getattr(kind, "_find", None) in (None, AsyncFileSystem._find)


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises UserError."""
    from fsspec.core import url_to_fs

    protocol, separator, _ = url.partition("://")
    if not separator:
        raise UserError(f"{url!r} is no URL; such as {EXAMPLES}")
    options = {"auto_mkdir": True} if protocol in ("file", "local") else {}
    try:
        fs, path = url_to_fs(url, **options)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or protocol  # sftp's is paramiko, inside fsspec itself
        package = missing.partition(".")[0]
        raise UserError(f"{protocol}:// needs a package that is not installed: pip install {package}") from error
    except Exception as error:  # each protocol raises its own where a URL or the credentials are wrong
        raise UserError(f"cannot open {url}: {error}; such as {EXAMPLES}") from error
    return fs, path.rstrip("/")
