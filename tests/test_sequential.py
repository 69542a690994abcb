"""Exact tests of several quantities at once, and looks at data that grow: false alarms, by simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.gate.returns import LOOKS, Answer, looks, returns
from analysis.statistics.permutation import below, orders, separation
from analysis.statistics.sequential import information, levels, spent

ALPHA = 0.05
Rng = np.random.Generator
SCORES: dict[str, Callable[[Rng, int], Any]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.lognormal(sigma=1.5, size=n),
    "half failing": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, 800 + 50 * rng.normal(size=n)),
}


def test_all_of_alpha_is_spent_at_the_end_and_no_more() -> None:
    assert spent(1.0, ALPHA) == pytest.approx(ALPHA)
    shares = [spent(share, ALPHA) for share in (0.2, 0.5, 0.8, 1.0)]
    assert shares == sorted(shares)
    assert levels([1.0], ALPHA) == pytest.approx([ALPHA], abs=1e-6)


def test_bounds_are_those_of_the_published_table() -> None:
    """Five equal looks at a one-sided 0.025: Lan and DeMets' bounds of Pocock's type."""
    bounds = levels([0.2, 0.4, 0.6, 0.8, 1.0], 0.025)
    from scipy.stats import norm

    assert norm.isf(bounds) == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=0.003)


def test_information_of_looks_against_a_fixed_reference() -> None:
    assert information((3, 5, 8), 8) == pytest.approx([0.5454545, 0.7692308, 1.0])


def test_looks_by_chance_alone_alarm_as_often_as_alpha() -> None:
    """Brownian increments: the bounds of three looks, crossed by chance, in 20,000 draws."""
    shares = np.array(information(LOOKS, 8))
    from scipy.stats import norm

    bounds = norm.isf(levels(list(shares), ALPHA))
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(20_000, 3)) * np.sqrt(np.diff(shares, prepend=0))
    z = steps.cumsum(axis=1) / np.sqrt(shares)
    assert (z > bounds).any(axis=1).mean() == pytest.approx(ALPHA, abs=0.006)


def test_the_true_order_comes_first_and_each_once() -> None:
    marks = orders(3, 2)
    assert marks.shape == (10, 5) and len(np.unique(marks, axis=0)) == 10
    assert marks[0].tolist() == [False] * 3 + [True] * 2 and (marks.sum(axis=1) == 2).all()


def test_t_is_students() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(8, 4)), rng.normal(size=(3, 4))
    found = separation(a, b, ALPHA)
    assert found.t == pytest.approx(ttest_ind(b, a).statistic, rel=1e-6)


def test_below_counts_orders() -> None:
    assert below(np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0])) == pytest.approx(1 / 10)
    assert below(np.array([1.0, 2.0]), np.array([5.0, 6.0, 7.0])) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", SCORES)
def test_many_signals_of_the_same_agent_are_told_apart_in_at_most_one_of_twenty(kind: str) -> None:
    """Two hundred signals that depend on each other, eight runs against three, a thousand times."""
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(40, 200))
    alarms = 0
    for _ in range(1_000):
        values = SCORES[kind](rng, (11, 40)) @ mixing
        alarms += separation(values[:8], values[8:], ALPHA).p <= ALPHA
    assert alarms / 1_000 <= ALPHA + 0.02  # three standard errors of the simulation


def test_a_signal_that_moved_far_is_named() -> None:
    rng = np.random.default_rng(3)
    seen = 0
    for _ in range(100):
        values = rng.normal(size=(11, 200))
        values[8:, 17] += 8.0
        found = separation(values[:8], values[8:], ALPHA)
        seen += found.p <= ALPHA and np.abs(found.t).argmax() == 17
    assert seen >= 95


def test_what_never_varies_and_differs_is_told_apart() -> None:
    rng = np.random.default_rng(4)
    values = np.c_[rng.normal(size=(11, 20)), np.full(11, 2.0), np.zeros(11)]
    values[8:, 20] = 4.0
    found = separation(values[:8], values[8:], ALPHA)
    assert found.p == pytest.approx(1 / 165) and np.abs(found.t).argmax() == 20 and found.t[21] == 0


@pytest.mark.parametrize("kind", SCORES)
def test_an_equal_agent_is_called_worse_at_any_look_in_at_most_one_of_twenty(kind: str) -> None:
    rng = np.random.default_rng(5)
    worse = 0
    for _ in range(400):
        reference, new = SCORES[kind](rng, 8), SCORES[kind](rng, 8)
        answers = [returns(reference, new[:n], 0.0, ALPHA).answer for n in LOOKS]
        worse += Answer.WORSE in answers
    assert worse / 400 <= ALPHA + 0.03


def test_a_loss_beyond_the_margin_is_not_passed() -> None:
    """An agent that is worse by the margin exactly passes in at most one of twenty; one that is much worse is named."""
    rng = np.random.default_rng(6)
    passed = named = 0
    for _ in range(300):
        reference = 50 + rng.normal(size=8)
        passed += returns(reference, 45 + rng.normal(size=8), 5.0, ALPHA).answer is Answer.NOT_WORSE
        named += returns(reference, 40 + rng.normal(size=3), 5.0, ALPHA).answer is Answer.WORSE
    assert passed / 300 <= ALPHA + 0.035 and named == 300


def test_undecided_says_how_many_seeds_would_decide() -> None:
    rng = np.random.default_rng(7)
    reference, new = rng.normal(scale=10, size=8), rng.normal(scale=10, size=3)
    found = returns(reference, new, 2.0, ALPHA)
    assert found.answer is Answer.UNDECIDED and found.needed > 8
    assert f"about {found.needed} seeds a side would decide" in found.text()
    assert returns(reference, new, 0.0, ALPHA).needed == 0


def test_looks_begin_where_seeds_are_there_anyway() -> None:
    assert looks(3) == (3, 5, 8) and looks(4) == (4, 5, 8) and looks(8) == (8,)


def test_a_return_that_is_no_number_is_never_not_worse() -> None:
    """NaN compares as less than nothing, which read as certainty."""
    assert below(np.array([1.0, 2.0, 3.0]), np.array([np.nan, 1.0, 2.0])) == 1.0
    old, new = [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0], [np.nan, 0.0, 0.0]
    for found, side in (
        (returns(old, new, 1.0, 0.05), "the new side"),
        (returns(new, old, 1.0, 0.05), "the reference"),
    ):
        assert found.answer is Answer.UNDECIDED and f"a run of {side} has no finite training return" in found.text()


def test_as_many_orders_are_beyond_the_critical_value_as_the_level_allows() -> None:
    """Of 70 orders 3 at 5 %; of the 6 of two and two runs none, so nothing could be told apart."""
    values = np.random.default_rng(0).normal(size=(8, 1))
    found = separation(values[:4], values[4:], 0.05)
    every = [abs(separation(values[~marks], values[marks], 0.05).t[0]) for marks in orders(4, 4)]
    assert found.critical == pytest.approx(sorted(every)[-3])
    assert np.isnan(separation(values[:2], values[2:4], 0.05).critical)
