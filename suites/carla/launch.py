"""Start an embedded CARLA server as a child process, and end it with the block, or with this process.

    with launch("highway") as server:
        client = carla.Client("localhost", server.port)

The server is a process of its own because the client library holds Python's lock while it waits for an answer.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

START_SECONDS = 300.0  # without a word; the first start after an installation compiles for a minute of CPU time
LISTENED_EVERY = 1.0  # seconds between looks at what a server writes while it starts
STOP_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class ServerProcess:
    """A running server.

    Attributes:
        port: where clients connect, on this machine.
        map_name: the map it began with.
        client_version: release of the clients it serves.
        started_in: seconds it took to listen.
    """

    port: int
    map_name: str
    client_version: str
    started_in: float
    _process: subprocess.Popen[bytes] = field(repr=False)
    _log: IO[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def log(self) -> str:
        """The last lines that the server wrote to its standard error."""
        self._log.seek(0)
        return b"".join(deque(self._log, maxlen=40)).decode(errors="replace")

    def stop(self) -> None:
        """Ends the process; a second call does nothing."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream:
                stream.close()


def installed_client() -> str:
    """The release of the installed client library. Raises RuntimeError when there is none."""
    try:
        return importlib.metadata.version("carla")
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeError(
            "the CARLA client library is not installed; it has wheels for CPython 3.10 to 3.12 on x86-64: "
            "pip install carla==0.9.16"
        ) from error


def child_environment() -> dict[str, str]:
    """The environment variables of a child process that imports this package from where this process did."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path}


def start(
    map_name: str = "highway",
    port: int = 0,
    client_version: str | None = None,
    timeout: float = START_SECONDS,
    towns: bool = False,
) -> ServerProcess:
    """Starts a server and waits until clients can connect; end it with `stop`.

    Args:
        map_name: `highway`, `street` or `suburb`.
        port: RPC port; 0 takes a free one.
        client_version: release of the clients that will connect; by default the installed one.
        timeout: seconds that the server may neither listen nor tell of progress.
        towns: load the nearest of our maps where a client asks for one of CARLA's towns.

    Returns:
        The running server.

    Raises:
        RuntimeError: the server ended or did not listen in time, with what it wrote; or no client is installed.
    """
    release = client_version or installed_client()
    begun, log = time.monotonic(), TemporaryFile()  # noqa: SIM115 (closed by `stop`)
    command = [sys.executable, "-m", "suites.carla.server", "--port", str(port), "--map", map_name]
    command += ["--client-version", release, "--until-stdin-closes"]
    if not _clients_keep_files():
        command.append("--no-walker-navigation")  # the client library ends with an error where it cannot write
    if towns:
        command.append("--towns")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=child_environment()
    )
    server = ServerProcess(0, map_name, release, 0.0, process, log)
    announced = _first_line(process, timeout, log)
    if not announced:
        silent = f"neither listened nor told of progress for {timeout:g} s"
        fate = silent if server.alive else f"ended with code {process.returncode}"
        written = server.log()
        server.stop()
        raise RuntimeError(f"the CARLA server ({' '.join(command[1:])}) {fate}:\n{written}")
    server.port, server.started_in = int(announced), time.monotonic() - begun
    return server


def _clients_keep_files() -> bool:
    """Whether a client with this process's environment can write to its cache folder."""
    home = Path(os.environ.get("USERPROFILE" if os.name == "nt" else "HOME", ""))
    cache = home / "carlaCache"
    return os.access(cache if cache.exists() else home, os.W_OK)


def _first_line(process: subprocess.Popen[bytes], patience: float, log: IO[bytes]) -> bytes:
    """The first line of a process's output; empty when it ends before, or writes nothing to `log` for that long.

    What it writes meanwhile, its progress with the compilation, goes on to standard error.
    """
    assert process.stdout
    line, heard, until = b"", 0, time.monotonic() + patience
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            due = selector.select(min(LISTENED_EVERY, max(0.0, until - time.monotonic())))
            if not due:
                said = os.pread(log.fileno(), 4096, heard)
                if said:
                    heard, until = heard + len(said), time.monotonic() + patience
                    sys.stderr.write(said.decode(errors="replace"))
                elif time.monotonic() >= until:
                    return b""
                continue
            piece = os.read(process.stdout.fileno(), 64)
            if not piece:
                process.wait()
                return b""
            line += piece
    return line


@contextlib.contextmanager
def launch(
    map_name: str = "highway",
    port: int = 0,
    client_version: str | None = None,
    timeout: float = START_SECONDS,
    towns: bool = False,
) -> Iterator[ServerProcess]:
    """Starts a server as `start` does, and stops it at the end of the block.

    Yields:
        The running server.
    """
    server = start(map_name, port, client_version, timeout, towns)
    try:
        yield server
    finally:
        server.stop()
