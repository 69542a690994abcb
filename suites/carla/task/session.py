"""A simulator process and, unless the user named a server, an embedded server: started, watched and ended together.

Both are watched from outside: whatever hangs or dies, the answer does not come, and both are killed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import weakref
from multiprocessing.connection import Connection
from typing import Any

from suites.base import EpisodeLost, SimulatorError
from suites.carla import launch
from suites.carla.task.episode import Tick
from suites.carla.task.scenarios import SCENARIOS

SERVER_WAIT = 60.0  # seconds that a named server is waited for
ANSWER = 20.0  # seconds for a tick, of a server that does other things beside
BEGIN = 120.0  # seconds for connecting and for a reset, which may load a map
SPARE = 5.0  # seconds by which the owner is more patient than the library, whose error says more
GLANCE = 0.25  # seconds between looks at whether the processes live


class Session:
    """One connection to one server.

    Args:
        scenario: a name of `SCENARIOS`.
        host: of a running server; empty starts an embedded one on a free port.
        port: of that server.
        options: those of `Simulator`, less its timeout.

    Raises:
        SimulatorError: there is no server, or its release does not fit.
    """

    def __init__(self, scenario: str, host: str, port: int, **options: Any) -> None:
        self._server = None if host else _own_server(SCENARIOS[scenario].map)
        self._end = weakref.finalize(self, _end, self._server)
        try:
            if host:
                _await(host, port)
            self._where = f"the CARLA server at {host}:{port}" if host else "the embedded CARLA server"
            self._process, self._channel = _simulator()
            self._end.detach()
            self._end = weakref.finalize(self, _end, self._server, self._process, self._channel)
            address = (host, port) if self._server is None else ("127.0.0.1", self._server.port)
            try:
                arguments = (*address, scenario), options | {"timeout": ANSWER}
                self.release, self.embedded = self._call("open", arguments, BEGIN)
            except EpisodeLost as error:
                raise SimulatorError(str(error)) from None
        except BaseException:
            self.kill()
            raise

    def reset(self, seed: int) -> Tick:
        """Begins an episode. Raises EpisodeLost when the simulator fails, as the methods below do."""
        return self._call("reset", (seed,), BEGIN)  # type: ignore[no-any-return]

    def step(self, steer: float, pedal: float) -> Tick:
        """One control step."""
        return self._call("step", (steer, pedal), ANSWER)  # type: ignore[no-any-return]

    def state(self) -> Any:
        """What a scripted driver is told now: see `Privileged.look`."""
        return self._call("state", (), ANSWER)

    def picture(self, height: int, width: int) -> Any:
        """The present view at another size: see `Simulator.picture`."""
        return self._call("picture", (height, width), ANSWER)

    def watch(self, height: int, width: int) -> None:
        """Keeps a camera of that size: see `Simulator.watch`."""
        self._call("watch", (height, width), ANSWER)

    def close(self) -> None:
        """Leaves the world as it was found and ends both processes."""
        if self._server is None:  # the user's: its settings are put back
            with contextlib.suppress(EpisodeLost):
                self._call("close", (), ANSWER)
        self.kill()

    def kill(self) -> None:
        """Ends both processes at once; may be called twice."""
        self._end()

    def _call(self, name: str, arguments: tuple[Any, ...], limit: float) -> Any:
        begun = time.monotonic()
        try:
            self._channel.send((name, arguments, limit + 2 * SPARE))
            while not self._channel.poll(GLANCE):
                if self._server and not self._server.alive:
                    raise EpisodeLost(f"{self._where} died")
                if time.monotonic() - begun > limit + SPARE:
                    raise EpisodeLost(f"{self._where} did not answer {name!r} within {limit + SPARE:g} s")
            done, answer = self._channel.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise EpisodeLost(f"the client of {self._where} died during {name!r} (exit code {code})") from None
        if not done:
            raise EpisodeLost(f"{self._where}: {answer}")
        return answer


def _end(
    server: launch.ServerProcess | None,
    process: subprocess.Popen[bytes] | None = None,
    channel: Connection[Any, Any] | None = None,
) -> None:
    """Ends a session's processes: when it is closed, when it fails, or when nobody has it any more."""
    if process and channel:
        channel.close()
        process.kill()
        process.wait()
    if server:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, 9)  # SIGTERM does not reach a stopped process
        server.stop()


def _own_server(map_name: str) -> launch.ServerProcess:
    try:
        return launch.start(map_name)
    except RuntimeError as error:
        raise SimulatorError(str(error)) from error


def _await(host: str, port: int) -> None:
    """Waits for a server to listen: a client built before never recovers. Raises SimulatorError."""
    until = time.monotonic() + SERVER_WAIT
    while True:
        try:
            socket.create_connection((host, port), 5.0).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise SimulatorError(
                    f"no CARLA server answers at {host}:{port} ({error}), after {SERVER_WAIT:g} s. Start one, CARLA's "
                    f"own (./CarlaUE4.sh -carla-rpc-port={port}) or ours (covr-bench carla serve --port {port}), or "
                    "leave out env.host (--carla-host): then each environment starts an embedded one."
                ) from error
            time.sleep(0.5)


def _simulator() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "suites.carla.task.client", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if hasattr(sys.stderr, "fileno") else None,
            pass_fds=(theirs.fileno(),),
            env=launch.child_environment(),
        )
    return process, Connection(ours.detach())
