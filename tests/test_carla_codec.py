"""MessagePack, wire structs and the table of client releases."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suites.carla.server.protocol import codec, wire
from suites.carla.server.protocol.codec import MalformedError, Packed, Unpacker, pack
from suites.carla.server.protocol.versions import VERSIONS, version

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=20,
)


@given(st.lists(VALUES, min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_values_survive_the_wire_however_it_is_cut(values: list[Any], rng: Any) -> None:
    raw = b"".join(pack(value) for value in values)
    unpacker, received = Unpacker(), []
    while raw:
        cut = rng.randint(1, len(raw))
        received += unpacker.feed(raw[:cut])
        raw = raw[cut:]
    assert received == values


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_noise_is_read_or_refused_but_never_breaks(noise: bytes) -> None:
    with contextlib.suppress(MalformedError):
        Unpacker().feed(noise)


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65535, 65536])
def test_lengths_at_their_borders(length: int) -> None:
    for value in ("a" * length, b"a" * length, [1] * length):
        assert Unpacker().feed(pack(value)) == [value]


def test_limits_hold_before_memory_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    for raw in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 100 + b"\x00"):
        with pytest.raises(MalformedError):
            Unpacker().feed(raw)
    monkeypatch.setattr(codec, "MAX_OBJECTS", 10)
    with pytest.raises(MalformedError, match="10 objects"):
        Unpacker().feed(pack([0] * 20))


def test_maps_and_extensions_are_read_past() -> None:
    raw = b"\x93\x81\xa1a\x01\xd4\x05\x00\x07"  # [{"a": 1}, ext, 7]
    ((first, second, third),) = Unpacker().feed(raw)
    assert (first.kind, second.kind, third) == ("map", "ext", 7)


def test_packed_bytes_are_embedded_and_strangers_refused() -> None:
    assert Unpacker().feed(pack([Packed(pack([1, 2])), "x"])) == [[[1, 2], "x"]]
    with pytest.raises(TypeError, match="set"):
        pack({1})
    with pytest.raises(OverflowError):
        pack(2**64)


def test_structs_keep_defaults_for_a_missing_tail() -> None:
    read = wire.reader(wire.Transform)
    assert read([[1, 2.5, 3], [4, 5, 6]]) == wire.Transform(wire.Vector(1, 2.5, 3), wire.Rotation(4, 5, 6))
    assert read([[1]]) == wire.Transform(wire.Vector(1.0, 0.0, 0.0), wire.Rotation())
    assert read([[1, 2, 3, 99], [4, 5, 6], "more"]).location == (1, 2, 3)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, "1"), (float, True), (float, math.nan), (float, math.inf), (int, 1.0), (int, True), (bool, 1),
        (str, b"a"), (wire.Vector, 3), (wire.ActorDescription, [1]), (tuple[int, ...], 5), (float | None, 1.0),
    ],
)  # fmt: skip
def test_values_of_another_shape_are_refused_by_name(kind: Any, value: Any) -> None:
    with pytest.raises(wire.BadArgumentError, match="expected, not"):
        wire.reader(kind)(value)


def test_optionals_travel_as_carla_sends_them() -> None:
    read = wire.reader(wire.EpisodeSettings)
    for delta in (None, 0.05):
        sent = wire.EpisodeSettings(synchronous=True, fixed_delta=delta)
        (received,) = Unpacker().feed(pack(wire.settings_as_sent(sent)))
        assert read(received) == sent


def test_releases_differ_as_measured() -> None:
    old, new = version("0.9.15"), version("0.9.16")
    assert (old.world_observer, new.world_observer) == (16, 17)
    assert (old.attribute_base, new.attribute_base) == (0, 1)
    assert not old.spawn_has_socket and new.spawn_has_socket
    assert not old.box_has_actor and new.box_has_actor
    place = wire.Vector(100.0, 200.0, 0.0)
    assert old.geolocation((0.0, 0.0), place)[0] == pytest.approx(-0.00179663, rel=1e-4)
    assert new.geolocation((0.0, 0.0), place)[0] == pytest.approx(+0.00179735, rel=1e-4)


def test_unknown_releases_are_refused() -> None:
    with pytest.raises(ValueError, match=f"0.10.0.*{', '.join(VERSIONS)}"):
        version("0.10.0")
