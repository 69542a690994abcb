"""What was measured on this kind of node before: a file in each store's cache folder and one in the user's."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

POLL_S = 0.5


def store_file(out: str) -> Path:
    """`<out>/cache/costs.json`, for all who use that store, from whichever node."""
    return Path(out) / "cache" / "costs.json"


def costs_file() -> Path:
    """`$XDG_CACHE_HOME/covr-bench/costs.json`, or below `~/.cache`: for all of a user's stores."""
    return _cache() / "covr-bench" / "costs.json"


def _cache() -> Path:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # a container's user without a name and a home
        return Path(tempfile.gettempdir())


def recall(file: Path) -> dict[str, dict[str, Any]]:
    """Every entry of the file; none of a file that is absent, unreadable or damaged: all can be measured again."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key: entry for key, entry in entries.items() if isinstance(entry, dict)}


def remember(file: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add entries to those of the file, beside other processes that do the same. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.with_suffix(".lock")):
        part = file.with_suffix(".part")
        part.write_text(json.dumps(recall(file) | dict(entries), indent=0), encoding="utf-8")
        os.replace(part, file)


@contextlib.contextmanager
def alone(file: Path, node: str, wait: Callable[[], None]) -> Iterator[None]:
    """Measure while nobody else does who shares the file and has the same kind of node.

    Args:
        file: Of the costs.
        node: The kind of node, a word.
        wait: Called once if somebody else measures.

    Where the file system knows no locks, all measure.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context((file.parent / f"costs-{node}.lock").open("w"))
            while not _taken(handle):
                wait()
                wait = _silent
                time.sleep(POLL_S)
        yield


def _silent() -> None: ...


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the handle
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # ends with the handle
        yield
