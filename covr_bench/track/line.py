"""A tracker and the thread that calls it: what it waits for or raises stays there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covr_bench.track.base import Tracker

MOST_WAITING = 10_000  # calls, of a second's rows each; a tracker that far behind will not catch up


class Line:
    """Tells one tracker everything in order, without waiting for it.

    Attributes:
        failure: What silenced it, such as an exception, in words; empty while there is none.
    """

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name = name
        self.failure = ""
        self._tracker = tracker
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call a hook of the tracker when its turn comes, if it has that hook."""
        if self._calls.qsize() >= MOST_WAITING:
            self.failure = self.failure or f"it is {MOST_WAITING:,} calls behind"
        if self.failure:
            return
        self._calls.put(lambda: getattr(self._tracker, hook, _deaf)(*arguments))

    def close(self, patience_s: float) -> bool:
        """Close the tracker after all that it was told; False if that takes longer than `patience_s`."""
        self._calls.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while call := self._calls.get():
            if not self.failure:
                self._try(call)
        self._try(self._tracker.close)

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:  # whatever it is, sys.exit too: the runs go on
            self.failure = self.failure or f"{type(error).__name__}: {error}"


def _deaf(*arguments: Any) -> None:
    """A hook that a tracker does not have."""
