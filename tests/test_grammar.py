"""The answer's grammar: what parses, what does not and why, and that every answer is counted once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covr.vlm.grammar import STATUSES, AnswerCounts, format_action, parse

components = st.floats(-1, 1, width=32)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Action: [0.01, 0.98]", [0.01, 0.98]),
        ("Action: [+0.01, -0.98]", [0.01, -0.98]),
        ("Action: [1, -1]", [1, -1]),
        ("Action: [0.1234, +0]\n", [0.1234, 0]),
    ],
)
def test_answers(text: str, action: list[float]) -> None:
    parsed = parse(text, 2)
    assert parsed.status == "ok" and parsed.action is not None
    assert parsed.action.dtype == np.float32
    assert parsed.action.tolist() == pytest.approx(action)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "no_action_word"),
        ("[0.1, 0.2]", "no_action_word"),
        ("action: [0.1, 0.2]", "no_action_word"),
        ("The Action: [0.1, 0.2]", "no_match"),
        ("Action: [0.1, 0.2] because", "no_match"),
        ("Action: [0.1,0.2]", "no_match"),
        ("Action: [.1, 0.2]", "no_match"),
        ("Action: [0.1, 0.2", "no_match"),
        ("Action: [0.12345, 0.2]", "no_match"),
        ("Action: [00.1, 0.2]", "no_match"),
        ("Action: [1e-1, 0.2]", "no_match"),
        ("Action: [\uff10.1, 0.2]", "no_match"),  # a fullwidth digit
        ("Action: [0.1, 0.2]\u2028", "no_match"),
        ("Action: []", "no_match"),
        ("Action: [0.1]", "wrong_dim"),
        ("Action: [0.1, 0.2, 0.3]", "wrong_dim"),
        ("Action: [1.01, 0.2]", "out_of_range"),
        ("Action: [0.1, -2]", "out_of_range"),
        ("Action: [1.004, 0.2]", "out_of_range"),  # not rounded into range
        ("Action: [0.1, -1.0001]", "out_of_range"),
        ("Action: [0.1, " + "9" * 5000 + "]", "out_of_range"),
        ("Action: [nan, 0.2]", "nonfinite"),
        ("Action: [0.2, -Infinity]", "nonfinite"),
    ],
)
def test_reasons(text: str, status: str) -> None:
    assert parse(text, 2) == (None, status)


def test_an_answer_cut_off_is_truncated_unless_it_is_whole() -> None:
    assert parse("Action: [0.1, 0.", 2, finished=False).status == "truncated"
    assert parse("I think that", 2, finished=False).status == "truncated"
    assert parse("Action: [0.1, 0.2]", 2, finished=False).status == "ok"
    assert parse("Action: [0.1]", 2, finished=False).status == "wrong_dim"


@given(st.one_of(st.text(), st.text("Action: [+-0.19,]nif ")), st.integers(1, 6), st.booleans())
def test_never_raises_and_never_leaves_the_range(text: str, action_dim: int, finished: bool) -> None:
    action, status = parse(text, action_dim, finished=finished)
    assert status in STATUSES
    assert (action is not None) == (status == "ok")
    if action is not None:
        assert action.shape == (action_dim,) and (np.abs(action) <= 1).all()


@given(st.lists(components, min_size=1, max_size=8))
def test_parse_inverts_format(action: list[float]) -> None:
    text = format_action(action)
    back = parse(text, len(action)).action
    assert back is not None
    assert back == pytest.approx(np.array(action), abs=0.005 + 1e-7)
    assert format_action(back) == text


def test_zero_has_one_sign() -> None:
    assert format_action([-0.0, -0.004]) == "Action: [+0.00, +0.00]"
    parsed = parse("Action: [-0.00]", 1).action
    assert parsed is not None and not np.signbit(parsed).any()


@pytest.mark.parametrize("action", [[1.01], [-1.0051], [np.nan], [np.inf], [], [[0.1]]])
def test_format_clips_nothing(action: list[float]) -> None:
    with pytest.raises(ValueError, match=r"action"):
        format_action(action)


def test_format_takes_a_float_just_above_one() -> None:
    assert format_action([np.nextafter(np.float32(1), np.float32(2))]) == "Action: [+1.00]"


@given(st.lists(st.lists(st.sampled_from(STATUSES), max_size=8), max_size=8))
def test_counts_add_up_to_queries(batches: list[list[str]]) -> None:
    counts = AnswerCounts()
    for batch in batches:
        counts.add(batch)
    table = counts.as_dict()
    assert set(table) == set(STATUSES)
    assert sum(table.values()) == counts.queries == sum(map(len, batches))
    again = AnswerCounts(table)
    assert again.as_dict() == table and again.queries == counts.queries
    if counts.queries:
        assert counts.ok_rate == table["ok"] / counts.queries
    else:
        assert np.isnan(counts.ok_rate)


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'fine'.*no_match"):
        AnswerCounts().add(["fine"])
