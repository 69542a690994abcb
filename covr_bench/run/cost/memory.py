"""What was measured on this machine before: a file in the user's cache folder, shared by all their results."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def costs_file() -> Path:
    """`$XDG_CACHE_HOME/covr-bench/costs.json`, or below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covr-bench" / "costs.json"


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
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # ends with the handle
        yield
