"""MessagePack, as much of it as CARLA's RPC uses.

Written here rather than imported: messages are tens of bytes, so a C extension would save microseconds a tick, and
a server that faces arbitrary bytes needs a resumable scan with limits, which is most of this file.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

MAX_BYTES = 64 * 2**20  # of one message; the largest honest one is an OpenDRIVE file of a few megabytes
MAX_OBJECTS = 2**20  # in one message: a batch of 30,000 commands
MAX_DEPTH = 24  # a batch of spawns with follow-up commands nests 9 deep

_DOUBLE = struct.Struct(">Bd")


class MalformedError(ValueError):
    """The bytes are not MessagePack, or exceed the limits above."""


class Foreign(NamedTuple):
    """Stands for a map or an extension, which CARLA does not use: no method takes it."""

    kind: str


class Packed(bytes):
    """Bytes that are MessagePack already: embedded as they are."""


def pack(value: Any) -> bytes:
    """The message of a value made of None, bool, int, float, str, bytes, lists, tuples and `Packed`.

    Raises TypeError for anything else, OverflowError for an integer beyond 64 bits.
    """
    out = bytearray()
    _pack(out, value)
    return bytes(out)


def _pack(out: bytearray, value: Any) -> None:
    kind = type(value)
    if kind is float:
        out += _DOUBLE.pack(0xCB, value)
    elif kind is bool:
        out.append(0xC3 if value else 0xC2)
    elif kind is int:
        _pack_int(out, value)
    elif kind is str:
        raw = value.encode()
        _pack_length(out, len(raw), fix=(0xA0, 32), wide=(0xD9, 0xDA, 0xDB))
        out += raw
    elif isinstance(value, (list, tuple)):
        _pack_length(out, len(value), fix=(0x90, 16), wide=(None, 0xDC, 0xDD))
        for item in value:
            _pack(out, item)
    elif kind is bytes:
        _pack_length(out, len(value), fix=(0, 0), wide=(0xC4, 0xC5, 0xC6))
        out += value
    elif kind is Packed:
        out += value
    elif value is None:
        out.append(0xC0)
    elif isinstance(value, int):  # an enumeration
        _pack_int(out, int(value))
    else:
        raise TypeError(f"{kind.__name__} has no place in a message: {value!r}")


def _pack_int(out: bytearray, value: int) -> None:
    if 0 <= value < 0x80:
        out.append(value)
    elif -0x20 <= value < 0:
        out.append(value & 0xFF)
    elif 0 <= value < 2**32:
        out += struct.pack(">BI", 0xCE, value)
    elif -(2**31) <= value < 0:
        out += struct.pack(">Bi", 0xD2, value)
    elif 0 <= value < 2**64:
        out += struct.pack(">BQ", 0xCF, value)
    elif -(2**63) <= value < 0:
        out += struct.pack(">Bq", 0xD3, value)
    else:
        raise OverflowError(f"{value} does not fit in 64 bits")


def _pack_length(out: bytearray, length: int, fix: tuple[int, int], wide: tuple[int | None, int, int]) -> None:
    if length < fix[1]:
        out.append(fix[0] | length)
    elif length < 2**8 and wide[0] is not None:
        out += struct.pack(">BB", wide[0], length)
    elif length < 2**16:
        out += struct.pack(">BH", wide[1], length)
    else:
        out += struct.pack(">BI", wide[2], length)


# First byte -> (kind, bytes of payload or of the length field, struct format).
_SCALARS: dict[int, struct.Struct] = {
    byte: struct.Struct(">" + code)
    for byte, code in zip((0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF, 0xD0, 0xD1, 0xD2, 0xD3), "fdBHIQbhiq", strict=True)
}
_LENGTHS: dict[int, tuple[str, struct.Struct]] = {
    byte: (kind, struct.Struct(">" + code))
    for kind, row in {
        "bin": ((0xC4, "B"), (0xC5, "H"), (0xC6, "I")),
        "str": ((0xD9, "B"), (0xDA, "H"), (0xDB, "I")),
        "array": ((0xDC, "H"), (0xDD, "I")),
        "map": ((0xDE, "H"), (0xDF, "I")),
        "ext": ((0xC7, "B"), (0xC8, "H"), (0xC9, "I")),
    }.items()
    for byte, code in row
}


def _head(buffer: bytearray, at: int) -> tuple[str, int, int] | None:
    """(kind, bytes of the head, length of what follows) of the object at `at`; None when its head is cut off.

    The length counts bytes for `scalar`, `bin`, `str` and `ext`, items for `array`, pairs for `map`.
    """
    byte = buffer[at]
    if byte < 0x80 or byte >= 0xE0 or byte in (0xC0, 0xC2, 0xC3):
        return "scalar", 1, 0
    if byte in _SCALARS:
        return "scalar", 1, _SCALARS[byte].size
    if byte < 0x90:
        return "map", 1, byte & 0x0F
    if byte < 0xA0:
        return "array", 1, byte & 0x0F
    if byte < 0xC0:
        return "str", 1, byte & 0x1F
    if byte in _LENGTHS:
        kind, field = _LENGTHS[byte]
        if at + 1 + field.size > len(buffer):
            return None
        (length,) = field.unpack_from(buffer, at + 1)
        return kind, 1 + field.size, length + (kind == "ext")
    if 0xD4 <= byte <= 0xD8:
        return "ext", 1, 1 + (1 << (byte - 0xD4))
    raise MalformedError("byte 0xc1 is not MessagePack")


class Unpacker:
    """Cuts a byte stream into messages. Every byte is scanned once, however the stream is cut into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._restart()

    def _restart(self) -> None:
        self._at = 0
        self._pending = 1  # objects still to come before the message is complete
        self._objects = 0

    def feed(self, data: bytes) -> list[Any]:
        """The messages that `data` completes, in order. Raises MalformedError."""
        self._buffer += data
        messages = []
        while self._scan():
            messages.append(_decode(self._buffer))
            del self._buffer[: self._at]
            self._restart()
        return messages

    def _scan(self) -> bool:
        buffer, size = self._buffer, len(self._buffer)
        while self._pending:
            if self._at >= size:
                return False
            head = _head(buffer, self._at)
            if head is None:
                return False
            kind, width, length = head
            children = length if kind == "array" else 2 * length if kind == "map" else 0
            end = self._at + width + (0 if children or kind in ("array", "map") else length)
            self._objects += 1
            if end > MAX_BYTES or self._objects + children > MAX_OBJECTS:
                raise MalformedError(f"a message beyond {MAX_BYTES} bytes or {MAX_OBJECTS} objects")
            if end > size:
                self._objects -= 1
                return False
            self._at = end
            self._pending += children - 1
        return True


def _decode(buffer: bytearray) -> Any:
    value, _ = _object(buffer, 0, 0)
    return value


def _object(buffer: bytearray, at: int, depth: int) -> tuple[Any, int]:
    byte = buffer[at]
    if byte < 0x80:
        return byte, at + 1
    if byte in _SCALARS:
        code = _SCALARS[byte]
        return code.unpack_from(buffer, at + 1)[0], at + 1 + code.size
    if byte == 0xC2 or byte == 0xC3:
        return byte == 0xC3, at + 1
    if byte >= 0xE0:
        return byte - 0x100, at + 1
    if byte == 0xC0:
        return None, at + 1
    head = _head(buffer, at)
    assert head is not None  # scanned
    kind, width, length = head
    at += width
    if depth >= MAX_DEPTH:
        raise MalformedError(f"nested deeper than {MAX_DEPTH}")
    if kind == "array":
        items = []
        for _ in range(length):
            item, at = _object(buffer, at, depth + 1)
            items.append(item)
        return items, at
    if kind == "str":
        return buffer[at : at + length].decode(errors="replace"), at + length
    if kind == "bin":
        return bytes(buffer[at : at + length]), at + length
    if kind == "map":
        for _ in range(2 * length):
            _, at = _object(buffer, at, depth + 1)
        return Foreign(kind), at
    return Foreign(kind), at + length
