"""What the control groups of this process allow it, in a container or under a batch system."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUPS = Path("/sys/fs/cgroup")


def memory_limit() -> int:
    """Bytes of RAM that this process and its like may have together."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups_and_parents():
        for file in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # no limit is the text `max`
                limits.append(int((folder / file).read_text()))
    return min(limits)


def cpu_limit() -> float:
    """Cores whose time this process and its like may have together, such as 1.5 of `docker run --cpus`; else inf."""
    limits = [math.inf]
    for folder in _groups_and_parents():
        with contextlib.suppress(OSError, ValueError):  # no limit is the text `max`
            quota, period = (folder / "cpu.max").read_text().split()
            limits.append(int(quota) / int(period))
    return min(limits)


def own_groups() -> list[Path]:
    """Folders of the control groups that count this process's memory; none if the system does not say."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    entries = [line.split(":", 2) for line in lines]
    found = [CGROUPS / "memory" / path.lstrip("/") for _, kinds, path in entries if "memory" in kinds.split(",")]
    return found + [CGROUPS / path.lstrip("/") for _, kinds, path in entries if not kinds]


def _groups_and_parents() -> Iterator[Path]:
    for own in own_groups():
        for folder in (own, *own.parents):
            yield folder
            if folder == CGROUPS:
                break
