"""RALW: returns scaled to [-1, 1], negatives set to 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covr import ralw

returns = st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=40)


def test_hand_computed_example() -> None:
    assert ralw.weights([0.0, 5.0, 6.0, 7.5, 10.0]).tolist() == pytest.approx([0, 0, 0.2, 0.5, 1])


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
def test_weights_are_between_0_and_1(values: list[float]) -> None:
    weights = ralw.weights(values)
    assert weights.dtype == np.float32 and weights.shape == (len(values),)
    assert ((weights >= 0) & (weights <= 1)).all()


@given(returns)
def test_best_weighs_1_and_order_is_kept(values: list[float]) -> None:
    weights = ralw.weights(values)
    assert weights.max() == 1
    order = np.argsort(values)
    assert (np.diff(weights[order]) >= 0).all()


@given(returns, st.sampled_from((0.25, 2.0, 64.0)), st.integers(-1000, 1000))
def test_scale_and_offset_of_returns_do_not_matter(values: list[float], scale: float, offset: int) -> None:
    assert ralw.weights(np.array(values) * scale + offset) == pytest.approx(ralw.weights(values), abs=1e-6)


@given(returns)
def test_lower_half_of_the_range_weighs_nothing(values: list[float]) -> None:
    array = np.array(values)
    middle = (array.min() + array.max()) / 2
    if array.min() < array.max():
        assert (ralw.weights(values)[array <= middle] == 0).all()


@pytest.mark.parametrize("values", [[4.0], [-3.0, -3.0], [1.7e308], [0.1] * 5])
def test_equal_returns_all_weigh_1(values: list[float]) -> None:
    assert ralw.weights(values).tolist() == [1.0] * len(values)


def test_a_return_that_is_no_number_weighs_nothing() -> None:
    assert ralw.weights([math.nan, 1.0, 2.0, math.inf, -math.inf]).tolist() == [0, 0, 1, 0, 0]
    assert ralw.weights([math.nan]).tolist() == [0]
    assert ralw.weights([]).shape == (0,)
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        ralw.weights([[1.0, 2.0]])
