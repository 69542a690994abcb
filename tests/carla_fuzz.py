"""Malformed, truncated and senseless messages to both ports: `carla_fuzz.py PORT COUNT SEED`.

A witness, another client, is asked now and then; it must be answered as if nothing happened.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from typing import Any

from carla_wire import RawClient

from suites.carla.server.api import METHODS
from suites.carla.server.protocol.codec import pack

WITNESS_EVERY = 50  # messages
# Slow or far-reaching by design: sampled once in a while only.
RARE = {"load_new_episode", "copy_opendrive_to_file"}
STRINGS = (
    "",
    "highway",
    "vehicle.tesla.model3",
    "sensor.camera.rgb",
    "walker.pedestrian.0001",
    "x" * 5000,
    "é\0",
    "{}",
)
NUMBERS = (0, 1, -1, 2, 255, 2**31, 2**32 - 1, 2**63, -(2**63), 0.5, 1e30, -1e-30, float("nan"), float("inf"))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that MessagePack can say."""
    kind = rng.randrange(9 if depth < 5 else 6)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind in (1, 2):
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.randrange(40)
    if kind == 4:
        return rng.choice(STRINGS)
    if kind == 5:
        return rng.randbytes(rng.randrange(30))
    return [value(rng, depth + 1) for _ in range(rng.randrange(8))]


def numbers(rng: random.Random, count: int) -> list[float]:
    return [rng.choice((0.0, 1.0, -3.5, 100.0, 1e5, 1e30)) for _ in range(count)]


def plausible(rng: random.Random) -> Any:
    """An argument of a shape that methods take, with odd values in it."""
    transform = [numbers(rng, 3), numbers(rng, 3)]
    description = [rng.randrange(60), rng.choice(STRINGS[1:5]), [["fov", 2, rng.choice(("90", "x", "1e9"))]]]
    return rng.choice(
        (
            rng.randrange(30), rng.random() * 100, rng.random() < 0.5, numbers(rng, 3), transform, description,
            [*numbers(rng, 3), True, False, False, 1], numbers(rng, 14), [numbers(rng, 3), 2.0, False],
            [[[rng.randrange(22), [rng.randrange(30), *[value(rng, 3) for _ in range(4)]]]]], numbers(rng, 5),
        )
    )  # fmt: skip


def request(rng: random.Random) -> tuple[str, list[Any]]:
    """A well-formed request: any method, with any arguments or with plausible ones."""
    name = rng.choice([name for name in METHODS if name not in RARE or rng.random() < 0.02])
    argument = value if rng.random() < 0.3 else plausible
    return name, [argument(rng) for _ in range(rng.randrange(6))]


def garbage(rng: random.Random) -> bytes:
    """Bytes that are no request: noise, another message, a request cut short or with a byte changed."""
    name, arguments = request(rng)
    raw = pack([0, rng.randrange(2**32), name, [[False], *arguments]])
    at = rng.randrange(len(raw))
    return rng.choice((rng.randbytes(50), pack(value(rng)), raw[:at], raw[:at] + rng.randbytes(1) + raw[at + 1 :]))


def fuzz(port: int, count: int, seed: int) -> dict[str, int]:
    """Sends `count` messages; returns counts of what happened. Raises when a request or the witness is not answered."""
    rng = random.Random(seed)
    witness, client = RawClient(port), RawClient(port)
    _, stream_port = witness.token(1)
    client.synchronous()
    seen = {"requests": 0, "errors": 0, "internal errors": 0, "garbage": 0, "streams": 0}
    for index in range(count):
        if index % WITNESS_EVERY == 0:
            assert witness.value("version").startswith("0.9.")
        kind = rng.random()
        if kind < 0.2:
            seen["streams"] += 1
            attack_stream(rng, stream_port)
        elif kind < 0.5:
            seen["garbage"] += 1
            with socket.create_connection(("127.0.0.1", port), 10.0) as sock:
                sock.sendall(garbage(rng))
        else:
            seen["requests"] += 1
            answer = str(client.call(*request(rng)))
            seen["errors"] += answer.startswith("[[0, [")
            seen["internal errors"] += "internal error" in answer
    assert witness.value("version").startswith("0.9.")
    witness.close()
    client.close()
    return seen


def attack_stream(rng: random.Random, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10.0) as sock:
        stream = rng.choice((1, 2, 3, rng.randrange(2**32)))
        raw = struct.pack("<I", stream) + rng.randbytes(rng.randrange(40))
        sock.sendall(raw[: rng.randrange(len(raw) + 1)])


if __name__ == "__main__":
    begun = time.perf_counter()
    print(fuzz(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])), f"{time.perf_counter() - begun:.1f} s")
