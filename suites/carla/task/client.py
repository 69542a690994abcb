"""The process that talks to a CARLA server: the only one that loads the client library.

`python -m suites.carla.task.client FD` answers requests on a socket; `session` is the other end. The library can hang
with Python's lock held, or abort; here that costs an episode, not the run. Should it hang after its owner died, the
kernel's alarm ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from suites.carla.task.simulator import Simulator

FAREWELL = 30.0  # seconds for tidying up after the owner died
FAREWELL_CALL = 2.0  # seconds of one call then: an embedded server may have died with its owner


def main() -> None:
    """Answers requests (method of `Simulator`, arguments, seconds allowed) until `close` or the owner's death."""
    channel = Connection(int(sys.argv[1]))
    simulator: Simulator | None = None
    while True:
        try:
            name, arguments, limit = channel.recv()
        except EOFError:  # the owner died
            _tidy_up(simulator)
            break
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            if name == "open":
                simulator = Simulator(*arguments[0], **arguments[1])
                answer: Any = simulator.describe()
            else:
                answer = getattr(simulator, name)(*arguments)
            channel.send((True, answer))
        except Exception as error:  # told to the owner, who decides
            channel.send((False, f"{error}" if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if name == "close":
            break
    sys.stdout.flush()
    os._exit(0)  # the library's own threads have been seen to crash at exit


def _tidy_up(simulator: Simulator | None) -> None:
    """Leaves the world as it was found; the alarm goes on, should the library hang."""
    signal.setitimer(signal.ITIMER_REAL, FAREWELL)
    if simulator:
        with contextlib.suppress(RuntimeError):
            simulator.patience(FAREWELL_CALL)
            simulator.close()


if __name__ == "__main__":
    main()
