"""Statistics equal rliable's on the same draws, and weigh tasks alike where runs are missing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.statistics.bootstrap import (
    METRICS,
    aggregates,
    aggregates_of,
    improvement,
    improvements_of,
    profile,
    profiles_of,
)
from analysis.statistics.intervals import Summary, difference, holm, t_quantile

SCORES = arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=st.floats(-2, 2))


def rliable_aggregates(scores: np.ndarray) -> np.ndarray:
    from rliable import metrics

    functions = (
        metrics.aggregate_iqm, metrics.aggregate_median, metrics.aggregate_mean, metrics.aggregate_optimality_gap
    )  # fmt: skip
    return np.array([function(scores) for function in functions])


@pytest.mark.parametrize("shape", [(5, 6), (3, 1), (10, 4)])
def test_aggregates_equal_rliable_on_the_same_draws(shape: tuple[int, int]) -> None:
    """More replicates than one block holds, so that the draws go on from block to block."""
    from rliable import library

    scores = np.random.default_rng(0).normal(0.6, 0.4, shape)
    reps = 60_000 // scores.size + 50
    np.random.seed(7)
    points, intervals = library.get_interval_estimates({"a": scores}, rliable_aggregates, reps=reps)
    ours = aggregates(scores, reps=reps, seed=7)
    assert tuple(ours) == METRICS
    np.testing.assert_allclose([estimate.value for estimate in ours.values()], points["a"], atol=1e-12)
    np.testing.assert_allclose([estimate[1:] for estimate in ours.values()], intervals["a"].T, atol=1e-12)


def test_profiles_equal_rliable_on_the_same_draws() -> None:
    from rliable import library

    scores = np.random.default_rng(0).normal(0.6, 0.4, (5, 6))
    taus = np.linspace(0, 1, 31)
    np.random.seed(7)
    points, intervals = library.create_performance_profile({"a": scores}, taus, reps=400)
    value, low, high = profile(scores, taus, reps=400, seed=7)
    np.testing.assert_allclose(value, points["a"], atol=1e-12)
    np.testing.assert_allclose([low, high], intervals["a"], atol=1e-12)


@pytest.mark.parametrize("num_runs", [5, 8])
def test_improvement_equals_rliable_on_the_same_draws(num_runs: int) -> None:
    """With ties, and with other numbers of runs on the two sides."""
    from rliable import library, metrics

    x = np.random.default_rng(0).normal(0.6, 0.4, (5, 6)).round(1)
    y = np.random.default_rng(1).normal(0.6, 0.4, (num_runs, 6)).round(1)
    np.random.seed(7)
    points, intervals = library.get_interval_estimates({"pair": (x, y)}, metrics.probability_of_improvement, reps=200)
    ours = improvement(x, y, reps=200, seed=7)
    np.testing.assert_allclose(ours.value, points["pair"], atol=1e-12)
    np.testing.assert_allclose(ours[1:], intervals["pair"].ravel(), atol=1e-12)


def test_other_draws_give_the_same_interval_within_monte_carlo_error() -> None:
    scores = np.random.default_rng(0).normal(0.6, 0.2, (5, 6))
    one, other = (aggregates(scores, ("iqm",), reps=20_000, seed=seed)["iqm"] for seed in (0, 1))
    assert one.value == other.value
    assert one != other
    np.testing.assert_allclose(one[1:], other[1:], atol=0.005)


@settings(max_examples=40, deadline=None)
@given(SCORES)
def test_intervals_contain_what_they_must(scores: np.ndarray) -> None:
    for metric, (value, low, high) in aggregates(scores, reps=50).items():
        assert low <= high
        if metric != "optimality_gap":
            assert scores.min() - 1e-9 <= value <= scores.max() + 1e-9
            assert scores.min() - 1e-9 <= low <= high <= scores.max() + 1e-9
    value, low, high = profile(scores, [-3.0, 0.0, 3.0], reps=50)
    assert value[0] == pytest.approx(1.0)
    assert value[2] == 0.0
    assert (low <= high + 1e-12).all()


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES)
def test_improvements_of_both_directions_add_to_one(x: np.ndarray, y: np.ndarray) -> None:
    tasks = min(x.shape[1], y.shape[1])
    x, y = x[:, :tasks], y[:, :tasks]
    assert improvement(x, y, reps=2).value + improvement(y, x, reps=2).value == pytest.approx(1.0)
    assert improvement(x, x, reps=2).value == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(SCORES, st.data())
def test_a_missing_run_leaves_its_task_the_weight_of_the_others(scores: np.ndarray, data: st.DataObject) -> None:
    """The IQM is that of a matrix in which each task's runs are repeated to the same number."""
    counts = [data.draw(st.integers(1, len(scores))) for _ in range(scores.shape[1])]
    ragged = scores.copy()
    for task, count in enumerate(counts):
        ragged[count:, task] = np.nan
    repeated = np.column_stack([np.repeat(ragged[:n, t], math.lcm(*counts) // n) for t, n in enumerate(counts)])
    assume(repeated.size < 5_000)
    ours, whole = aggregates(ragged, reps=30), aggregates(repeated, reps=1)
    for metric in METRICS:
        assert ours[metric].value == pytest.approx(whole[metric].value, abs=1e-9)
        assert math.isfinite(ours[metric].low)
    assert profile(ragged, [0.5], reps=2)[0, 0] == pytest.approx(profile(repeated, [0.5], reps=2)[0, 0])
    assert improvement(ragged, scores, reps=2).value == pytest.approx(improvement(repeated, scores, reps=2).value)


def test_a_profile_counts_runs_above_a_score_not_at_it() -> None:
    assert profile([[0.25], [0.5]], [0.25, 0.5], reps=2)[0].tolist() == [0.5, 0.0]


def test_an_adjusted_p_is_never_below_that_of_a_smaller_p() -> None:
    """Two tests: 0.03 doubles to 0.06, and 0.04 may not stay below it."""
    assert holm([0.04, 0.03]) == [0.06, 0.06]
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    first, missing, last = holm([0.02, math.nan, 0.5])  # a test that was not made does not count
    assert (first, last) == (0.04, 0.5) and math.isnan(missing)


def test_holms_correction_equals_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(0).random((20, 7)) ** 3
    for p in p_values:
        np.testing.assert_allclose(holm(p.tolist()), multitest.multipletests(p, method="holm")[1], rtol=1e-12)


def test_ragged_interval_resamples_within_the_task() -> None:
    """A task with one run keeps it in every resample."""
    scores = np.array([[0.0, 1.0], [np.nan, 0.0], [np.nan, 0.5]])
    mean = aggregates(scores, ("mean",), reps=2_000)["mean"]
    assert mean.value == pytest.approx(0.25)
    assert mean.low >= 0.0
    assert mean.high <= 0.5


def test_bad_scores_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(num_runs, num_tasks\).*\(3,\)"):
        aggregates([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"no finite score in column\(s\) \[1\]"):
        aggregates([[1.0, np.nan]])
    with pytest.raises(ValueError, match=r"unknown metric \['mode'\]; valid: iqm"):
        aggregates([[1.0]], ("mode",))
    with pytest.raises(ValueError, match="x has 2 tasks, y has 1"):
        improvement([[1.0, 2.0]], [[1.0]])


def test_t_quantiles_and_welch_intervals_equal_scipys() -> None:
    from scipy import stats

    for freedom in (1.0, 2.0, 3.7, 30.0, 1e4):
        assert t_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-4)
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 2, 4), rng.normal(3, 1, 3)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    ours = difference(Summary(x.mean(), x.std(ddof=1), 4), Summary(y.mean(), y.std(ddof=1), 3))
    np.testing.assert_allclose(ours, (x.mean() - y.mean(), *expected), rtol=1e-5)


def test_a_difference_is_without_interval_where_a_deviation_is_unknown() -> None:
    value, low, high = difference(Summary(5.0, math.nan, 1), Summary(3.0, 1.0, 3))
    assert value == 2.0
    assert math.isnan(low) and math.isnan(high)
    assert difference(Summary(5.0, 0.0, 3), Summary(3.0, 0.0, 3)) == (2.0, 2.0, 2.0)


def test_agents_together_get_what_each_gets_alone() -> None:
    """They share draws; none of them may change another's numbers."""
    rng = np.random.default_rng(0)
    agents = [rng.random(shape) for shape in ((5, 3), (4, 3), (5, 3), (7, 3))]
    agents[2][3:, 1] = agents[3][1:, 0] = np.nan
    assert aggregates_of(agents, reps=300) == [aggregates(each, reps=300) for each in agents]
    pairs = list(itertools.pairwise(agents))
    assert improvements_of(pairs, reps=300) == [improvement(*pair, reps=300) for pair in pairs]
    for found, each in zip(profiles_of(agents, [0.2, 0.5], reps=300), agents, strict=True):
        np.testing.assert_array_equal(found, profile(each, [0.2, 0.5], reps=300))


def test_equal_runs_have_an_interval_of_no_width() -> None:
    for metric, estimate in aggregates(np.full((5, 3), 0.1), reps=300).items():
        assert estimate == (pytest.approx(0.9 if metric == "optimality_gap" else 0.1),) * 3
        assert len(set(estimate)) == 1


@pytest.mark.parametrize("outlier", [1e15, -1e15])
def test_an_outlier_takes_no_digits_from_the_iqm(outlier: float) -> None:
    scores = np.append(np.linspace(0.1, 0.8, 7), outlier)[:, None]
    assert aggregates(scores, ("iqm",), reps=1)["iqm"].value == pytest.approx(
        np.sort(scores[:, 0])[2:6].mean(), rel=1e-15
    )
