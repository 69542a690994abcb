"""EDDF keeps the samples whose z-scored return exceeds median + sigmoid(entropy) * IQR."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covr import eddf

returns = st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=40)
entropies = st.floats(-30, 30)
directions = st.sampled_from(get_args(eddf.Direction))


def test_threshold_of_a_hand_computed_example() -> None:
    z = [-1.5, -0.5, 0.0, 0.5, 1.5]  # quartiles -0.5 and 0.5
    assert eddf.threshold(z, 0.0) == pytest.approx(0.5)
    assert eddf.threshold(z, math.log(3)) == pytest.approx(0.75)
    assert eddf.threshold(z, math.log(3), "prose") == pytest.approx(0.25)


def test_select_of_a_hand_computed_example() -> None:
    # mean 3, standard deviation 2 over (1, 2, 2, 2, 7, 4): threshold between z of 4 and z of 7
    values = [1.0, 2.0, 2.0, 2.0, 7.0, 4.0]
    assert eddf.zscores(values) == pytest.approx([-1, -0.5, -0.5, -0.5, 2, 0.5])
    assert eddf.threshold(eddf.zscores(values), 0.0) == pytest.approx(-0.5 + 0.5 * 0.75)
    assert eddf.select(values, 0.0).tolist() == [False, False, False, False, True, True]
    assert eddf.select(values, 30.0).tolist() == [False, False, False, False, True, True]


@given(returns, st.tuples(entropies, entropies))
def test_entropy_moves_the_threshold_as_the_direction_says(values: list[float], pair: tuple[float, float]) -> None:
    low, high = sorted(pair)
    z = eddf.zscores(values)
    assert eddf.threshold(z, low, "eq5") <= eddf.threshold(z, high, "eq5")
    assert eddf.threshold(z, low, "prose") >= eddf.threshold(z, high, "prose")


@given(returns, entropies)
def test_directions_mirror_each_other(values: list[float], entropy: float) -> None:
    z = eddf.zscores(values)
    assert eddf.threshold(z, entropy, "prose") == pytest.approx(eddf.threshold(z, -entropy, "eq5"))
    assert np.array_equal(eddf.select(values, entropy, "prose"), eddf.select(values, -entropy, "eq5"))


@given(returns, entropies, directions, st.sampled_from((0.25, 2.0, 64.0)), st.integers(-1000, 1000))
def test_scale_and_offset_of_returns_do_not_matter(
    values: list[float], entropy: float, direction: eddf.Direction, scale: float, offset: int
) -> None:
    moved = np.array(values) * scale + offset
    assert eddf.zscores(moved) == pytest.approx(eddf.zscores(values), abs=1e-9)
    clear = abs(eddf.zscores(values) - eddf.threshold(eddf.zscores(values), entropy, direction)) > 1e-9
    same = eddf.select(moved, entropy, direction) == eddf.select(values, entropy, direction)
    assert same[clear].all()


@given(returns, entropies, directions)
def test_keeps_the_best_and_never_more_than_half(
    values: list[float], entropy: float, direction: eddf.Direction
) -> None:
    kept = eddf.select(values, entropy, direction)
    array = np.array(values)
    assert kept.sum() <= len(values) / 2
    if kept.any():
        assert array[kept].min() > array[~kept].max()


@given(returns, st.sampled_from((math.nan, math.inf, -math.inf)), st.integers(0, 40), entropies, directions)
def test_a_return_that_is_no_number_is_never_kept_and_changes_nothing(
    values: list[float], odd: float, place: int, entropy: float, direction: eddf.Direction
) -> None:
    place = min(place, len(values))
    kept = eddf.select([*values[:place], odd, *values[place:]], entropy, direction)
    assert not kept[place]
    assert np.array_equal(np.delete(kept, place), eddf.select(values, entropy, direction))


@pytest.mark.parametrize(
    "values", [[], [3.0], [0.1] * 7, [math.nan], [math.nan] * 3, [2.0, math.nan, 2.0], [0, 5e-324]]
)
def test_nothing_stands_out_nothing_is_kept(values: list[float]) -> None:
    assert eddf.select(values, 0.5).tolist() == [False] * len(values)


def test_returns_at_the_ends_of_the_floats() -> None:
    values = [-1.7e308, 0.0, 0.0, 1.7e308]
    assert np.isfinite(eddf.zscores(values)).all()
    assert eddf.select(values, 0.0).tolist() == [False, False, False, True]


@pytest.mark.parametrize("entropy", [-math.inf, -1e6, 1e6, math.inf])
def test_extreme_entropies_are_limits(entropy: float) -> None:
    z = [-1.0, 0.0, 1.0]
    assert eddf.threshold(z, entropy) == (1.0 if entropy > 0 else 0.0)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"'up'.*eq5"):
        eddf.select([1.0, 2.0], 0.0, "up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        eddf.select([], math.nan)
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        eddf.select(np.zeros((2, 1)), 0.0)
    with pytest.raises(ValueError, match="no finite"):
        eddf.threshold([math.nan], 0.0)
