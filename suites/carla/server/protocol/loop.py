"""One thread that serves all sockets: listeners, and connections with bounded buffers."""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

_log = logging.getLogger(__name__)
READ_BYTES = 256 * 1024
MAX_UNSENT = 256 * 2**20  # a peer that leaves this much unread is gone


class Peer(Protocol):
    """What a connection's owner hears of it."""

    def received(self, data: bytes) -> None: ...

    def closed(self) -> None: ...


class Connection:
    """A TCP connection that never blocks. What the kernel does not take at once is kept, in order, until it does."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self.open = True
        self.peer: Peer | None = None

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Sends the parts one after the other; on a closed connection does nothing."""
        if not self.open:
            return
        for part in parts:
            view = memoryview(part).cast("B")
            if len(view):
                self._unsent.append(view)
                self.unsent_bytes += len(view)
        self._flush()
        if self.unsent_bytes > MAX_UNSENT:
            self.close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._sock.sendmsg([*self._unsent][:64])
                self.unsent_bytes -= sent
                while sent:
                    first = self._unsent[0]
                    if sent < len(first):
                        self._unsent[0] = first[sent:]
                        break
                    sent -= len(first)
                    self._unsent.popleft()
        except BlockingIOError:
            # The caller may reuse the buffers it passed in; what waits must be ours.
            self._unsent = deque(view if view.readonly else memoryview(bytes(view)) for view in self._unsent)
        except OSError:  # reset by the peer
            self.close()
            return
        self._loop.watch(self._sock, self, writing=bool(self._unsent))

    def ready(self, events: int) -> None:
        """Called by the loop when the socket can be read or written."""
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not self.open or not events & selectors.EVENT_READ:
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and self.peer:
            self.peer.received(data)
        else:
            self.close()

    def close(self) -> None:
        """Closes the socket and tells the owner, once."""
        if self.open:
            self.open = False
            self._unsent.clear()
            self.unsent_bytes = 0
            self._loop.forget(self._sock)
            self._sock.close()
            if self.peer:
                self.peer.closed()


class Listener:
    """A listening TCP socket; `accepted` is called with each new connection."""

    def __init__(self, loop: Loop, host: str, port: int, accepted: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._accepted = accepted
        self._sock = socket.create_server((host, port), backlog=128, reuse_port=False)
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]
        loop.watch(self._sock, self, writing=False)

    def ready(self, events: int) -> None:
        """Called by the loop when a connection waits."""
        try:
            sock, _ = self._sock.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.01)  # out of descriptors: the connection stays in the backlog
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self._loop, sock)
        self._loop.watch(sock, connection, writing=False)
        self._accepted(connection)

    def close(self) -> None:
        """Stops listening."""
        self._loop.forget(self._sock)
        self._sock.close()


class Loop:
    """Waits for sockets and for one point in time, whichever comes first."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, tuple[Listener | Connection, int]] = {}

    def watch(self, sock: socket.socket, handler: Listener | Connection, writing: bool) -> None:
        """Calls `handler.ready` when `sock` can be read, and while `writing`, when it can be written."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        number = sock.fileno()
        known = self._watched.get(number)
        if known == (handler, events):
            return
        if known is None:
            self._selector.register(sock, events, handler)
        else:
            self._selector.modify(sock, events, handler)
        self._watched[number] = (handler, events)

    def forget(self, sock: socket.socket) -> None:
        """Stops watching."""
        if self._watched.pop(sock.fileno(), None):
            self._selector.unregister(sock)

    def run_once(self, timeout: float | None) -> None:
        """Handles what is ready, waiting up to `timeout` seconds (None: for ever) for something to be."""
        for key, events in self._selector.select(timeout):
            handler: Listener | Connection = key.data
            current = self._watched.get(key.fd)
            if not current or current[0] is not handler:
                continue  # an earlier handler of this round closed it
            try:
                handler.ready(events)
            except Exception:  # a fault of ours costs one connection, not the server
                _log.exception("a connection is closed")
                if isinstance(handler, Connection):
                    handler.close()

    def close(self) -> None:
        """Closes every socket."""
        for handler, _ in list(self._watched.values()):
            handler.close()
        self._selector.close()
