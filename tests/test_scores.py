"""Four scores of a run, held to numbers worked out by hand, and to the rows of the reference."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.compare.run_sets import RunSet
from analysis.compare.verdicts import Verdict, verdicts
from analysis.rows.final import SCORES, definition
from analysis.rows.scores import final_scores
from analysis.statistics.comparison import comparisons
from analysis.tables.scores import scores_grid, tables, to_csv, to_latex, to_markdown
from results.store import RunWriter, read

REFERENCE = Path(__file__).parents[1] / "results/reference"
RUN = "dmc6@paper/walker_walk/sac/{}"
UNEVEN = {0: 10.0, 20: 30.0, 50: 60.0, 100: 20.0}  # areas 400, 1350, 2000 over a length of 100


def write_run(
    out: Path,
    run_id: str,
    evaluations: Mapping[int, float],
    episodes: Mapping[int, float] | None = None,
    *,
    action_repeat: int = 2,
    end: bool = True,
    **labels: str,
) -> None:
    """Rows in the order of their environment steps; at one step the episode first, as the runner writes them."""
    rows = [(step, "episode", value) for step, value in (episodes or {}).items()]
    rows += [(step, "eval", value) for step, value in evaluations.items()]
    with RunWriter(out, run_id, action_repeat=action_repeat, labels=labels) as writer:
        for step, kind, value in sorted(rows, key=lambda row: (row[0], row[1] == "eval")):
            writer.write(kind, step, step // action_repeat, {"return": value, "length": 7.0})
        if end:
            writer.end()


def scores(frame: pd.DataFrame, env_steps: int | None = None) -> dict[str, list[float]]:
    return {score: final_scores(frame, env_steps=env_steps, score=score)["score"].tolist() for score in SCORES}


@pytest.mark.parametrize("action_repeat", [1, 4])
def test_each_score_by_hand(tmp_path: Path, action_repeat: int) -> None:
    """Steps are environment steps whatever the action repeat. An episode that ends at 90 % is not of the last 10 %."""
    episodes = {44: 1.0, 50: 3.0, 90: 1000.0, 92: 4.0, 100: 6.0}
    write_run(tmp_path, RUN.format(0), UNEVEN, episodes, action_repeat=action_repeat)
    frame = read(tmp_path)
    assert scores(frame) == {"last": [20.0], "last3": [110 / 3], "train10": [5.0], "auc": [37.5]}
    # Up to step 50 the last 10 % begin after 45; the area is 1750.
    assert scores(frame, 50) == {"last": [60.0], "last3": [100 / 3], "train10": [3.0], "auc": [35.0]}
    # Up to step 49 there are two evaluations, and the last 10 % begin after 44.1.
    cut = scores(frame, 49)
    assert math.isnan(cut.pop("train10")[0])
    assert cut == {"last": [30.0], "last3": [20.0], "auc": [20.0]}
    assert scores(frame, 48)["train10"] == [1.0]
    (line,) = final_scores(frame, env_steps=95, score="train10").itertuples()
    assert (line.env_steps, line.scored, line.score) == (95, 2, 502.0)


def test_an_unfinished_run_is_scored_over_what_it_did(tmp_path: Path) -> None:
    write_run(tmp_path, RUN.format(0), {0: 1.0, 50: 5.0}, {50: 7.0, 57: 8.0, 60: 10.0}, end=False)
    assert scores(read(tmp_path)) == {"last": [5.0], "last3": [3.0], "train10": [9.0], "auc": [3.0]}
    for score, steps in (("last", 50), ("last3", 50), ("auc", 50), ("train10", 60)):
        (table,) = tables(read(tmp_path), score=score)
        assert "sac on walker_walk: seed 0 unfinished" in table.notes
        assert [cell.env_steps for cell in table.cells.values()] == [steps]


def test_rows_that_a_resume_made_void_do_not_count(tmp_path: Path) -> None:
    write_run(tmp_path, RUN.format(0), {0: 1.0, 50: 5.0}, {50: 7.0, 95: 8.0, 100: 900.0}, end=False)
    with RunWriter(tmp_path, RUN.format(0), action_repeat=2) as writer:
        writer.resume(50, 25)
        writer.write("episode", 96, 48, {"return": 20.0})
        writer.write("eval", 100, 50, {"return": 9.0})
        writer.end()
    assert scores(read(tmp_path)) == {"last": [9.0], "last3": [5.0], "train10": [20.0], "auc": [5.0]}


def test_what_a_score_lacks_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, RUN.format(0), {0: 1.0, 50: 2.0, 100: 6.0}, {95: 8.0})
    write_run(tmp_path, RUN.format(1), {0: 1.0, 100: 4.0}, {80: 8.0})
    write_run(tmp_path, RUN.format(2), {100: math.nan}, {99: math.inf})
    write_run(tmp_path, RUN.format(3), {}, {99: 4.0}, end=False)
    frame = read(tmp_path)
    expected = {
        "last": (3, math.nan, ["seed 3 never evaluated", "seed 2 not a finite number at the last evaluation"]),
        "last3": (3, math.nan, ["seed 2 without a finite last3", "seeds 1, 2 with fewer than three evaluations for"]),
        "train10": (3, math.inf, ["seed 1 without a training episode in the last 10 %", "seed 2 without a finite"]),
        "auc": (3, math.nan, ["seed 2 with one evaluation only", "first evaluations at different steps, 0 to 100"]),
    }
    for score, (n, mean, notes) in expected.items():
        (table,) = tables(frame, score=score)
        (cell,) = table.cells.values()
        assert cell.n == n
        assert cell.mean == pytest.approx(mean, nan_ok=True)
        for note in notes:
            assert note in "\n".join(table.notes), score
    (table,) = tables(frame)
    text = to_markdown([table])
    assert "| walker_walk | sac | nan† | nan† | inf† |" in text
    assert text.count("seed 3 never evaluated") == 1
    assert "seed 1 without a training episode in the last 10 % of the environment steps, so without train10" in text


def test_runs_without_training_rows_have_a_dash_and_a_remark(tmp_path: Path) -> None:
    write_run(tmp_path, RUN.format(0), {0: 1.0, 100: 4.0})
    text = to_markdown(tables(read(tmp_path)))
    assert "| task | agent | last | last3 |\n" in text
    assert "no run has training episodes in the last 10 % of its environment steps: no train10" in text
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", {0: 1.0, 100: 4.0}, {100: 9.0})
    text = to_markdown(tables(read(tmp_path)))
    assert "| walker_walk | sac | 4.000 | 2.500† | - |" in text
    assert "sac on walker_walk: seed 0 without a training episode" in text
    (table,) = tables(read(tmp_path), score="train10")
    assert "sac: no score on walker_walk" in table.notes
    assert "| sac | - |" in to_markdown([table])


def test_one_evaluation_and_no_training_need_no_second_table(tmp_path: Path) -> None:
    write_run(tmp_path, RUN.format(0), {100: 4.0})
    assert "Scores:" not in to_markdown(tables(read(tmp_path)))


def test_labels_are_never_averaged(tmp_path: Path) -> None:
    """A run that went on under other labels is scored by what was measured under its last ones."""
    write_run(tmp_path, RUN.format(0), {0: 100.0, 50: 100.0}, {50: 100.0, 91: 100.0}, end=False)
    write_run(tmp_path, RUN.format(0), {95: 1.0, 100: 3.0}, {95: 5.0, 100: 7.0}, code="changed")
    frame = read(tmp_path)
    assert scores(frame) == {"last": [3.0], "last3": [2.0], "train10": [6.0], "auc": [2.0]}
    (table,) = tables(frame)
    assert "run under several sets of labels; those of the last evaluation count" in table.notes[0]
    assert scores(frame, 94) == {"last": [100.0], "last3": [100.0], "train10": [100.0], "auc": [100.0]}


def test_the_main_number_follows_the_choice_and_csv_has_all(tmp_path: Path) -> None:
    for seed in range(2):
        for task in ("walker_walk", "cheetah_run"):
            values = {step: value + seed for step, value in UNEVEN.items()}
            write_run(tmp_path, f"dmc6@paper/{task}/sac/{seed}", values, {95: 50.0 + 2 * seed})
    means = {"last": 20.5, "last3": 110 / 3 + 0.5, "train10": 51.0, "auc": 38.0}
    for score, mean in means.items():
        made = tables(read(tmp_path), score=score)
        assert made[0].means == {"sac": pytest.approx(mean)}
        text = to_markdown(made)
        assert f"| sac | {mean:.1f} ± " in text
        assert ("| auc |" in text) == (score == "auc")
        for name in ("last", "last3", "train10", score):
            assert f"{name}: {definition(name)}" in text
        assert "mean over tasks & sac & 20.5 & 37.2 & 51.0" in to_latex(made)
        for row in csv.DictReader(io.StringIO(to_csv(made))):
            assert (row["score"], row["n"]) == (score, "2")
            assert float(row["mean"]) == pytest.approx(mean)
            assert {name: float(row[f"{name}_mean"]) for name in SCORES} == pytest.approx(means)
            assert float(row["train10_std"]) == pytest.approx(math.sqrt(2))
            assert row[f"{score}_std"] == row["std"]


def test_statistics_and_comparisons_take_the_same_numbers(tmp_path: Path) -> None:
    for store, shift in (("a", 0.0), ("b", 30.0)):
        for seed in range(3):
            trained = {step: value + seed + shift for step, value in {95: 50.0, 100: 52.0}.items()}
            write_run(tmp_path / store, RUN.format(seed), UNEVEN, trained)
    frames = [read(tmp_path / store) for store in ("a", "b")]
    ranges = {"dmc6": {"walker_walk": (0.0, 100.0)}}
    for score in SCORES:
        (comparison,) = comparisons(frames[0], ranges, score=score)
        expected = np.array(scores(frames[0])[score]) / 100
        assert comparison.scores["sac"][:, 0].tolist() == expected.tolist()
        assert score == "last" or definition(score) in comparison.normalisation
        a, b = (RunSet(name, each, {}) for name, each in zip("ab", frames, strict=True))
        (line,) = verdicts(a, b, ranges, score=score).lines
        gap = 30.0 if score == "train10" else 0.0
        assert line.difference.value == pytest.approx(gap)
        assert line.verdict == (Verdict.BETTER if gap else Verdict.IDENTICAL)
    with pytest.raises(ValueError, match="unknown score 'best'; valid: last, last3, train10, auc"):
        final_scores(frames[0], score="best")


def test_any_metric_of_the_evaluations_has_scores(tmp_path: Path) -> None:
    write_run(tmp_path, RUN.format(0), UNEVEN, {95: 1.0})
    assert [final_scores(read(tmp_path), metric="length", score=s)["score"].tolist() for s in SCORES] == [[7.0]] * 4


values = st.floats(-1e6, 1e6)
curve = st.dictionaries(st.integers(0, 10_000), values, min_size=1, max_size=8)


def frame_of(runs: Sequence[Mapping[int, float]]) -> pd.DataFrame:
    rows = [
        {"run_id": f"r{seed}", "seed": seed, "env_steps": step, "value": value}
        for seed, run in enumerate(runs)
        for step, value in run.items()
    ]
    names = {"suite": "s", "budget": "b", "task": "t", "agent": "a", "variant": "", "labels": "", "kind": "eval"}
    return pd.DataFrame(rows).assign(**names, metric="return", action_repeat=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(curve, min_size=1, max_size=4))
def test_scores_of_any_curves(runs: list[dict[int, float]]) -> None:
    """In any order of rows: last3 is a mean of the last values, and auc that of a curve drawn by numpy."""
    got = final_scores(frame_of(runs))
    for seed, run in enumerate(runs):
        steps = sorted(run)
        returns = [run[step] for step in steps]
        assert got["last"][seed] == returns[-1]
        assert min(returns[-3:]) - 1e-6 <= got["last3"][seed] <= max(returns[-3:]) + 1e-6
        assert got["last3"][seed] == pytest.approx(np.mean(returns[-3:]), abs=1e-6)
        grid = np.arange(steps[0], steps[-1] + 1)
        drawn = np.interp(grid, steps, returns)  # corners are on the grid, so the rule is exact
        area = drawn.sum() - (drawn[0] + drawn[-1]) / 2
        assert got["auc"][seed] == pytest.approx(
            area / max(len(grid) - 1, 1) if len(steps) > 1 else returns[0], abs=1e-3
        )


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=8), values)
def test_scores_of_a_constant_curve_are_the_constant(steps: set[int], value: float) -> None:
    got = final_scores(frame_of([dict.fromkeys(steps, value)]))
    for score in ("last", "last3", "auc"):
        assert got[score].tolist() == pytest.approx([value], rel=1e-12)


def test_the_reference_shows_703_and_803() -> None:
    """The last evaluation of rad's seed 2 fell to 456; its training did not."""
    frame = read(REFERENCE)
    ours = (frame["agent"] == "rad") & (frame["task"] == "cartpole_swingup") & (frame["budget"] != "short")
    of_rad = frame[ours]
    (table,) = tables(of_rad)
    text = to_markdown([table])
    assert "| rad-set-46f6a035 | 702.9 ± 214.4 |" in text
    assert "| cartpole_swingup | rad-set-46f6a035 | 702.9 ± 214.4 | 715.1 ± 137.0 | 803.2 ± 9.6 |" in text
    assert "| rad-set-46f6a035 | 803.2 ± 9.6 |" in to_markdown(tables(of_rad, score="train10"))


@pytest.mark.parametrize("verb", ["table", "stats", "report", "plot"])
def test_external_scores_have_no_training_episodes(cli: Callable[..., Any], tmp_path: Path, verb: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("agent,task,seed,env_steps,return\nsac,walk,0,0,1\nsac,walk,0,100,3\n")
    result = cli(verb, "--scores", file, "--score", "train10")
    assert result.code == 2
    assert "holds evaluations only, no training episodes: --score takes last, last3, auc there" in result.err
    assert "unknown score 'best'" in cli(verb, "--scores", file, "--score", "best").err


def test_the_option_of_each_verb(cli: Callable[..., Any], tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, RUN.format(seed), UNEVEN, {95: 50.0 + 2 * seed})
    shown = cli("table", "--out", tmp_path, "--score", "train10", "--format", "md").out
    assert "| sac | 20.0 ± 0.0 | 36.7 ± 0.0 | 51.0 ± 1.4 |" in shown
    assert "train10 (mean return of the training episodes" in cli("stats", "--out", tmp_path, "--score", "train10").out
    stats = csv.DictReader(io.StringIO(cli("stats", "--out", tmp_path, "--score", "auc", "--format", "csv").out))
    assert {(row["score"], row["value"]) for row in stats if row["statistic"] == "mean"} == {("auc", "0.0375")}
    figure = tmp_path / "figure.svg"
    assert cli("plot", "--kind", "profile", "--out", tmp_path, "--score", "train10", "-o", figure).code == 0
    assert "train10 at 100 environment steps" in figure.read_text()
    page = tmp_path / "page.html"
    assert cli("report", "--out", tmp_path, "--score", "last3", "--reps", "50", "-o", page).code == 0
    assert f"covr-bench stats --out {tmp_path} --score last3" in page.read_text()
    compared = cli("compare", tmp_path, tmp_path, "--score", "train10", "--format", "md").out
    assert "train10 (mean return of the training episodes" in compared
    for refused, complaint in (
        (("table", "--paper", "T4"), "it takes no --score"),
        (("plot", "--kind", "curves"), "--score is for aggregate, profile and improvement"),
    ):
        result = cli(*refused, "--out", tmp_path, "--score", "last3")
        assert result.code == 2
        assert complaint in result.err


def test_a_mean_over_tasks_is_marked_for_its_own_agents_cells_alone(tmp_path: Path) -> None:
    for agent, seeds in (("drq", (0, 1)), ("sac", (0,))):
        for task in ("walker_walk", "cheetah_run"):
            for seed in seeds:
                with RunWriter(tmp_path, f"dmc6@paper/{task}/{agent}/{seed}", action_repeat=2) as writer:
                    for step in (100, 200):
                        writer.write("eval", step, step // 2, {"return": [float(step)]})
                    writer.error("out of memory") if (agent, seed) == ("drq", 1) else writer.end()
    (table,) = tables(read(tmp_path))
    grid: Any = scores_grid(table)
    means = {line[1]: line[2] for line in grid.rows if line[0] == "mean over tasks"}
    assert means["drq"].endswith("†") and not means["sac"].endswith("†")
