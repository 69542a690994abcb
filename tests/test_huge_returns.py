"""Returns near the largest number there is: the same in every output, named, without warnings of numpy's own."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.numbers import decimals

HUGE = "values beyond 1e+100 count as infinite: b on t1, seed 1 (return)"


def scores(path: Path, huge: float) -> Path:
    lines = ["agent,task,seed,env_steps,return"]
    for agent in "ab":
        for seed in range(3):
            value = huge if (agent, seed) == ("b", 1) else 0.1 * seed
            lines += [f"{agent},t1,{seed},{step},{value}" for step in (100, 200)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("huge", [1e308, -1.7e308, 1e155])
def test_every_output_takes_a_huge_return_as_infinite_and_names_it(
    cli: Callable[..., Any], tmp_path: Path, huge: float
) -> None:
    """`plot` ended with numpy's words, `table` and `stats` printed three hundred digits."""
    file, other = scores(tmp_path / "scores.csv", huge), scores(tmp_path / "other.csv", 0.1)
    verbs = (
        ("table", "--scores", file),
        ("stats", "--scores", file, "--reps", 5, "--marl-eval", tmp_path / "marl.json"),
        ("plot", "--scores", file, "-o", tmp_path / "a.png"),
        ("plot", "--scores", file, "--kind", "profile", "--score-range", "0,1", "-o", tmp_path / "a.png"),
        ("report", "--scores", file, "--reps", 5, "-o", tmp_path / "a.html"),
        ("compare", file, other, "--reps", 5),
    )
    for verb in verbs:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            told = cli(*verb)
        assert told.code == 0, told.err
        assert HUGE in told.err
        assert "0" * 20 not in told.out
    seeds = json.loads((tmp_path / "marl.json").read_text())["scores@given"]["t1"]["b"]
    assert set(seeds) == {"seed_0", "seed_2"}


def test_numbers_with_many_digits_are_shown_by_their_power_of_ten(cli: Callable[..., Any], tmp_path: Path) -> None:
    told = cli("table", "--scores", scores(tmp_path / "scores.csv", 1e40), "--format", "md")
    assert "3.333e+39 ± 5.774e+39" in told.out and HUGE not in told.err


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0"), (-12.34, "-12.3"), (999_999_999.04, "999999999.0"), (1e9, "1e+09"), (-1.23456e12, "-1.235e+12"),
     (math.inf, "inf"), (math.nan, "nan")],
)  # fmt: skip
def test_a_number_has_as_many_digits_as_say_something(value: float, text: str) -> None:
    assert decimals(value, 1) == text
