"""APFT: when fine-tuning rounds are due."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covr.schedule import Growth, finetune_steps, next_step

growths = st.sampled_from(get_args(Growth))


def test_linear_gives_the_five_rounds_the_paper_shows() -> None:
    assert finetune_steps(5_000, "linear", 100_000) == (5_000, 15_000, 30_000, 50_000, 75_000)


def test_printed_formula_gives_three_rounds() -> None:
    assert finetune_steps(5_000, "printed", 100_000) == (5_000, 15_000, 45_000)
    assert next_step(3, 5_000, "printed") == 165_000


@given(st.integers(1, 10_000), growths, st.integers(0, 200_000))
def test_steps_rise_never_0_and_end_with_the_run(psi0: int, growth: Growth, until: int) -> None:
    steps = finetune_steps(psi0, growth, until)
    assert all(a < b for a, b in zip((0, *steps), steps, strict=False))
    assert not steps or steps[-1] <= until
    assert next_step(len(steps), psi0, growth) > until


@given(st.integers(1, 10_000), growths, st.integers(1, 20))
def test_intervals_never_shrink(psi0: int, growth: Growth, rounds: int) -> None:
    steps = [0, *(next_step(c, psi0, growth) for c in range(rounds + 1))]
    gaps = [b - a for a, b in pairwise(steps)]
    assert gaps[0] == psi0 and gaps == sorted(gaps)


@given(st.integers(1, 5_000), growths, st.integers(1, 9))
def test_a_scaled_budget_scales_every_step(psi0: int, growth: Growth, factor: int) -> None:
    longer = finetune_steps(psi0 * factor, growth, 20 * psi0 * factor)
    assert longer == tuple(factor * step for step in finetune_steps(psi0, growth, 20 * psi0))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="psi0 = 0"):
        finetune_steps(0)
    with pytest.raises(ValueError, match="rounds_done = -1"):
        next_step(-1)
    with pytest.raises(ValueError, match=r"'cubic'.*linear"):
        next_step(0, 5, "cubic")  # type: ignore[arg-type]
