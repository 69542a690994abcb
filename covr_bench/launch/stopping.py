"""SIGINT, SIGTERM and SIGHUP all mean: stop, but lose nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECOND_AFTER_S = 1.0  # `timeout`, shells and terminals send one wish to stop as several signals


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop; what heeds Ctrl-C heeds it too.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def exit_status(stop: KeyboardInterrupt) -> int:
    """What a process that was stopped ends with: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (stop.signum if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Raise Stopped wherever a signal finds this process, process 1 of a container included."""

    def stop(signum: int, frame: Any) -> None:
        raise Stopped(signum)

    with _handling(stop):
        yield


@contextmanager
def noting_signals() -> Iterator[Callable[[], None]]:
    """Note signals, and raise Stopped only from the function given here, where the caller can stop in good order.

    It raises once for the first signal, and again for each SIGINT or SIGTERM a second or more after the first. A signal
    that was noted but never raised is raised at the end.
    """
    noted: list[int] = []
    first = 0.0

    def note(signum: int, frame: Any) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
        elif signum == signal.SIGHUP or time.monotonic() - first < SECOND_AFTER_S:
            return
        noted.append(signum)

    def check() -> None:
        if noted:
            raise Stopped(noted.pop(0))

    with _handling(note):
        yield check
    check()


@contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Only the main thread may do so; a signal that is ignored, as `nohup` does SIGHUP, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    heeded = {signum: old for signum, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for signum in heeded:
            signal.signal(signum, handler)
        yield
    finally:
        for signum, old in heeded.items():
            signal.signal(signum, old)
