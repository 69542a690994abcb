"""The suite `effect` by its questions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_analysis import write_run

from analysis.tables.effect import FAMILIES, SUITES, effect, labelled, paired, to_csv, to_grids
from covr_bench.config import registry
from results.store import read

if TYPE_CHECKING:
    from pathlib import Path

SCORE = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(SCORE, SCORE), min_size=2, max_size=12))
def test_a_difference_is_students_of_the_pairs(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = (list(each) for each in zip(*pairs, strict=True))
    found, p = paired(ours, theirs)
    apart = np.subtract(ours, theirs)
    assert found.value == pytest.approx(apart.mean(), abs=1e-9)
    if apart.std() < 1e-6:
        return
    known = stats.ttest_rel(ours, theirs)
    assert p == pytest.approx(known.pvalue, rel=1e-6, abs=1e-12)
    interval = known.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


def test_what_one_pair_or_none_can_tell() -> None:
    found, p = paired([3.0], [1.0])
    assert found.value == 2 and math.isnan(found.low) and math.isnan(p)
    assert math.isnan(paired([], [])[0].value)


def run(out: Path, arm: str, seed: int, score: float, budget: str = "short", **options: Any) -> None:
    write_run(out, f"effect@{budget}/catch_or_end/{arm}/{seed}", [score, score], action_repeat=1, **options)


def test_arms_are_paired_by_seed_and_what_failed_is_told(tmp_path: Path) -> None:
    for seed in range(4):
        run(tmp_path, "dpl-prior=zero", seed, 10.0 + seed, vlm="control:zero")
        run(tmp_path, "dpl-prior=oracle", seed, 15.0 + seed + 0.1 * seed, vlm="control:oracle")
    run(tmp_path, "dpl-prior=oracle", 7, 99.0, vlm="control:oracle")  # no pair
    run(tmp_path, "dpl-prior=oracle", 8, 99.0, status="error")
    run(tmp_path, "covr", 0, 5.0, budget="paper", vlm="tiny")
    answers = {(each.budget, each.question): each for each in effect(read(tmp_path))}
    shown = answers["short", "transmission"]
    assert shown.n == 4 and shown.difference.value == pytest.approx(5.15) and shown.difference.low > 4
    assert shown.remarks == ("dpl-prior=oracle seed 8: failed",)
    assert shown.p_holm == shown.p and shown.family == ""  # the only question that was answered
    assert answers["short", "dose"].n == 0 and answers["paper", "teaching"].n == 0
    switches, short, paper = to_grids(list(answers.values()))[::-1]
    assert switches.title == "effect@short: catch_or_end, one switch"
    assert {line[4] for line in switches.rows} == {"not run"}
    assert [line[0] for line in paper.rows] == ["late oracle", "teaching", "better rounds"] and paper.rows[1][
        4
    ] == "not run"
    (line,) = [line for line in short.rows if line[0] == "transmission"]
    assert line[3] == "4†" and line[4] == "+5.2" and "failed" in short.notes[0]
    assert len(to_csv(list(answers.values())).splitlines()) == 1 + len(answers)


@pytest.mark.parametrize("name", SUITES)
def test_every_question_is_about_arms_of_its_suite(name: str) -> None:
    suite = registry.suite(name)
    arms = {f"{each.agent}-{each.name}" if each.name else each.agent for each in suite.variants} | set(suite.agents)
    families = FAMILIES if name == "effect" else {"": FAMILIES[""]}
    asked = [question for questions in families.values() for question in questions if question[3] in suite.budgets]
    assert asked
    for _, arm, control, _ in asked:
        assert {arm, control} <= arms


def test_suites_are_answered_apart(tmp_path: Path) -> None:
    for suite, task, gain in (("effect", "catch_or_end", 3.0), ("effect-hw", "hw", -5.0)):
        for seed in range(3):
            for arm, score in (("covr_plus", 10.0 + gain), ("covr-prior=zero", 10.0)):
                write_run(tmp_path, f"{suite}@paper/{task}/{arm}/{seed}", [score + seed], action_repeat=1)
    answers = {each.suite: each for each in effect(read(tmp_path)) if each.question == "better rounds"}
    assert [(name, each.n, each.difference.value) for name, each in answers.items()] == [
        ("effect", 3, 3.0),
        ("effect-hw", 3, -5.0),
    ]


def test_the_command_says_what_makes_its_runs(tmp_path: Path, cli: Any) -> None:
    write_run(tmp_path, "catch@short/catch/drqv2/0", [1.0], action_repeat=2)
    result = cli("table", "--out", tmp_path, "--paper", "effect")
    assert result.code == 2 and "covr-bench run --suite effect" in result.err
    figure = ["plot", "--out", tmp_path, "--kind", "effect", "-o", tmp_path / "effect.svg"]
    refused = cli(*figure)
    assert refused.code == 2 and "covr-bench run --suite effect" in refused.err
    for seed in range(2):
        run(tmp_path, "dpl-prior=zero", seed, 1.0)
        run(tmp_path, "dpl-prior=oracle", seed, 4.0 + seed)
    assert "effect@short: catch_or_end" in cli("table", "--out", tmp_path, "--paper", "effect").out
    assert cli(*figure).code == 0
    drawn = (tmp_path / "effect.svg").read_text()
    assert "transmission" in drawn and "n = 2" in drawn and "dose" not in drawn


def test_a_figure_of_switches_names_each_once(tmp_path: Path) -> None:
    for seed in range(2):
        run(tmp_path, "covr-vlm=tiny-knowing", seed, 1.0)
        for name in ("labels=policy", "old_priors=drop"):
            run(tmp_path, f"covr-{name},vlm=tiny-knowing", seed, 4.0 + seed)
    switches = [each for each in effect(read(tmp_path)) if each.family and each.n]
    assert labelled(switches)[0] == "each less covr-vlm=tiny-knowing"
    assert list(labelled(switches)[1]) == ["labels=policy  (n = 2)", "old_priors=drop  (n = 2)"]


def test_a_figure_of_several_controls_names_each_beside_its_arm(tmp_path: Path) -> None:
    for arm, score in (("dpl-prior=zero", 1.0), ("dpl-prior=oracle", 4.0), ("drqv2", 0.0)):
        run(tmp_path, arm, 0, score)
    common, found = labelled([each for each in effect(read(tmp_path)) if each.n])
    assert common == ""
    assert list(found) == [
        "transmission:  dpl-prior=oracle  less  dpl-prior=zero  (n = 1)",
        "placebo:  dpl-prior=zero  less  drqv2  (n = 1)",
    ]


def test_stand_ins_are_named_and_settings_kept_apart(tmp_path: Path, cli: Any) -> None:
    """All arms on the highway stood for the embedded server and a small model, and nothing said so."""
    for backend, gain in (("embedded", 3.0), ("carla-0.9.16", 1.0)):
        for seed in range(2):
            number = 10 * (backend == "embedded") + seed
            for arm, score, own in (("covr", 10.0 + gain, {"vlm": "tiny"}), ("covr-prior=zero", 10.0, {})):
                run_id, labels = f"effect-hw@paper/hw/{arm}/{number}", {"backend": backend, **own}
                write_run(tmp_path, run_id, [score, score], action_repeat=1, **labels)
    answers = [each for each in effect(read(tmp_path)) if each.n]
    assert [(each.setting, each.difference.value) for each in answers] == [
        ("backend=carla-0.9.16", pytest.approx(1.0)),
        ("backend=embedded", pytest.approx(3.0)),
    ]
    real, embedded = to_grids(answers)
    assert embedded.title == "effect-hw@paper (backend=embedded): hw" and "backend=carla-0.9.16" in real.title
    assert embedded.notes == (
        "backend=embedded: the embedded driving server, not CARLA itself",
        "covr: a small model made for tests answers in the place of a real VLM",
    )
    assert "not CARLA itself" in to_csv(answers).splitlines()[2]
    drawn = cli("plot", "--out", tmp_path, "--kind", "effect", "-o", tmp_path / "effect.svg")
    assert drawn.code == 0 and "note: covr: a small model" in drawn.err
    figures = [file.read_text() for file in tmp_path.glob("effect*.svg")]
    assert any("backend=embedded: stand-in simulator" in figure for figure in figures)
    assert all("covr: stand-in VLM" in figure for figure in figures)


def test_rounding_is_no_spread() -> None:
    ours = [seed + 0.3 for seed in range(8)]
    found, p = paired(ours, list(map(float, range(8))))
    assert found.value == pytest.approx(0.3) and math.isnan(found.low) and math.isnan(p)


def test_a_run_that_diverged_is_named_and_its_question_counts(tmp_path: Path) -> None:
    """Its question was said to be not run, and the others' p shrank since it left their family."""
    for seed in range(4):
        run(tmp_path, "dpl-prior=zero", seed, 10.0 + seed)
        run(tmp_path, "dpl-prior=oracle", seed, math.nan if seed == 2 else 15.0 + seed)
        run(tmp_path, "dpl-prior=oracle:0.5", seed, 13.0 + 1.5 * seed)
    answers = {each.question: each for each in effect(read(tmp_path)) if not each.family}
    lost, dose = answers["transmission"], answers["dose"]
    assert (lost.n, lost.p, lost.p_holm) == (4, 1.0, 1.0) and lost.remarks == ("dpl-prior=oracle seed 2: not finite",)
    assert dose.p_holm == pytest.approx(2 * dose.p) and dose.p < 0.05
    assert any(row.endswith("(n = 4, not finite)") for row in labelled([lost, dose])[1])
    (grid,) = to_grids(list(answers.values()))
    shown = {line[0]: line[4] for line in grid.rows}
    assert shown["transmission"] == "not finite" and shown["placebo"] == "not run"
    assert "dpl-prior=oracle seed 2: not finite" in grid.notes[0]
