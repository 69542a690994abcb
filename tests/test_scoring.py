"""`covr-bench table`, `stats` and `plot`: what they print, refuse and import."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from analysis.papers.published import published
from covr_bench.config import registry
from covr_bench.config.settings import base_of, variant_name
from results.store import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIGHT = ("--reps", 200)
HEADER = "agent,task,seed,env_steps,return"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for agent, quality in (("sac", 100.0), ("rad", 300.0)):
        for task in ("cartpole_swingup", "walker_walk"):
            for seed in range(3):
                with RunWriter(tmp_path, f"dmc6@paper/{task}/{agent}/{seed}", action_repeat=8) as writer:
                    for env_steps in (0, 50_000, 100_000):
                        writer.write("eval", env_steps, env_steps // 8, {"return": [quality + seed + env_steps / 1e3]})
                    writer.end()
    return tmp_path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    folder = tmp_path / "scores"
    folder.mkdir()
    lines = [f"{agent},jump,{seed},10,{value + seed}" for agent, value in (("A", 1), ("B", 3)) for seed in range(3)]
    (folder / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder


def test_stats_in_four_formats(cli: Callable[..., Any], out: Path) -> None:
    shown = cli("stats", "--out", out, *LIGHT)
    assert shown.code == 0
    for text in ("Scores over 2 tasks: dmc6@paper, at 100,000", "from 0 to 1000", "IQM", "optimality", "P(X > Y)"):
        assert text in shown.out
    assert "| rad | 6 | 0.40 [" in cli("stats", "--out", out, *LIGHT, "--format", "md").out
    assert cli("stats", "--out", out, *LIGHT, "--format", "csv").out.startswith("suite,budget,setting,statistic,agent")
    assert "\\toprule" in cli("stats", "--out", out, *LIGHT, "--format", "latex").out
    assert "Valid: terminal, md, csv, latex" in cli("stats", "--out", out, "--format", "xml").err


def test_stats_of_a_choice(cli: Callable[..., Any], out: Path) -> None:
    chosen = cli("stats", "--out", out, *LIGHT, "--format", "md", "--task", "walker_walk", "--env-steps", "60000").out
    assert "Scores over walker_walk: dmc6@paper, at 50,000" in chosen
    assert "| rad | 3 | 0.35 [" in chosen
    ranged = cli("stats", "--out", out, *LIGHT, "--format", "md", "--score-range", "walker_walk=0,100").out
    assert "0 to 1000 on cartpole_swingup; 0 to 100 on walker_walk" in ranged
    assert "| sac | rad | 0.00 [" in cli("stats", "--out", out, *LIGHT, "--format", "md", "--over", "rad").out
    for wrong, complaint in (
        (("--agent", "sacc"), "no run of agent 'sacc'; there are runs of: rad, sac"),
        (("--task", "walk"), "no run of task 'walk'"),
        (("--over", "drq"), "no agent 'drq' with a score on every task"),
        (("--score-range", "1"), "--score-range takes LOW,HIGH or TASK=LOW,HIGH, got '1'"),
        (
            ("--score-range", "walker_wlak=0,100"),
            "unknown task of --score-range 'walker_wlak'. Did you mean 'walker_walk'",
        ),
        (("--score-range", "5,5"), "score range of cartpole_swingup is 5 to 5"),
        (("--suite", "dmc7"), "no rows of suite 'dmc7'"),
    ):
        result = cli("stats", "--out", out, *LIGHT, *wrong)
        assert result.code == 2
        assert complaint in result.err


def test_a_tasks_own_range_holds_in_any_order(cli: Callable[..., Any], out: Path) -> None:
    """A general range after it overrode it in silence."""
    ranges = [("--score-range", "walker_walk=0,100"), ("--score-range", "0,1000")]
    found = [cli("stats", "--out", out, *LIGHT, "--format", "csv", *a, *b).out for a, b in (ranges, ranges[::-1])]
    assert found[0] == found[1] != cli("stats", "--out", out, *LIGHT, "--format", "csv", *ranges[1]).out


def test_scores_from_elsewhere_go_through_all_commands(cli: Callable[..., Any], scores: Path, tmp_path: Path) -> None:
    assert "| A | 2.000 ± 1.000 |" in cli("table", "--scores", scores, "--format", "md").out
    shown = cli("stats", "--scores", scores, *LIGHT, "--format", "md").out
    assert "no score range is known for jump: returns are taken as they are" in shown
    assert "| A | 3 | 0.20 [" in cli("stats", "--scores", scores, *LIGHT, "--format", "md", "--score-range", "0,10").out
    assert "| A | 3 | - | - | - | - |" in shown  # 1 to 3 on an unknown scale have no aggregate
    for kind in ("curves", "improvement"):
        picture = tmp_path / f"{kind}.svg"
        drawn = cli("plot", "--scores", scores, "--kind", kind, "-o", picture, *LIGHT)
        assert drawn.out.strip() == str(picture)
        assert "scores@given" in picture.read_text()
        assert "note: no score range is known" in drawn.err
    for kind in ("aggregate", "profile"):
        refused = cli("plot", "--scores", scores, "--kind", kind, "-o", tmp_path / "a.svg", *LIGHT)
        assert refused.code == 2
        assert "--score-range jump=LOW,HIGH states which returns count as 0 and 1" in refused.err
        ranged = cli(
            "plot", "--scores", scores, "--kind", kind, "-o", tmp_path / "a.svg", *LIGHT, "--score-range", "0,5"
        )
        assert ranged.code == 0
    (scores / "b.csv").write_text(f"{HEADER}\nA,jump,0,10,99\n")
    clash = cli("stats", "--scores", scores)
    assert clash.code == 2
    assert "differ on one and the same score: A on jump, seed 0" in clash.err


def test_a_task_of_ours_keeps_its_range_elsewhere(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\nA,walker_walk,0,10,500\nA,walker_walk,1,10,500\n")
    assert "| A | 2 | 0.50 [0.50, 0.50]" in cli("stats", "--scores", tmp_path, *LIGHT, "--format", "md").out


def test_marl_eval_is_written(cli: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    path = tmp_path / "marl.json"
    result = cli("stats", "--out", out, *LIGHT, "--marl-eval", path)
    assert f"wrote {path}" in result.err
    assert "absolute_metrics hold the last evaluation" in result.err
    assert json.loads(path.read_text())["dmc6@paper"]["walker_walk"]["rad"]["seed_2"]["step_3"]["return"] == [402.0]


def test_a_papers_table(cli: Callable[..., Any], out: Path) -> None:
    shown = cli("table", "--out", out, "--paper", "T3")
    assert shown.code == 0
    assert "237 ± 49" in shown.out
    assert "† not run yet (covr-bench run --paper T3): SAC+COVR, DeepMDP" in shown.out
    assert (
        "| rad | ours (n) | **401.0 ± 1.0 (3)** | not run |"
        in cli("table", "--out", out, "--paper", "T3", "--format", "md").out
    )
    assert cli("table", "--out", out, "--paper", "T3", "--format", "csv").out.startswith("table,suite,budget,setting")
    assert "\\bottomrule" in cli("table", "--out", out, "--paper", "T1", "--format", "latex").out
    wrong = cli("table", "--out", out, "--paper", "T6")
    assert wrong.code == 2
    assert "unknown paper table 'T6'" in wrong.err
    assert "no rows of kind 'vlm'" in cli("table", "--out", out, "--paper", "rounds").err


def test_rounds_are_shown_and_drawn(cli: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    with RunWriter(out, "dmc6@paper/walker_walk/covr/0", action_repeat=2, labels={"vlm": "tiny"}) as writer:
        for number in range(3):
            writer.write("vlm", 1_000 * number, 500 * number, {"round": float(number), "return": [1.0, 3.0]})
    assert (
        "| its own return | 2.0 | 2.0 | 2.0 |" in cli("table", "--out", out, "--paper", "rounds", "--format", "md").out
    )
    picture = tmp_path / "rounds.png"
    assert cli("plot", "--out", out, "--kind", "rounds", "-o", picture).out.strip() == str(picture)


def test_plot_refuses_what_it_does_not_know(cli: Callable[..., Any], out: Path) -> None:
    wrong = cli("plot", "--out", out, "--kind", "pie")
    assert wrong.code == 2
    assert "unknown kind of plot 'pie'" in wrong.err
    assert "no rows of kind 'vlm'" in cli("plot", "--out", out, "--kind", "rounds").err


def test_protocols_get_a_file_each(cli: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    with RunWriter(out, "dmc6@short/walker_walk/sac/0", action_repeat=2, labels={"render": "fast"}) as writer:
        writer.write("eval", 100, 50, {"return": [1.0]})
    drawn = cli("plot", "--out", out, "--kind", "aggregate", *LIGHT, "-o", tmp_path / "a.png")
    assert drawn.out.split() == [f"{tmp_path}/a-dmc6@paper.png", f"{tmp_path}/a-dmc6@short(render=fast).png"]
    assert "sac was also run as dmc6@short (render=fast): kept apart" in drawn.err


@pytest.mark.parametrize("verb", [("table",), ("table", "--paper", "T4"), ("stats", "--reps", "50")])
def test_reading_imports_nothing_heavy(out: Path, verb: tuple[str, ...]) -> None:
    heavy = ("torch", "mujoco", "dm_control", "transformers", "rliable", "scipy.stats", "numba", "matplotlib", "carla")
    code = f"""
import sys
from covr_bench.cli.app import main
sys.argv = {["covr-bench", *verb, "--out", str(out)]!r}
try:
    main()
except SystemExit as ended:
    print(ended.code, *[name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0", done.stderr


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        ({}, "RAD+COVR"),
        ({"base": "rad"}, "RAD+COVR"),
        ({"base": "sac"}, "SAC+COVR"),
        ({"base": "deepmdp", "vlm": "tiny"}, "DeepMDP+COVR"),
        ({"vlm": "Qwen/Qwen2.5-VL-3B-Instruct"}, "RAD+COVR"),
        ({"base": "sac", "vlm": "Qwen/Qwen2.5-VL-3B-Instruct"}, "SAC+COVR"),
    ],
)
def test_commands_name_runs_as_the_published_numbers_expect(overrides: dict[str, str], method: str) -> None:
    import pandas as pd

    from analysis.papers.published import is_run_of

    covr = registry.agent("covr")
    variant = variant_name(covr, base_of(covr, overrides), overrides)
    labels = f"vlm={overrides.get('vlm', 'tiny')}"
    run = pd.DataFrame({"agent": ["covr"], "variant": [variant], "labels": [labels]})
    assert {number.method for number in published("T3") if is_run_of(run, number).all()} == {method}


def test_protocols_too_small_for_a_figure_do_not_keep_others_from_theirs(
    cli: Callable[..., Any], out: Path, tmp_path: Path
) -> None:
    with RunWriter(out, "dmc6@short/walker_walk/sac/0", action_repeat=2) as writer:
        writer.write("eval", 100, 50, {"return": [1.0]})
    drawn = cli("plot", "--out", out, "--kind", "improvement", *LIGHT, "-o", tmp_path / "i.png")
    assert drawn.code == 0
    assert drawn.out.split() == [f"{tmp_path}/i-dmc6@paper.png"]
    assert "note: dmc6@short: fewer than two agents have a score on every task" in drawn.err
    alone = cli("plot", "--out", out, "--kind", "improvement", *LIGHT, "--agent", "sac", "-o", tmp_path / "i.png")
    assert alone.code == 2
    assert "note: sac was also run as dmc6@short: kept apart" in alone.err


def test_equal_scores_read_alike_with_their_interval(cli: Callable[..., Any], tmp_path: Path) -> None:
    lines = [f"A,{task},{seed},10,5" for task in ("walker_walk", "cheetah_run") for seed in range(3)]
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    shown = cli("stats", "--scores", tmp_path, *LIGHT, "--format", "md").out
    assert "| A | 6 | 0.01 [0.01, 0.01] | 0.01 [0.01, 0.01] | 0.01 [0.01, 0.01] |" in shown
