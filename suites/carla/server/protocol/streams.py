"""The streaming port: one connection per subscription, messages with a length and a 48-byte sensor header."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from suites.carla.server.protocol.loop import Connection, Listener, Loop
from suites.carla.server.protocol.wire import Transform

WORLD_STREAM = 1
SUBSCRIBE_WITHIN = 0.5  # seconds that ticks wait for a client that asked for a token to connect with it
MOST_EXPECTED = 256  # clients waited for at once
BACKLOG = 32 * 2**20  # bytes unread on one stream: ticks wait in synchronous mode, frames are dropped otherwise

_TOKEN = struct.Struct("<IHBB16s")
_HEADER = struct.Struct("<QQd6f")
_TCP, _SAME_HOST = 1, 0  # protocol; address type 0 lets the client use the host it was built with

Part = bytes | memoryview


def header(sensor_type: int, frame: int, timestamp: float, pose: Transform) -> bytes:
    """The head of every message. timestamp: simulated seconds; pose: of the sensor in the world."""
    (x, y, z), (pitch, yaw, roll) = pose
    return _HEADER.pack(sensor_type, frame, timestamp, x, y, z, pitch, yaw, roll)


class StreamSession:
    """One connection to the streaming port: its first four bytes name the stream."""

    def __init__(self, hub: StreamHub, connection: Connection) -> None:
        self._hub = hub
        self._id = b""
        self.stream: int | None = None
        self.connection = connection
        connection.peer = self

    def received(self, data: bytes) -> None:
        if self.stream is None:
            self._id += data[: 4 - len(self._id)]
            if len(self._id) == 4:
                self.stream = int.from_bytes(self._id, "little")
                self._hub.subscribed(self)

    def closed(self) -> None:
        self._hub.unsubscribed(self)


class StreamHub:
    """All subscriptions. A subscription to an unknown stream stays silent: closing it would make the client retry.

    port: where to listen if it is free, else on any other; 0 for any. Clients are told.
    """

    def __init__(self, loop: Loop, host: str, on_subscribe: Callable[[StreamSession], None], port: int = 0) -> None:
        self._on_subscribe = on_subscribe
        try:
            self._listener = Listener(loop, host, port, self._accept)
        except OSError:
            if port == 0:
                raise
            self._listener = Listener(loop, host, 0, self._accept)
        self._sessions: dict[int, list[StreamSession]] = {}
        self._expected: list[tuple[int, float]] = []  # (stream, until when it is waited for)
        self._next_stream = WORLD_STREAM

    def _accept(self, connection: Connection) -> None:
        StreamSession(self, connection)

    def new_stream(self) -> int:
        """An unused stream id."""
        self._next_stream += 1
        return self._next_stream

    def token(self, stream: int) -> bytes:
        """The 24 bytes with which a client finds a stream."""
        return _TOKEN.pack(stream, self._listener.port, _TCP, _SAME_HOST, bytes(16))

    def expect(self, stream: int) -> None:
        """A client asked for this stream and is about to connect."""
        del self._expected[:-MOST_EXPECTED]
        self._expected.append((stream, time.monotonic() + SUBSCRIBE_WITHIN))

    def ready_in(self) -> float:
        """Seconds that a tick should wait for clients about to subscribe; 0 when none is."""
        if not self._expected:
            return 0.0
        now = time.monotonic()
        self._expected = [entry for entry in self._expected if entry[1] > now]
        return max((until for _, until in self._expected), default=now) - now

    def subscribed(self, session: StreamSession) -> None:
        assert session.stream is not None
        self._sessions.setdefault(session.stream, []).append(session)
        oldest = next((entry for entry in self._expected if entry[0] == session.stream), None)
        if oldest:
            self._expected.remove(oldest)
        self._on_subscribe(session)

    def unsubscribed(self, session: StreamSession) -> None:
        if session.stream is not None:
            sessions = self._sessions.get(session.stream, [])
            if session in sessions:
                sessions.remove(session)
            if not sessions:
                self._sessions.pop(session.stream, None)

    def wanted(self, stream: int) -> bool:
        """Whether anyone listens."""
        return stream in self._sessions

    def congested(self) -> list[Connection]:
        """Connections whose client has fallen behind."""
        return [s.connection for group in self._sessions.values() for s in group if s.connection.unsent_bytes > BACKLOG]

    def publish(self, stream: int, parts: list[Part], lossy: bool = False) -> None:
        """Sends one message to everyone who listens; `lossy` leaves out those who have not read the last one."""
        length = sum(memoryview(part).nbytes for part in parts)
        for session in list(self._sessions.get(stream, ())):
            if not (lossy and session.connection.unsent_bytes):
                session.connection.send([length.to_bytes(4, "little"), *parts])

    def close(self) -> None:
        self._listener.close()
