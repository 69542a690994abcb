"""What an environment leaves running when it is closed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

PATIENCE_S = 2.0  # until what was told to end has ended


class Remains:
    """Threads and child processes that were not there when this was made."""

    def __init__(self) -> None:
        self._threads, self._children = set(threading.enumerate()), _children()

    def found(self) -> list[str]:
        """What still runs, such as `thread reader` and `process 4711`, after giving it time to end."""
        until = time.monotonic() + PATIENCE_S
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def _left(self) -> list[str]:
        threads = [f"thread {thread.name}" for thread in set(threading.enumerate()) - self._threads]
        return sorted(threads) + [f"process {child} ({_name(child)})" for child in sorted(_children() - self._children)]


def _children() -> set[int]:
    """Child processes of this one, where the system lists them; those that ended and wait to be read are none."""
    listed = Path("/proc/self/task").glob("*/children")
    found = {int(child) for file in listed for child in file.read_text().split()}
    return {child for child in found if _name(child)}


def _name(process: int) -> str:
    """Its command; empty for one that has ended, or that is a helper of Python's own, shared by all."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    shared = "multiprocessing.resource_tracker" in command or "multiprocessing.forkserver" in command
    return "" if shared else os.path.basename(command.partition(" ")[0])
