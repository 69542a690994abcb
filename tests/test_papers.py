"""A paper's numbers stand beside our runs of the same method, with a difference only where the two can be compared."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import results
from analysis.figures import papers as paper_figures
from analysis.figures import statistics
from analysis.grids import to_html, to_latex, to_markdown
from analysis.papers import tables as papers
from analysis.papers.cells import Line, PaperTable
from analysis.papers.layouts import (
    LAYOUTS,
    best,
    column_names,
    early,
    summaries,
    to_delta_grid,
    to_grid,
    to_long_grid,
    to_ours_grid,
)
from analysis.papers.published import PAPERS, SETS, is_run_of, paper_notes, published
from analysis.papers.tables import paper_tables, several_tables
from analysis.rows import vlm_rounds
from analysis.rows.external import read_scores
from analysis.rows.scores import final_scores
from analysis.statistics.intervals import Summary, difference
from analysis.tables.scores import tables, to_grids
from covr_bench.cli import reproduce_paper, run
from covr_bench.cli.paper_runs import paper_names, paper_runs, without_runs
from covr_bench.config import registry
from covr_bench.kit.errors import UserError
from results.store import RunWriter, read

SHIPPED = Path(results.__file__).parent / "published"
SWINGUP = ("cartpole_swingup", "return")


def write_run(out: Path, run_id: str, metrics: dict[str, float], *, env_steps: int = 100_000, **labels: str) -> None:
    with RunWriter(out, run_id, action_repeat=8, labels=labels) as writer:
        writer.write("eval", env_steps, env_steps // 8, metrics)
        writer.end()


def lines_of(table: PaperTable, method: str) -> list[Line]:
    return [line for line in table.lines if line.method == method]


@pytest.mark.parametrize("table", PAPERS)
def test_every_table_ships_with_sources_and_shows_what_was_not_run(tmp_path: Path, table: str) -> None:
    numbers = published(table)
    assert numbers and all(number.source and number.summary.n >= 3 and number.env_steps > 0 for number in numbers)
    write_run(tmp_path, "catch@smoke/catch/random/0", {"return": 1.0})
    (made,) = paper_tables(read(tmp_path), table)
    assert made.title.endswith("(not run yet)")
    assert {line.ours for line in made.lines} == {""}
    shown = [number for line in made.lines for cell in line.cells.values() if (number := cell.paper)]
    assert sorted(shown) == sorted(numbers)
    assert "not run" in to_markdown([to_grid(made)])
    assert to_latex([to_grid(made)]).count("\\toprule") == 1
    assert len(to_long_grid(made).rows) == len(made.lines) * len(made.columns)


@pytest.mark.parametrize("table", PAPERS)
def test_notes_are_of_methods_of_the_table_and_shown_under_it(tmp_path: Path, table: str) -> None:
    methods = {number.method.split(" at ")[0].removesuffix(" (training episodes)") for number in published(table)}
    notes = paper_notes(table)
    assert {method for note in notes for method in note.split(": ")[0].split(", ")} <= methods
    write_run(tmp_path, "catch@smoke/catch/random/0", {"return": 1.0})
    (made,) = paper_tables(read(tmp_path), table)
    assert list(made.notes) == notes
    assert all(note in to_markdown([to_grid(made)]) for note in notes)


def test_a_method_without_an_agent_of_ours_says_why() -> None:
    for table in ("T4", "hard"):
        without = {number.method for number in published(table) if not number.agent}
        reasons = [note for note in paper_notes(table) if "published only: " in note]
        assert without == {method for note in reasons for method in note.split(": ")[0].split(", ")}
    agents = {number.method: number.agent for number in published("T4")}
    assert (agents["TACO"], agents["PlayVirtual"], agents["MADI"]) == ("taco", "playvirtual", "madi")
    unknown = next(note for note in paper_notes("T4") if "protocol unknown" in note)
    assert unknown.startswith("TACO, MADI, PSRL: quoted")


@pytest.mark.parametrize("name", ["dmc_vision_per_seed.csv", "dmc_vision_training_returns.csv"])
def test_published_scores_of_dmc_vision_are_of_tasks_of_ours_and_of_files_that_may_be_copied(name: str) -> None:
    rows, _ = read_scores(SHIPPED / name)
    for suite, task in rows[["suite", "task"]].drop_duplicates().astype(str).to_numpy():
        assert registry.suite(suite).task(task).action_repeat == 2
    assert set(rows["action_repeat"]) == {2}
    assert "MR.Q" not in set(rows["agent"])  # CC BY-NC
    trained = {"DreamerV3", "PPO"} & set(rows["agent"])
    assert set(rows["labels"]) == ({"returns=training"} if trained else {""})
    assert trained == (set(rows["agent"]) if "training" in name else set())


def test_dmc_visions_table_is_the_mean_of_the_published_seeds() -> None:
    numbers = {(n.method, n.task): n for n in published("dmc-vision")}
    for file, agent, label, step in (
        ("dmc_vision_per_seed.csv", "DR.Q", "DR.Q", 500_000),
        ("dmc_vision_training_returns.csv", "DreamerV3", "DreamerV3 (training episodes)", 100_000),
    ):
        rows, _ = read_scores(SHIPPED / file)
        scores = final_scores(rows[(rows["suite"] == "dmc-vision") & (rows["agent"] == agent)], env_steps=step)
        assert len(scores.groupby("task")) == (7 if agent == "DR.Q" else 20)
        for task, runs in scores.groupby("task"):
            number = numbers[f"{label} at {step:,}", str(task)].summary
            assert number.n == len(runs)
            assert number[:2] == pytest.approx((runs["score"].mean(), runs["score"].std()), abs=0.11)
    assert numbers["MR.Q at 500,000", "walker_run"].summary == Summary(516.7, 68.6, 10)


def test_drqs_scores_say_where_they_were_evaluated() -> None:
    with (SHIPPED / "dmc_per_seed.csv").open() as file:
        drq = [line for line in csv.DictReader(file) if line["agent"] == "DrQ"]
    early = {(line["task"], line["source"].split(" at ")[1]) for line in drq if " at " in line["source"]}
    tasks = ("ball_in_cup_catch", "cartpole_swingup", "cheetah_run", "reacher_easy")
    assert early == {(task, step) for task in tasks for step in ("96000", "496000")}


def test_numbers_are_the_papers() -> None:
    known = {(n.method, n.task, n.metric): n.summary[:2] for table in PAPERS for n in published(table)}
    assert known[("CURL", *SWINGUP)] == (582, 146)
    assert known[("RAD+COVR", *SWINGUP)] == (872, 2)
    assert known["COVR", "hw", "driving_distance_m"] == (259, 85)
    assert known["COVR", "hopper_hop", "return"] == (188, 9)
    assert len({n.method for n in published("T4")}) == 16
    assert len({n.method for n in published("T5")}) == 12
    with pytest.raises(ValueError, match="no published table 'T9'; valid: T1"):
        published("T9")


def test_a_cell_has_both_values_and_their_difference(tmp_path: Path) -> None:
    for seed, score in enumerate((500.0, 540.0, 580.0)):
        write_run(tmp_path, f"dmc6@paper/cartpole_swingup/curl/{seed}", {"return": score})
    (made,) = paper_tables(read(tmp_path), "T4")
    assert made.title == "COVR, table 4: six DMControl tasks, beside dmc6@paper"
    (line,) = lines_of(made, "CURL")
    cell = line.cells[SWINGUP]
    assert line.ours == "curl"
    assert cell.ours == Summary(540.0, 40.0, 3)
    assert cell.difference == difference(Summary(540.0, 40.0, 3), Summary(582.0, 146.0, 3))
    assert line.cells["walker_walk", "return"].ours is None
    text = to_markdown([to_grid(made)])
    low, high = cell.difference[1:]
    assert "| CURL | paper | **582 ± 146** |" in text  # of three seeds COVR's 872 ± 2 is within noise
    assert "| curl | ours (n) | 540.0 ± 40.0 (3) | not run |" in text
    assert f"|  | ours - paper | -42.0 [{low:+.1f}, {high:+.1f}] | - |" in text
    row = next(row for row in csv.DictReader(io.StringIO(papers.to_csv([made]))) if row["mean"])
    assert (row["method"], float(row["difference"]), float(row["low"])) == ("CURL", -42.0, low)
    assert row["source"] == "COVR, AAAI 2026 (arXiv:2601.06122), table 4"


def test_one_seed_has_a_difference_without_interval(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/cartpole_swingup/curl/0", {"return": 600.0})
    (made,) = paper_tables(read(tmp_path), "T4")
    cell = lines_of(made, "CURL")[0].cells[SWINGUP]
    assert cell.difference is not None
    assert cell.difference.value == 18.0 and math.isnan(cell.difference.low)
    assert "curl on cartpole_swingup: one seed: no interval" in made.notes
    assert "| +18.0† |" in to_markdown([to_grid(made)])


def test_a_shorter_run_is_shown_but_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@smoke/cartpole_swingup/curl/0", {"return": 30.0}, env_steps=2_000)
    (made,) = paper_tables(read(tmp_path), "T4")
    assert lines_of(made, "CURL")[0].cells[SWINGUP].difference is None
    assert "curl on cartpole_swingup: evaluated at 2,000 env steps, the paper's at 100,000: no difference stated" in (
        made.notes
    )
    assert "30.0 (1) at 2,000†" in to_markdown([to_grid(made)])


@pytest.mark.parametrize(("env_steps", "compared"), [(98_000, False), (99_000, True)])
def test_a_run_may_end_one_percent_early(tmp_path: Path, env_steps: int, compared: bool) -> None:
    write_run(tmp_path, "dmc6@paper/cartpole_swingup/curl/0", {"return": 30.0}, env_steps=env_steps)
    (made,) = paper_tables(read(tmp_path), "T4")
    assert (lines_of(made, "CURL")[0].cells[SWINGUP].difference is not None) is compared


def test_a_longer_run_is_scored_at_the_papers_steps(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "dmc6@paper/cartpole_swingup/curl/0", action_repeat=8) as writer:
        for env_steps, score in ((90_000, 1.0), (100_000, 2.0), (110_000, 3.0)):
            writer.write("eval", env_steps, env_steps // 8, {"return": score})
    (made,) = paper_tables(read(tmp_path), "T4")
    assert lines_of(made, "CURL")[0].cells[SWINGUP].ours == pytest.approx((2.0, math.nan, 1), nan_ok=True)


def test_budgets_settings_vlms_and_variants_each_stand_by_themselves(tmp_path: Path) -> None:
    for run_id, labels in (
        ("dmc6@paper/cartpole_swingup/covr/0", {"vlm": "tiny"}),
        ("dmc6@paper/cartpole_swingup/covr-base=rad/0", {"vlm": "tiny"}),
        ("dmc6@paper/cartpole_swingup/covr-base=sac/0", {"vlm": "tiny"}),
        ("dmc6@paper/cartpole_swingup/covr-vlm=scripted/0", {"vlm": "scripted"}),
        ("dmc6@paper/cartpole_swingup/covr-lora_rank=4/0", {"vlm": "tiny"}),
        ("dmc6@paper/cartpole_swingup/covr/1", {"vlm": "tiny", "render": "fast"}),
        ("dmc6@short/cartpole_swingup/covr/0", {"vlm": "tiny"}),
    ):
        write_run(tmp_path, run_id, {"return": 1.0}, **labels)
    made = paper_tables(read(tmp_path), "T4")
    assert [table.protocol for table in made] == [
        ("dmc6", "paper", ""), ("dmc6", "paper", "render=fast"), ("dmc6", "short", "")
    ]  # fmt: skip
    ours = [line.ours for line in lines_of(made[0], "COVR")]
    assert ours == ["covr (vlm=tiny)", "covr-base=rad (vlm=tiny)", "covr-vlm=scripted"]
    assert [line.ours for line in lines_of(made[1], "COVR")] == ["covr (vlm=tiny)"]
    bases = paper_tables(read(tmp_path), "T3")[0]
    assert [line.ours for line in lines_of(bases, "SAC+COVR")] == ["covr-base=sac (vlm=tiny)"]
    assert [line.ours for line in lines_of(bases, "DeepMDP+COVR")] == [""]


def test_a_figure_says_where_shorter_runs_ended(cli: Any, tmp_path: Path) -> None:
    with RunWriter(tmp_path, "dmc6@short/cartpole_swingup/curl/0", action_repeat=8) as writer:
        writer.write("eval", 60_000, 7_500, {"return": 9.0})
    (made,) = [table for table in paper_tables(read(tmp_path), "T4") if table.protocol[1] == "short"]
    assert early(made) == "at 60,000 environment steps"
    plotted = cli("plot", "--paper", "T4", "--out", tmp_path, "-o", tmp_path / "t4.svg")
    assert plotted.code == 0, plotted.err
    assert "ours only at 60,000 environment steps" in (tmp_path / "t4.svg").read_text()


def test_two_action_repeats_are_two_lines(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/cartpole_swingup/curl/0", {"return": 1.0})
    with RunWriter(tmp_path, "dmc6@paper/cartpole_swingup/curl/1", action_repeat=2) as writer:
        writer.write("eval", 100_000, 50_000, {"return": 9.0})
    (made,) = paper_tables(read(tmp_path), "T4")
    lines = lines_of(made, "CURL")
    assert [line.cells[SWINGUP].ours.mean for line in lines if line.cells[SWINGUP].ours] == [9.0, 1.0]
    assert [line.ours for line in lines] == ["curl", "curl, 2. action repeat"]


def test_driving_tables_have_two_metrics_and_never_mix_backends(tmp_path: Path) -> None:
    for seed in range(2):
        driven = {"return": 200.0 + seed, "driving_distance_m": 210.0 + seed}
        write_run(tmp_path, f"carla@paper/hw/resact/{seed}", driven, backend="embedded")
    write_run(tmp_path, "carla@paper/hw/resact/5", {"return": 9.0}, backend="carla-0.9.16")
    real, embedded = paper_tables(read(tmp_path), "T1")
    assert embedded.title.endswith("beside carla@paper (backend=embedded)")
    (line,) = lines_of(embedded, "ResAct")
    assert [cell.ours.mean for cell in line.cells.values() if cell.ours] == [200.5, 210.5]
    assert "| method |  | episode reward | driving distance (m) |" in to_markdown([to_grid(embedded)])
    assert lines_of(real, "ResAct")[0].cells["hw", "driving_distance_m"].ours is None


def test_a_table_stands_beside_the_runs_of_its_own_tasks(tmp_path: Path) -> None:
    write_run(tmp_path, "carla@paper/hw/resact/0", {"return": 200.0})
    write_run(tmp_path, "carla@short/a/resact/0", {"return": 9.0})  # of table 3's task
    write_run(tmp_path, "carla@short-1000/hw/resact-lr=1/0", {"return": 9.0})  # stands beside no method
    assert [made.protocol[1] for made in paper_tables(read(tmp_path), "T1")] == ["paper"]
    (made,) = paper_tables(read(tmp_path), "T2")
    assert made.title.endswith("(not run yet)")


def test_ablations_are_found_by_name_or_by_their_settings(tmp_path: Path) -> None:
    for variant in ("M1", "rule=random", "rule=top,top_share=0.9", "weights=uniform"):
        write_run(tmp_path, f"ablation@paper/hw/covr-{variant}/0", {"return": 1.0}, vlm="tiny")
    (made,) = paper_tables(read(tmp_path), "T5")
    ours = {line.ours: line.method.split(":")[0] for line in made.lines if line.ours}
    assert ours == {
        "covr-M1 (vlm=tiny)": "M1",
        "covr-rule=random (vlm=tiny)": "M1",
        "covr-rule=top,top_share=0.9 (vlm=tiny)": "M3",
        "covr-weights=uniform (vlm=tiny)": "M8",
    }


def test_models_stand_beside_their_own_numbers_and_others_by_themselves(tmp_path: Path) -> None:
    qwen = "Qwen/Qwen2.5-VL-3B-Instruct"
    write_run(tmp_path, "carla@paper/hw/covr/0", {"return": 1.0}, vlm="tiny")
    write_run(tmp_path, "carla@paper/hw/covr-set-2b1/0", {"return": 2.0}, vlm="other")
    write_run(tmp_path, "carla@paper/hw/covr/1", {"return": 3.0}, vlm=qwen)
    (made,) = paper_tables(read(tmp_path), "vlm")
    assert [line.ours for line in lines_of(made, "COVR (Qwen2.5-VL-3B)")] == [f"covr (vlm={qwen})"]
    assert [line.ours for line in lines_of(made, "-")] == ["covr (vlm=tiny)", "covr-set-2b1 (vlm=other)"]
    assert "| covr (vlm=tiny) | ours (n) | 1.0 (1) | not run |" in to_markdown([to_grid(made)])


def test_drqv2_is_held_against_its_official_curve(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "dmc6-ar2@paper/cartpole_swingup/drqv2/0", action_repeat=2) as writer:
        for env_steps in (0, 20_000, 40_000):
            writer.write("eval", env_steps, env_steps // 2, {"return": env_steps / 200})
    (made,) = paper_tables(read(tmp_path), "drqv2")
    means = {line.method: line.cells[SWINGUP] for line in made.lines}
    assert means["DrQ-v2 at 20,000"].difference == pytest.approx((100 - 101.83, math.nan, math.nan), nan_ok=True)
    assert means["DrQ-v2 at 40,000"].difference is not None
    assert means["DrQ-v2 at 60,000"].difference is None


def write_rounds(out: Path, run_id: str, returns: list[float], *, errors: bool = True, **labels: str) -> None:
    with RunWriter(out, run_id, action_repeat=8, labels=labels) as writer:
        for number, score in enumerate(returns):
            step = 5_000 * number * (number + 1) // 2
            measured: dict[str, float | list[float]] = {"round": float(number), "return": [score, score + 2.0]}
            if number and errors:
                measured |= {"heldout_error": 0.5 / number, "valid_share": 0.9}
            writer.write("vlm", step, step // 8, measured)
        writer.write("vlm", 99_000, 99_000 // 8, {"queries": 3.0})
        writer.end()


def test_rounds_are_averaged_over_seeds_and_kept_apart(tmp_path: Path) -> None:
    for seed in range(2):
        write_rounds(tmp_path, f"dmc6@paper/cartpole_swingup/covr/{seed}", [10.0 * seed, 30.0, 50.0], vlm="tiny")
    write_rounds(tmp_path, "dmc6@paper/cartpole_swingup/covr/2", [20.0], vlm="tiny")
    write_rounds(tmp_path, "dmc6@paper/cartpole_swingup/covr/3", [99.0], vlm="scripted", errors=False)
    scripted, tiny = vlm_rounds.rounds(read(tmp_path))
    assert scripted.title == "covr (vlm=scripted) on cartpole_swingup, dmc6@paper"
    start = tiny.points["return"][0]
    assert (start.n, start.mean, start.std, start.env_steps) == (3, 11.0 + 1 / 3 - 1 / 3, 10.0, (0, 0))
    assert tiny.points["heldout_error"][2].mean == 0.25
    assert 0 not in tiny.points["heldout_error"]
    assert tiny.remarks == ("seeds reached different rounds: seed 0 2, seed 1 2, seed 2 0",)
    text = to_markdown([vlm_rounds.to_grid(tiny)])
    assert "| round | 0 | 1 | 2 |" in text
    assert "| its own return | 11.0 ± 10.0 | 31.0 ± 0.0 (2)† | 51.0 ± 0.0 (2)† |" in text
    assert "| environment steps | 0 | 5,000 | 15,000 |" in text
    rows = list(csv.DictReader(io.StringIO(vlm_rounds.to_csv([tiny]))))
    assert len(rows) == 3 + 2 + 2
    statistics.rounds([scripted, tiny], tmp_path / "rounds.svg")
    assert "<!-- covr (vlm=tiny) -->" in (tmp_path / "rounds.svg").read_text()


def test_a_round_written_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    run_id = "dmc6@paper/cartpole_swingup/covr/0"
    write_rounds(tmp_path, run_id, [1.0, 2.0])
    with RunWriter(tmp_path, run_id, action_repeat=8) as writer:
        writer.resume(4_000, 500)
        writer.write("vlm", 5_600, 700, {"round": 1.0, "return": [7.0]})
    (made,) = vlm_rounds.rounds(read(tmp_path))
    assert [(p.n, p.mean) for p in made.points["return"].values()] == [(1, 2.0), (1, 7.0)]


def test_of_two_rounds_with_one_number_the_last_counts(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "dmc6@paper/cartpole_swingup/covr/0", action_repeat=8) as writer:
        for env_steps, score in ((800, 3.0), (1_600, 5.0)):
            writer.write("vlm", env_steps, env_steps // 8, {"round": 1.0, "return": [score]})
    (rounds,) = vlm_rounds.rounds(read(tmp_path))
    point = rounds.points["return"][1]
    assert (point.n, point.mean, point.env_steps) == (1, 5.0, (1_600, 1_600))


def test_no_rounds_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/cartpole_swingup/sac/0", {"return": 1.0})
    assert vlm_rounds.rounds(read(tmp_path)) == []
    with pytest.raises(ValueError, match="no rows of kind 'vlm'"):
        statistics.rounds([], tmp_path / "rounds.png")


def test_a_method_that_we_have_not_is_published_only(tmp_path: Path) -> None:
    """And the table says why: it is not one that could be run."""
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", {"return": 1.0})
    (made,) = paper_tables(read(tmp_path), "T4")
    shown = to_grid(made)
    assert [row[0] for row in shown.rows if row[1] == "ours (n)"] == ["drq"]  # no row that says nothing
    (can_be_run,) = [note for note in shown.notes if note.startswith("not run yet")]
    (published_only,) = [note for note in shown.notes if note.startswith("published only")]
    for method in ("PSRL", "Dreamer", "PlaNet"):
        assert method in published_only and method not in can_be_run
        assert any(method in note and "published only" in note for note in made.notes)
    assert "TACO" in can_be_run and "TACO" not in published_only


# The paper's shape, and what a table needs


@pytest.fixture
def reduced(tmp_path: Path) -> Path:
    """Short runs of two agents and a variant on the embedded stand-ins of a small machine."""
    for seed, score in enumerate((500.0, 540.0, 580.0)):
        write_run(tmp_path, f"dmc6@short/cartpole_swingup/curl/{seed}", {"return": score}, render="fast")
        write_run(tmp_path, f"dmc6@short/cartpole_swingup/drq/{seed}", {"return": score - 400}, render="fast")
        write_run(tmp_path, f"dmc6@short/cartpole_swingup/covr/{seed}", {"return": score}, render="fast", vlm="tiny")
        write_run(tmp_path, f"dmc6@short/cartpole_swingup/drq-image_size=64/{seed}", {"return": score}, render="fast")
    return tmp_path


def test_a_reduced_run_is_not_taken_for_the_paper(reduced: Path) -> None:
    (made,) = paper_tables(read(reduced), "T4")
    for note in (
        "ours are runs of the budget short, not of the paper's: no reproduction",
        "ours were measured under render=fast: frames are drawn faster",
        "covr (vlm=tiny): a small model made for tests answers in the place of a real VLM",
    ):
        assert any(found.startswith(note) for found in made.notes)


def test_the_best_and_what_is_within_noise_of_it_is_bold(reduced: Path) -> None:
    sharp, same, lower = Summary(100.0, 1.0, 5), Summary(99.5, 1.0, 5), Summary(80.0, 1.0, 5)
    assert best([sharp, lower, same, None]) == {0, 2}
    assert best([sharp, None]) == set()
    assert best([sharp, Summary(99.0, math.nan, 1)]) == {0}
    assert best([sharp, Summary(math.nan, 1.0, 5), lower]) == {0}
    (made,) = paper_tables(read(reduced), "T4")
    text = to_markdown([to_grid(made)])
    assert "| curl | ours (n) | **540.0 ± 40.0 (3)** |" in text
    assert "| drq | ours (n) | 140.0 ± 40.0 (3) |" in text
    assert to_html([to_grid(made)]).count("<strong>") == len(to_grid(made).bold)
    assert r"\textbf{540.0 $\pm$ 40.0 (3)}" in to_latex([to_grid(made)])


def test_a_variant_stands_beside_a_method_only_where_asked(reduced: Path) -> None:
    assert [line.ours for line in lines_of(paper_tables(read(reduced), "T4")[0], "DrQ")] == ["drq"]
    (made,) = paper_tables(read(reduced), "T4", {"DrQ": ["drq-image_size=64"]})
    (line,) = lines_of(made, "DrQ")
    assert (line.ours, line.cells[SWINGUP].ours) == ("drq-image_size=64", Summary(540.0, 40.0, 3))
    assert "DrQ: ours is drq-image_size=64, as asked by --as" in made.notes
    for named, complaint in (({"DRQ": ["drq"]}, "no method 'DRQ'.* DrQ,"), ({"DrQ": ["rad"]}, "no run of agent 'rad'")):
        with pytest.raises(ValueError, match=complaint):
            paper_tables(read(reduced), "T4", named)


def test_a_variant_is_named_without_its_labels_where_one_is_called_so(tmp_path: Path) -> None:
    name = "covr-base=drq"
    write_run(tmp_path, f"dmc6@short/cartpole_swingup/{name}/0", {"return": 500.0}, render="fast", vlm="tiny")
    (made,) = paper_tables(read(tmp_path), "T4", {"COVR": [name]})
    assert [line.ours for line in lines_of(made, "COVR")] == [f"{name} (vlm=tiny)"]
    write_run(tmp_path, f"dmc6@short/cartpole_swingup/{name}/1", {"return": 500.0}, render="fast", vlm="other")
    with pytest.raises(ValueError, match=r"2 agents are called .*: covr-base=drq \(vlm=other\), covr-base=drq \(vlm=t"):
        paper_tables(read(tmp_path), "T4", {"COVR": [name]})


def test_layouts_show_ours_and_differences_alone(reduced: Path) -> None:
    (made,) = paper_tables(read(reduced), "T4")
    ours, delta = to_ours_grid(made), to_delta_grid(made)
    assert ours.rows[0][:3] == ("CURL", "curl", "540.0 ± 40.0 (3)")
    assert [row[:2] for row in delta.rows] == [("CURL", "curl"), ("DrQ", "drq"), ("COVR", "covr (vlm=tiny)")]
    assert delta.rows[0][2].startswith("-42.0 [")


def test_the_door_shows_papers_in_an_empty_folder(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for format_ in ("terminal", "md", "csv", "latex", "html"):
        shown = cli("table", "--paper", "T1", "--format", format_)
        assert shown.code == 0, shown.err
        assert "COVR" in shown.out
    assert cli("table", "--paper", "T4", "--layout", "wide").code == 2
    assert "--as takes METHOD=AGENT" in cli("table", "--paper", "T4", "--as", "RAD").err
    assert cli("table", "--layout", "ours").code == 2
    for layout in ("ours", "delta"):
        shown = cli("table", "--paper", "T4", "--layout", layout)
        assert (shown.code, shown.out) == (2, "")
        assert "no run of ours for T4: covr-bench run --paper T4 makes some" in shown.err
    assert cli("plot", "--paper", "T1", "-o", "t.svg").code == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "t.svg"]


def test_latex_states_a_label_and_uses_siunitx_where_asked(reduced: Path) -> None:
    (made,) = paper_tables(read(reduced), "T4")
    text = to_latex([to_grid(made)], siunitx=True)
    assert r"\num{540.0 +- 40.0} (3)" in text
    assert re.search(r"\\label\{tab:1-[a-z0-9-]+\}", text)
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == 1


@pytest.mark.parametrize("siunitx", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_latex_fits_its_page(reduced: Path, tmp_path: Path, layout: str, siunitx: bool) -> None:
    """Every paper's table in two columns of a usual style, and the table of our own scores."""
    latex = shutil.which("pdflatex") or shutil.which("tectonic")
    if latex is None:
        pytest.skip("no LaTeX here: apt-get install texlive-latex-extra")
    frame = read(reduced)
    grids = [LAYOUTS[layout](made) for paper in PAPERS for made in paper_tables(frame, paper)]
    grids += [grid for own in tables(frame) for grid in to_grids(own)]
    page = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    page = page.replace("graphicx", "graphicx,siunitx") if siunitx else page
    body = "\n\\clearpage\n".join(to_latex([grid], siunitx=siunitx) for grid in grids)  # else too many floats
    (tmp_path / "t.tex").write_text(f"{page}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run([latex, "t.tex"], cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout + done.stderr


@pytest.mark.parametrize("table", ["T1", "T4", "T5"])
def test_a_figure_for_every_table(reduced: Path, tmp_path: Path, table: str) -> None:
    for number, made in enumerate(paper_tables(read(reduced), table)):
        names = column_names(made.columns)
        paper_figures.bars(made.title, names, summaries(made), tmp_path / f"{number}.svg")
        text = (tmp_path / f"{number}.svg").read_text()
        assert all(f"<!-- {task} -->" in text for task, _ in made.columns if table == "T4")


def test_a_table_asks_for_exactly_its_runs() -> None:
    pytest.importorskip("torch", reason="agents are looked at")
    given = {"budget": "smoke", "seeds": "0-1"}
    (table,) = paper_runs(["T4"], given, "x").requests
    assert (table.suite, table.budget, table.seeds, len(table.tasks)) == ("dmc6", "smoke", (0, 1), 6)
    assert set(table.agents) == {number.agent for number in published("T4")} - {""}
    variants, published_covr = paper_runs(["T5"], given, "x").requests
    assert variants.variants == tuple(f"M{n}" for n in range(1, 12))
    assert (published_covr.agents, published_covr.tasks, published_covr.variants) == (("covr",), ("hw",), ())
    bases = [request.settings for request in paper_runs(["T3"], given, "x").requests]
    assert bases == [{}, {"base": "sac"}, {"base": "deepmdp"}]
    models = dict.fromkeys(number.labels.removeprefix("vlm=") for number in published("vlm"))
    assert [request.vlm for request in paper_runs(["vlm"], given, "x").requests] == list(models)
    (one,) = paper_runs(["T4", "T3"], given | {"agents": ["drq"], "tasks": ["walker_walk"]}, "x").requests
    assert (one.agents, one.tasks) == (("drq",), ("walker_walk",))
    assert [note.split(" is ")[0] for note in without_runs("T4")] == ["PSRL", "Dreamer", "PlaNet"]
    assert all("published only" in note for note in without_runs("T4"))
    with pytest.raises(UserError, match="unknown paper table 'T6'"):
        paper_runs(["T6"], given, "x")
    with pytest.raises(UserError, match=r"agent 'mrq' is in none of T4, T1, which have curl, drq"):
        paper_runs(["T4", "T1"], given | {"agents": ["drq", "mrq"]}, "x")  # it would be passed over
    with pytest.raises(UserError, match=r"task 'walker' is in none of T4, which have .*, walker_walk"):
        paper_runs(["T4"], given | {"tasks": ["walker"]}, "x")
    for table, settings in (("T3", {"sac.lr": "1e-4"}), ("T4", {"covr.base": "rad", "rad.lr": "1e-4"})):
        asked = given | {"settings": settings, "agents": ["covr"] if table == "T4" else None}
        kept = [dict(request.settings) for request in paper_runs([table], asked, "x").requests]
        assert {"base": "sac", **settings} in kept or settings in kept  # of the base that COVR wraps
    with pytest.raises(UserError, match=r"setting 'drqqq.lr' is of no agent that T3 runs here, which are sac, .*covr"):
        paper_runs(["T3"], given | {"settings": {"drqqq.lr": "1"}}, "x")
    with pytest.raises(UserError, match="no run of vlm takes --vlm tiny: leave it out"):
        paper_runs(["vlm"], given | {"vlm": "tiny"}, "x")
    with pytest.raises(UserError, match="nothing of T4 is of the suite, agents, tasks and variants asked for together"):
        paper_runs(["T4"], given | {"suite": "carla"}, "x")


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["T1,T4"], ["T1", "T4"]),
        (["T4", "T1, T4"], ["T4", "T1"]),
        (["several"], ["T1", "T2", "T3", "T4", "hard"]),
        (["T5,several", "rounds"], ["T5", "T1", "T2", "T3", "T4", "hard", "rounds"]),
        (["all"], ["T1", "T2", "T3", "T4", "T5", "hard", "vlm"]),
    ],
)
def test_tables_are_named_by_lists_and_sets(texts: list[str], names: list[str]) -> None:
    assert paper_names(texts) == names


def test_several_tables_compare_several_agents() -> None:
    for name in SETS["several"]:
        assert len({number.agent for number in published(name)} - {"", "covr"}) >= 2


@pytest.mark.parametrize("verb", [("run", "--dry-run", "--paper"), ("table", "--paper"), ("plot", "--paper")])
@pytest.mark.parametrize("wrong", ["T6", "T1,T6", "T1,", ""])
def test_every_verb_refuses_a_list_with_an_unknown_table(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...], wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*verb, wrong)
    assert done.code == 2 and f"unknown paper table {wrong.rpartition(',')[2]!r}" in done.err and "several" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("paper", [*SETS, *SETS["all"], "rounds", "T1,T4"])
def test_a_dry_run_shows_a_plan_of_each_suite_that_a_table_needs(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paper: str
) -> None:
    pytest.importorskip("torch", reason="agents are looked at")
    for name, result in (
        ("show_cost", 0.0),
        ("vlm_costs", []),
        ("check_vlms_fit", None),
    ):  # which measure, and download
        monkeypatch.setattr(run, name, lambda *_, result=result: result)
    done = cli("run", "--paper", paper, "--dry-run", "--budget", "smoke", "--device", "cpu", "--out", tmp_path / "out")
    plans = len(paper_runs([paper], {"budget": "smoke"}, "x").requests)
    assert (done.code, done.err) == (0, "")
    assert plans and done.out.count("planning ") == done.out.count("plan: ") == plans
    assert not (tmp_path / "out").exists()


def test_table_and_plot_show_several_papers_tables(
    cli: Callable[..., Any], reduced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reduced)
    shown = cli("table", "--out", reduced, "--paper", "several", "--format", "csv").out
    lines = list(csv.DictReader(io.StringIO(shown)))
    assert list(dict.fromkeys(line["table"] for line in lines)) == list(SETS["several"])
    alone = cli("table", "--out", reduced, "--paper", "T4", "--format", "csv").out
    assert [line for line in lines if line["table"] == "T4"] == list(csv.DictReader(io.StringIO(alone)))
    assert cli("table", "--out", reduced, "--paper", "T3,T4", "--format", "md").out.count("Published: ") == 2
    mixed = cli("table", "--out", reduced, "--paper", "T4,rounds", "--format", "csv")
    assert mixed.code == 2 and "rounds cannot stand in one file with others" in mixed.err
    drawn = cli("plot", "--out", reduced, "--paper", "T1,T4", "-o", "bars.svg")
    assert drawn.out.split() == ["bars-T1.svg", "bars-T4.svg"] and Path("bars-T4.svg").is_file()


def test_of_several_tables_a_chosen_agent_stands_in_those_with_the_method(reduced: Path) -> None:
    chosen = {"MADI": ["drq-image_size=64"]}
    of_madi = [table.table for table in several_tables(read(reduced), ("T3", "T4"), chosen) if lines_of(table, "MADI")]
    assert of_madi == ["T4"]
    with pytest.raises(ValueError, match="no method 'MADY'"):
        several_tables(read(reduced), ("T3", "T4"), {"MADY": ["drq"]})


def test_reproduce_writes_several_tables_and_one_report(
    cli: Callable[..., Any], reduced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce_paper, "run_papers", lambda *_, **__: 0)
    monkeypatch.setattr(reproduce_paper, "REPS", 50)
    assert cli("reproduce", "T3,T4", "--out", reduced).code == 0
    folder = reduced / "reports" / "T3-T4"
    names = {file.name for file in folder.iterdir()}
    assert {f"T3-T4.{ending}" for ending in ("md", "tex", "csv", "html")} < names
    assert {"table-T3.pdf", "table-T4.pdf", "curves.pdf", "report.html"} < names
    text = (folder / "T3-T4.md").read_text()
    assert "three base agents" in text and "six DMControl tasks" in text


def test_a_run_with_a_model_of_a_longer_name_is_not_the_papers() -> None:
    (number,) = [each for each in published("vlm") if "2.5-VL-3B" in each.labels and each.metric == "return"]
    labels = [number.labels, f"backend=embedded,{number.labels}", f"{number.labels}-AWQ"]
    scores = pd.DataFrame({"agent": number.agent, "variant": number.variants[0], "labels": labels})
    assert is_run_of(scores, number).tolist() == [True, True, False]


def test_a_seed_that_ended_early_keeps_a_cell_from_being_compared(tmp_path: Path) -> None:
    for seed, at in ((0, 100_000), (1, 50_000)):
        write_run(tmp_path, f"dmc6@paper/cartpole_swingup/drq/{seed}", {"return": 800.0}, env_steps=at)
    (table,) = paper_tables(read(tmp_path), "T4")
    (cell,) = [line.cells["cartpole_swingup", "return"] for line in table.lines if line.ours == "drq"]
    assert (cell.ours.n, cell.env_steps, cell.difference) == (2, 50_000, None)  # type: ignore[union-attr]
