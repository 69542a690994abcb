"""The most memory that a trial uses, in a process that has made others before."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def begin(device: str) -> None:
    """Give back what is free, and measure from here on."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc only; a worker keeps what it freed, see `worker.keep_heap`
        trim(0)
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")  # Linux: the peak begins anew
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def ram() -> int:
    """Bytes of RAM at the peak since `begin`; where the system cannot tell, since the process began."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # macOS counts bytes, others KiB


BARE = ram()
"""Bytes of RAM of this process before it tried anything: when this module was imported."""


def gpu(device: str) -> int:
    """Bytes that torch took of a GPU at the peak since `begin`, beside its context; 0 on a CPU."""
    if not device.startswith("cuda"):
        return 0
    import torch

    return int(torch.cuda.max_memory_reserved(device))
