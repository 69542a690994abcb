"""Files that are read at once give what each gives line by line, whatever is in them."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.batch import Source, to_table
from results.layout import StoreError, StoreWarning
from results.parse import MEASURED, by_line

if TYPE_CHECKING:
    from pathlib import Path

STEPS = {"env_steps": 4, "agent_steps": 2, "action_repeat": 2}
ROW: dict[str, Any] = {"schema": 1, "kind": "eval", **STEPS, "metric": "return", "value": 1.5, "wall_s": 1.0, "time": 2}
GOOD = json.dumps(ROW | {"episodes": [1.25, 0.1, 3]}).encode()


def row(**changes: Any) -> bytes:
    return json.dumps(ROW | changes).encode()


def without(key: str) -> bytes:
    return json.dumps({name: value for name, value in ROW.items() if name != key}).encode()


ODD = [
    b"", b" ", b"\0", b"\0" * 40, b"null", b"7", b"[]", b"{}", b"}", b"{", b'"{"', b"\xff", b"\xef\xbb\xbf" + GOOD,
    GOOD[:-1], GOOD[:30], GOOD + GOOD, GOOD + b" " + GOOD, GOOD + b" x", GOOD + b"\0", GOOD + b",", b"," + GOOD,
    b" " + GOOD, GOOD + b"\r", GOOD.replace(b", ", b",\r"), GOOD.replace(b'"k', b'\r{"k'), GOOD.replace(b"}", b""),
    GOOD + b"}", b"//\n", GOOD[:-1] + b",}", GOOD.replace(b'"value"', b'"value": 9.0, "value"'),
    GOOD.replace(b'"value"', b'"v\\u0061lue": 9.0, "v"'), GOOD.replace(b"1.25", b"NaN"), GOOD.replace(b"1.5", b"NaN"),
    GOOD.replace(b"1.5", b"1e400"), GOOD.replace(b"1.5", b"-0.0"), GOOD.replace(b"1.5", b"-0"),
    GOOD.replace(b"1.5", b"01"), GOOD.replace(b"1.5", b"1."), GOOD.replace(b"1.5", b".5"), GOOD.replace(b"1.5", b"+1"),
    GOOD.replace(b"1.5", b"1" * 400), GOOD.replace(b"1.5", b"0.30000000000000004441"), GOOD.replace(b"1.5", b"-1E-320"),
    GOOD.replace(b"1.5", b"9007199254740993"), GOOD.replace(b'": 4,', b'": 4.0,'), GOOD.replace(b'": 4,', b'": 4e0,'),
    GOOD.replace(b'": 4,', b'": -0,'), b"[" * 5000, GOOD[:-1] + b', "x": ' + b"[" * 9000 + b"]" * 9000 + b"}",
    GOOD[:-1] + b', "x": ' + b'{"y":' * 9000 + b"1" + b"}" * 9001,
    *(row(value=value) for value in ("nan", "inf", "-inf", "NaN", "1.5", "", True, None, 3, 2**70, [1], {})),
    *(row(episodes=value) for value in ([], None, [1], ["nan"], [None], [True], ["x"], 7, [[1]], "x")),
    *(row(text=value) for value in ("", "a\nb", "\u00e9", "\ud800", "{", "[[", None, 7, "\0", "a\\u0062", "c:\\d")),
    *(row(labels=value) for value in ({}, {"b": "2", "a": 1}, {"a": None}, [], "x", "", None, 0)),
    *(row(**{name: value}) for name in ("env_steps", "schema") for value in (-1, True, "4", None, 2**63, 2**63 - 1, 0)),
    *(row(**{name: value}) for name in ("kind", "metric") for value in ("", 7, None, "resume", "\u00e9", ["eval"])),
    *(without(name) for name in ROW), row(other=[1, 2]), row(other={"a": 1}), row(other="x"), row(other=1),
]  # fmt: skip


def both(out: Path, files: list[bytes]) -> tuple[list[Any], list[Any]]:
    """Rows and unreadable lines of each file: read together, and by lines. A file of a newer version has none."""
    sources = [Source(f"catch@short/catch/a/{seed}", data, b"") for seed, data in enumerate(files)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        table, reads = to_table(out, sources)
    at = 0
    together: dict[str, Any] = {}
    for each in reads:
        rows = table.select(MEASURED.names).slice(at, each.rows).to_pylist()
        assert set(table["run_id"].slice(at, each.rows).to_pylist()) <= {each.source.run_id}
        together[each.source.run_id] = (rows, each.skipped, each.first_skipped)
        at += each.rows
    assert at == len(table)
    lines: dict[str, Any] = {}
    for source in sources:
        try:
            rows, bad = by_line(source.rows, "file")
        except StoreError:
            continue
        lines[source.run_id] = (rows.to_pylist(), len(bad), bad[0] if bad else 0)
    return list(map(repr, together.items())), list(map(repr, lines.items()))  # of NaN the texts are equal


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_is_read_alike_among_other_files(tmp_path: Path, odd: bytes) -> None:
    files = [GOOD + b"\n", GOOD, odd, GOOD + b"\n" + odd + b"\n" + GOOD, odd + b"\n" + GOOD, GOOD + b"\n" * 3, b""]
    together, lines = both(tmp_path, files)
    assert together == lines
    assert len(lines) >= 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["eval", "resume", "end"]), st.integers(0, 3)), max_size=6), max_size=5)
)
def test_which_rows_count_is_told_alike(tmp_path_factory: pytest.TempPathFactory, files: list[Any]) -> None:
    texts = [b"\n".join(row(kind=kind, env_steps=steps) for kind, steps in file) for file in files]
    together, lines = both(tmp_path_factory.getbasetemp(), texts)
    assert together == lines


def test_ordinary_files_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.batch.by_line", lambda *_: pytest.fail("read by lines"))
    rows = [GOOD, row(text="a\nb\t"), row(value=-1e-300), row(kind="end", metric="end", value=1)]
    table, reads = to_table(tmp_path, [Source(f"catch@short/catch/a/{n}", b"\n".join(rows), b"") for n in range(5)])
    assert [each.rows for each in reads] == [4] * 5 and table["live"].to_pylist() == ([False, False, True, True] * 5)
