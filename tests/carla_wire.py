"""A bare client of the server's two ports: for what the real client would never send."""

from __future__ import annotations

import socket
import struct
from typing import Any

from suites.carla.server.protocol.codec import Unpacker, pack


class RawClient:
    """One RPC connection. `call` returns the enveloped result as it travelled."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self._unpacker = Unpacker()
        self._last = 0
        self._answers: dict[int, Any] = {}

    def send(self, method: str, *arguments: Any) -> int:
        self._last += 1
        self.sock.sendall(pack([0, self._last, method, [[False], *arguments]]))
        return self._last

    def answer(self, message_id: int) -> Any:
        while message_id not in self._answers:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            for kind, number, error, result in self._unpacker.feed(data):
                assert kind == 1 and error is None
                self._answers[number] = result
        return self._answers.pop(message_id)

    def call(self, method: str, *arguments: Any) -> Any:
        return self.answer(self.send(method, *arguments))

    def value(self, method: str, *arguments: Any) -> Any:
        """The result of a call that succeeds."""
        (envelope,) = self.call(method, *arguments)
        assert envelope[0] in (1, False), envelope
        return envelope[1] if len(envelope) > 1 else None

    def synchronous(self, delta: float = 0.05) -> None:
        settings = self.value("get_episode_settings")
        settings[0], settings[2] = True, [True, delta]
        self.value("set_episode_settings", settings)

    def token(self, stream: int) -> tuple[int, int]:
        """(stream id, port) of a stream."""
        (raw,) = self.value("get_sensor_token", stream)
        return struct.unpack_from("<IH", raw)

    def subscribe(self, stream: int) -> socket.socket:
        number, port = self.token(stream)
        sock = socket.create_connection(("127.0.0.1", port), 30.0)
        sock.sendall(struct.pack("<I", number))
        return sock

    def close(self) -> None:
        self.sock.close()


def read_message(sock: socket.socket) -> bytes:
    """The next message of a stream."""
    (length,) = struct.unpack("<I", _exactly(sock, 4))
    return _exactly(sock, length)


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        piece = sock.recv(count - len(parts))
        if not piece:
            raise ConnectionError("the server closed the stream")
        parts += piece
    return bytes(parts)
