"""Comparisons: what is normalised, what is left out, and that each is said."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis.figures import statistics
from analysis.figures.curves import learning_curves
from analysis.grids import to_latex, to_markdown
from analysis.statistics.bootstrap import aggregates
from analysis.statistics.comparison import Comparison, comparisons
from analysis.statistics.output import CSV_COLUMNS, to_csv, to_grids
from analysis.statistics.summary import Bootstrap, by_task, compared_with, efficiency, improvements, over_tasks
from results.store import RunWriter, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOOTSTRAP = Bootstrap(reps=200, curve_reps=100)
SUITES = {"dmc6": {"walk": (0.0, 1000.0), "run": (-500.0, 500.0)}}


def write_run(out: Path, run_id: str, scores: list[float], *, repeat: int = 2, end: bool = True, **labels: str) -> None:
    """Evaluations at 0, 100, 200... environment steps."""
    with RunWriter(out, run_id, action_repeat=repeat, labels=labels) as writer:
        for index, score in enumerate(scores):
            writer.write("eval", 100 * index, 100 * index // repeat, {"return": [score]})
        if end:
            writer.end()


def write_grid(out: Path, agents: dict[str, float], seeds: int = 3) -> None:
    for agent, quality in agents.items():
        for task in ("walk", "run"):
            for seed in range(seeds):
                write_run(out, f"dmc6@paper/{task}/{agent}/{seed}", [0.0, quality + 10.0 * seed])


def compare(out: Path, **options: int) -> Comparison:
    (comparison,) = comparisons(read(out), SUITES, **options)
    return comparison


def test_scores_are_normalised_by_each_tasks_range(tmp_path: Path) -> None:
    write_grid(tmp_path, {"sac": 100.0, "drq": 300.0})
    comparison = compare(tmp_path)
    assert comparison.title == "dmc6@paper"
    assert comparison.tasks == ("walk", "run")
    np.testing.assert_allclose(comparison.scores["sac"], [[0.1, 0.6], [0.11, 0.61], [0.12, 0.62]])
    assert comparison.remarks == ()
    assert comparison.steps == (100, 100)
    assert comparison.normalisation == "scores are returns from 0 to 1000 on walk; -500 to 500 on run, mapped to 0 to 1"
    assert over_tasks(comparison, BOOTSTRAP)["sac"] == aggregates(comparison.scores["sac"], reps=200)
    assert by_task(comparison, BOOTSTRAP)["sac", "run"] == aggregates(comparison.scores["sac"][:, [1]], reps=200)
    assert improvements(comparison, BOOTSTRAP)["drq", "sac"].value == 1.0


def test_an_unknown_range_takes_returns_as_they_are_and_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, "mine@x/jump/sac/0", [0.25])
    (comparison,) = comparisons(read(tmp_path), {})
    assert comparison.scores["sac"].tolist() == [[0.25]]
    assert "no score range is known for jump: returns are taken as they are" in comparison.remarks
    with pytest.raises(ValueError, match="score range of jump is 1 to 1; the first must be less"):
        comparisons(read(tmp_path), {"mine": {"jump": (1.0, 1.0)}})


def test_what_is_missing_is_said_and_left_out(tmp_path: Path) -> None:
    write_grid(tmp_path, {"sac": 100.0, "flat": 0.0})
    for seed in range(3):
        write_run(tmp_path, f"dmc6@paper/walk/half/{seed}", [1.0])
    write_run(tmp_path, "dmc6@paper/walk/sac/3", [0.0, math.nan])
    write_run(tmp_path, "dmc6@paper/run/sac/4", [0.0, 1.0, 2.0], end=False)
    for task in ("walk", "run"):
        for seed in range(2):
            write_run(tmp_path, f"dmc6@paper/{task}/flat/{seed + 3}", [5.0, 5.0])
            write_run(tmp_path, f"dmc6@paper/{task}/const/{seed}", [5.0, 5.0])
    comparison = compare(tmp_path)
    remarks = "\n".join(comparison.remarks)
    for remark in (
        "half: no score on run, so no statistics over all tasks",
        "sac on walk: seed 4 not run",
        "sac on walk: seed 3 not a finite number at the last evaluation",
        "sac on run: seed 3 not run",
        "sac on run: seed 4 unfinished",
        "sac on run: seeds scored at different steps, 100 to 200",
        "const on walk, run: all runs score the same: the interval has no width",
        "half on walk: all runs score the same",
        "runs without a finite score are left out of the statistics, which flatters their agents",
        "scored at different environment steps: const 100; flat 100; half 0; sac 100 to 200 (--env-steps 0 leaves",
    ):
        assert remark in remarks
    assert comparison.complete_agents == ["const", "flat", "sac"]
    assert np.isfinite(comparison.scores["sac"]).sum(axis=0).tolist() == [3, 4]
    assert set(over_tasks(comparison, BOOTSTRAP)) == {"const", "flat", "sac"}
    assert ("half", "walk") in by_task(comparison, BOOTSTRAP)


def test_one_seed_has_a_value_and_no_interval(tmp_path: Path) -> None:
    write_grid(tmp_path, {"sac": 100.0}, seeds=1)
    write_grid(tmp_path, {"drq": 300.0}, seeds=3)
    comparison = compare(tmp_path)
    assert "sac on walk, run: one run: no interval" in comparison.remarks
    single = over_tasks(comparison, BOOTSTRAP)["sac"]["iqm"]
    assert single.value == pytest.approx(0.35)
    assert math.isnan(single.low) and math.isnan(single.high)
    assert math.isnan(improvements(comparison, BOOTSTRAP)["drq", "sac"].low)
    assert "| sac | 2 | 0.35 | 0.35 | 0.35 | 0.65 |" in to_markdown(to_grids(comparison, BOOTSTRAP))


def test_protocols_are_kept_apart_and_that_is_said(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, f"dmc6@paper/walk/sac/{seed}", [1.0])
        write_run(tmp_path, f"dmc6@paper/walk/covr/{seed}", [3.0], vlm="tiny")
        write_run(tmp_path, f"dmc6@short/walk/sac/{seed}", [2.0])
    write_run(tmp_path, "dmc6@paper/walk/sac/7", [9.0], backend="embedded")
    comparison = comparisons(read(tmp_path), SUITES)
    assert [each.title for each in comparison] == ["dmc6@paper", "dmc6@paper (backend=embedded)", "dmc6@short"]
    assert list(comparison[0].scores) == ["covr (vlm=tiny)", "sac"]
    assert "sac was also run as dmc6@paper (backend=embedded), dmc6@short: kept apart" in comparison[0].remarks
    assert all(len(each.scores["sac"]) <= 2 for each in comparison)


def test_a_task_at_two_action_repeats_is_two_tasks(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/walk/drq/0", [1.0], repeat=4)
    comparison = compare(tmp_path)
    assert comparison.tasks == ("walk (action repeat 2)", "walk (action repeat 4)")
    assert comparison.complete_agents == []


def test_a_task_without_a_range_at_two_action_repeats_is_named_once_and_as_it_is_given(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    """The advice named "mine (action repeat 2)", which --score-range refuses."""
    for repeat, agent in ((2, "sac"), (4, "drq")):
        write_run(tmp_path, f"own@paper/mine/{agent}/0", [7.0], repeat=repeat)
    found = cli("stats", "--out", tmp_path)
    told = " ".join((found.out + found.err).split())
    assert "no score range is known for mine: returns" in told and "--score-range mine=LOW,HIGH" in told
    assert "no score range" not in cli("stats", "--out", tmp_path, "--score-range", "mine=0,10").err
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [7.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", [7.0], repeat=4)
    page = cli("report", "--out", tmp_path, "--suite", "dmc6", "-o", tmp_path / "page.html")
    assert page.code == 0 and "no score range is known" not in (tmp_path / "page.html").read_text()


def test_scores_can_be_taken_at_an_earlier_step(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walk/sac/0", [100.0, 200.0, 300.0])
    comparison = compare(tmp_path, env_steps=150)
    assert comparison.scores["sac"].tolist() == [[0.2]]
    assert comparison.steps == (100, 100)


def test_sample_efficiency_holds_the_last_evaluation_and_ends_with_the_shortest_run(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walk/sac/0", [0.0, 100.0, 200.0, 300.0])
    write_run(tmp_path, "dmc6@paper/walk/sac/1", [0.0, 300.0, 400.0])
    with RunWriter(tmp_path, "dmc6@paper/walk/sac/2", action_repeat=2) as writer:
        for step, score in ((50, 500.0), (150, 600.0), (400, 900.0)):
            writer.write("eval", step, step // 2, {"return": [score]})
    comparison = compare(tmp_path)
    steps, scores = comparison.curve("sac")
    assert steps.tolist() == [50, 100, 150, 200]
    assert scores[:, :, 0].tolist() == [[0.0, 0.0, 0.5], [0.1, 0.3, 0.5], [0.1, 0.3, 0.6], [0.2, 0.4, 0.6]]
    same, (value, low, high) = efficiency(comparison, BOOTSTRAP)["sac"]
    assert same.tolist() == steps.tolist()
    np.testing.assert_allclose(value, scores[:, :, 0].mean(axis=1))
    assert (low <= value).all() and (value <= high).all()


def test_runs_that_share_no_step_have_no_curve(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walk/sac/0", [1.0])
    with RunWriter(tmp_path, "dmc6@paper/walk/sac/1", action_repeat=2) as writer:
        writer.write("eval", 100, 50, {"return": [2.0]})
    comparison = compare(tmp_path)
    steps, (value, _, _) = efficiency(comparison, BOOTSTRAP)["sac"]
    assert len(steps) == len(value) == 0
    assert to_grids(comparison, BOOTSTRAP)
    learning_curves(read(tmp_path), tmp_path / "curves.png", efficiency=efficiency(comparison, BOOTSTRAP))


def test_more_agents_than_can_be_paired_are_held_against_the_best(tmp_path: Path) -> None:
    write_grid(tmp_path, {f"agent{n}": 10.0 * n for n in range(9)}, seeds=2)
    comparison = compare(tmp_path)
    assert {x for x, _ in improvements(comparison, BOOTSTRAP)} == {"agent8"}
    assert {y for _, y in improvements(comparison, BOOTSTRAP, over="agent3")} == {"agent3"}
    with pytest.raises(ValueError, match="no agent 'sac' with a score on every task; there are: agent0, agent1"):
        improvements(comparison, BOOTSTRAP, over="sac")


def test_an_agent_that_one_protocol_lacks_is_compared_with_where_it_is(tmp_path: Path) -> None:
    write_grid(tmp_path, {"sac": 1.0, "drq": 2.0}, seeds=2)
    one = compare(tmp_path)
    other = replace(one, budget="short", scores={"sac": one.scores["sac"]})
    found = compared_with([one, other], "drq")
    assert found[0] == one
    assert found[1].remarks[-1] == "no probability of improvement: drq has no score on every task here"
    titles = [[grid.title.partition(":")[0] for grid in to_grids(each, BOOTSTRAP, "drq")] for each in found]
    assert ["Probability of improvement" in each for each in titles] == [True, False]
    assert "probability_of_improvement,sac,drq" in to_csv(found, BOOTSTRAP, "drq")
    with pytest.raises(ValueError, match="no agent 'dqr' with a score on every task; there are: drq, sac"):
        compared_with([one, other], "dqr")


def test_every_pair_of_up_to_eight_agents_is_shown(tmp_path: Path) -> None:
    write_grid(tmp_path, {f"agent{n}": 10.0 * n for n in range(8)}, seeds=2)
    pairs = improvements(compare(tmp_path), Bootstrap(reps=2))
    assert len(pairs) == 8 * 7 // 2


def test_text_and_csv_say_the_same(tmp_path: Path) -> None:
    write_grid(tmp_path, {"sac": 100.0, "a-b|_$c": 300.0})
    comparison = compare(tmp_path)
    lines = list(csv.DictReader(io.StringIO(to_csv([comparison], BOOTSTRAP))))
    assert tuple(lines[0]) == CSV_COLUMNS
    iqm = next(line for line in lines if (line["statistic"], line["agent"], line["task"]) == ("iqm", "sac", ""))
    expected = over_tasks(comparison, BOOTSTRAP)["sac"]["iqm"]
    assert [float(iqm[name]) for name in ("value", "low", "high")] == list(expected)
    assert iqm["num_runs"] == "6"
    assert {line["statistic"] for line in lines} >= {"profile", "probability_of_improvement", "iqm_at_env_steps"}
    grids = to_grids(comparison, BOOTSTRAP)
    assert len(grids) == 5
    assert f"| sac | 6 | {expected.value:.2f} [{expected.low:.2f}, {expected.high:.2f}] |" in to_markdown(grids)
    assert r"a-b\textbar{}\_\$c" in to_latex(grids)


@pytest.mark.parametrize("draw", [statistics.aggregate, statistics.profile, statistics.improvement])
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_every_kind_is_drawn_in_every_format(tmp_path: Path, draw: object, suffix: str) -> None:
    write_grid(tmp_path, {"sac": 100.0, "_-$x$": 300.0})
    path = tmp_path / f"figure.{suffix}"
    draw(compare(tmp_path), BOOTSTRAP, path)  # type: ignore[operator]
    data = path.read_bytes()
    if suffix == "svg":
        assert b"<!-- _-$x$ " in data
        assert b"dmc6@paper" in data
    assert b"/Type3" not in data


@pytest.mark.parametrize("draw", [statistics.aggregate, statistics.profile, statistics.improvement])
def test_nothing_to_draw_is_said(tmp_path: Path, draw: object) -> None:
    write_run(tmp_path, "dmc6@paper/walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/run/drq/0", [1.0])
    with pytest.raises(ValueError, match="on every task"):
        draw(compare(tmp_path), BOOTSTRAP, tmp_path / "figure.png")  # type: ignore[operator]


def test_one_seed_is_drawn_without_a_bar(tmp_path: Path) -> None:
    write_grid(tmp_path, {"sac": 100.0, "drq": 300.0}, seeds=1)
    for draw in (statistics.aggregate, statistics.profile, statistics.improvement):
        draw(compare(tmp_path), BOOTSTRAP, tmp_path / "figure.svg")
        text = (tmp_path / "figure.svg").read_text()
        assert "nan" not in text.lower().replace("xmlns", "")
