"""Running a server in this process."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading

from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.versions import version
from suites.carla.server.service import MAX_PORT, Service
from suites.carla.server.warm_up import progress, warm_up


def serve(
    port: int,
    map_name: str,
    client_version: str,
    host: str = "127.0.0.1",
    until_stdin_closes: bool = False,
    walker_navigation: bool = True,
    towns: bool = False,
) -> None:
    """Serves clients of one release until interrupted; prints the RPC port once clients can connect.

    Args:
        port: RPC port; 0 chooses a free one.
        map_name: a name of `MAPS`, or with `towns` of one of CARLA's towns.
        client_version: release of the clients, a name of `VERSIONS`.
        host: address to listen on; anything but loopback lets other machines connect.
        until_stdin_closes: also end when standard input closes, that is, when the process at its other end dies.
        walker_navigation: give clients the mesh that their walkers' controllers walk on.
        towns: load the nearest of our maps where a client asks for one of CARLA's towns.

    Raises:
        OSError: the port cannot be listened on.
        ValueError: an unknown map or release, or a port out of range.
    """
    if not 0 <= port <= MAX_PORT:
        raise ValueError(f"port {port} is not between 0 (any free one) and {MAX_PORT}")
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        service = Service(version(client_version), map_name, host, port, walker_navigation, towns)
    except CallError as error:
        raise ValueError(str(error)) from error
    with progress():
        warm_up(service.world)
    print(service.port, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        service.run()
    except KeyboardInterrupt:
        pass
    finally:
        service.close()


def _end_with_stdin() -> None:
    """The parent's death closes the pipe; where a fork of it keeps the pipe open, this process gets another parent."""
    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], 1.0)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            break
    os._exit(0)
