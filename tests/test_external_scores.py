"""Scores from elsewhere are read like our own, and what is wrong with them is said, never averaged over."""

from __future__ import annotations

import json
import math
import os
import re
from typing import TYPE_CHECKING

import pytest

from analysis.rows.external import read_scores, to_marl_eval
from analysis.rows.lines import ScoresError
from analysis.rows.scores import final_scores
from analysis.tables.scores import tables
from analysis.tables.scores import to_csv as scores_csv
from results.store import RunWriter, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from conftest import Result

HEADER = "agent,task,seed,env_steps,return"


def test_csv_and_json_lines_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "a.csv").write_text(
        f"{HEADER},note\nDrQ-v2,walk,0,0,1\nDrQ-v2,walk,0,1e2,2.5,\n".replace(",1\n", ",1,x\n")
    )
    line = {"agent": "SAC (pixels)", "task": "walk", "seed": 3, "env_steps": 100, "return": None}
    (tmp_path / "deeper" / "b.jsonl").write_text(json.dumps(line) + "\n\n")
    (tmp_path / "readme.txt").write_text("not scores")
    frame, remarks = read_scores(tmp_path)
    assert remarks == ["columns not used: note"]
    scores = final_scores(frame)
    assert scores["agent"].tolist() == ["DrQ-v2", "SAC (pixels)"]
    assert scores["env_steps"].tolist() == [100, 100]
    assert scores["score"].tolist()[0] == 2.5
    assert math.isnan(scores["score"].tolist()[1])
    assert scores["status"].tolist() == ["finished", "finished"]
    (table,) = tables(frame)
    assert table.title == "scores@given"
    assert "SAC (pixels) on walk: seed 3 not a finite number at the last evaluation" in table.notes


def test_other_protocols_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        f"suite,budget,labels,{HEADER}\ndmc6,paper,,sac,walk,0,10,1\ndmc6,paper,backend=x,sac,walk,0,10,2\n"
        'dmc6,short,,sac,walk,0,10,3\ndmc6,paper,"vlm=tiny,backend=x",sac,walk,0,10,4\n'
    )
    made = tables(read_scores(tmp_path / "a.csv")[0])
    assert [table.title for table in made] == ["dmc6@paper", "dmc6@paper (backend=x)", "dmc6@short"]
    assert [[cell.mean for cell in table.cells.values()] for table in made] == [[1.0], [2.0, 4.0], [3.0]]


def test_the_same_line_twice_counts_once_and_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"{HEADER}\nsac,walk,0,10,1\n")
    frame, (remark,) = read_scores(tmp_path)
    assert remark == f"lines given twice count once: 1, the first of them at {tmp_path / 'b.csv'}:2"
    assert final_scores(frame)["evaluations"].tolist() == [1]


def test_the_last_evaluation_is_that_of_the_largest_step_whatever_the_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\nsac,walk,0,20,7\nsac,walk,0,10,1\n")
    scores = final_scores(read_scores(tmp_path)[0])
    assert (scores["env_steps"].tolist(), scores["score"].tolist()) == ([20], [7.0])


def test_one_seed_at_two_action_repeats_is_two_runs(tmp_path: Path) -> None:
    """They were one run, scored at its highest step."""
    lines = [f"sac,walk,0,{step},{step},{repeat}" for step, repeat in ((10, 2), (12, 2), (12, 4), (16, 4))]
    (tmp_path / "a.csv").write_text("\n".join([f"{HEADER},action_repeat", *lines, "sac,walk,1,12,5,2"]))
    frame, _ = read_scores(tmp_path)
    (table,) = tables(frame)
    assert {column: cell.mean for (_, column), cell in table.cells.items()} == {("walk", 2): 8.5, ("walk", 4): 16.0}
    assert set(frame["run_id"].astype(str)) == {
        "scores@given/walk (action repeat 2)/sac/0", "scores@given/walk (action repeat 4)/sac/0",
        "scores@given/walk/sac/1",
    }  # fmt: skip
    found, remarks = to_marl_eval(frame)
    assert len(found["scores@given"]["walk"]["sac"]) == 2
    assert any("one run of a seed on a task: scores@given/walk (action repeat 4)/sac/0" in each for each in remarks)


def test_two_runs_under_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\nsac,walk,0,10,1\n")
    (tmp_path / "b.csv").write_text(f"{HEADER}\nsac,walk,1,10,1\nsac,walk,0,10,2\n")
    with pytest.raises(ScoresError, match=r"a.csv:2 and .*b.csv:3 differ .* sac on walk, seed 0, at 10 env steps"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("covr,base=drq,", "covr-base=drq,,", "covr-base=drq"),
        ("covr,,vlm=tiny", "covr (vlm=tiny),,", r"covr \(vlm=tiny\)"),
    ],
)
def test_two_agents_that_are_shown_alike_are_refused(tmp_path: Path, one: str, other: str, shown: str) -> None:
    """One was in no table, and both were one in statistics."""
    lines = [f"{names},walk,0,10,{value}" for value, names in enumerate((one, other))]
    (tmp_path / "a.csv").write_text("\n".join(["agent,variant,labels,task,seed,env_steps,return", *lines]))
    with pytest.raises(ScoresError, match=f"agent 'covr' with .* and agent '{shown}' are both shown as {shown}: give"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("agent,task,seed,env_steps\nsac,walk,0,10\n", r"a.csv:2: no return; needed are agent, task.*there are agent"),
        (f"{HEADER}\nsac,walk,0,10\n", r"a.csv:2: not as many values"),
        (f"{HEADER}\nsac,walk,0,10,1,2\n", r"a.csv:2: not as many values"),
        (f"{HEADER}\nsac,walk,x,10,1\n", r"a.csv:2: seed is 'x'; a whole number"),
        (f"{HEADER}\nsac,walk,-1,10,1\n", r"seed is '-1'"),
        (f"{HEADER}\nsac,walk,0,1.5,1\n", r"env_steps is '1.5'; a whole number"),
        (f"{HEADER}\nsac,walk,0,inf,1\n", r"env_steps is 'inf'"),
        (f"{HEADER}\nsac,walk,0,{10**23},1\n", r"env_steps is '1000.*'; a whole number"),
        (f"{HEADER}\nsac,walk,{'9' * 5000},1,1\n", r"seed is '9{150,199}\.\.\.; a whole number"),
        (f"{HEADER.replace(',', ';')}\nsac;walk;0;10;1,5\n", r"columns are separated by ';'; save it with ','"),
        (f'labels,{HEADER}\n"=,a=b",sac,walk,0,10,1\n', r"labels are '=,a=b'; expected k=v"),
        (f"{HEADER}\nsac,walk,0,10,high\n", r"return is 'high'; a number or nan"),
        (f"{HEADER}\n,walk,0,10,1\n", r"agent is ''; a name"),
        (f'{HEADER}\n"sac\n\x1b[2J",walk,0,10,1\n', r"agent is .*; a name of printable"),
        (f"labels,{HEADER}\nfast,sac,walk,0,10,1\n", r"labels are 'fast'; expected k=v"),
        (f"{HEADER}\n", r"has no scores; a line states agent, task"),
        ("\xff\xfe", r"is not a table in UTF-8 text, save it as UTF-8"),
        (f"action_repeat,{HEADER}\n0,sac,walk,0,10,1\n", r"action_repeat is '0'; a whole number, 1 or more"),
        (f"{HEADER}\nsac,walk,{2**63},10,1\n", r"a whole number, 0 or more, at most 9,223,372,036,854,775,807, is"),
        (f"{HEADER},return\nsac,walk,0,10,1,2\n", r"the header has two columns 'return'"),
    ],
)
def test_bad_files_are_named_line_by_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ScoresError, match=complaint):
        read_scores(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{\n", r"a.jsonl:1 is not JSON: Expecting"),
        ("[1]\n", r"a.jsonl:1: not an object"),
        ('{"agent": "a", "task": "t", "seed": 0, "env_steps": 1, "return": 1, "return": 2}\n', "two entries 'return'"),
        ('{"agent": null, "task": "t", "seed": 0, "env_steps": 1, "return": 1}\n', "agent is None"),
        ('{"agent": "a", "task": ["t"], "seed": 0, "env_steps": 1, "return": 1}\n', "task is"),
        ('{"agent": "a", "task": "t", "seed": true, "env_steps": 1, "return": 1}\n', "seed is True"),
        ('{"agent": "a", "task": "t", "seed": 0, "env_steps": 1, "return": true}\n', "jsonl:1: return is True"),
        ('{"agent": "a", "task": "t", "seed": 0, "env_steps": 1%s, "return": 1}\n' % ("0" * 400), "env_steps is a num"),
        (
            '{"agent": "a", "task": "t", "seed": 0, "env_steps": 1, "return": 1%s}\n' % ("0" * 400),
            "return is a number of",
        ),
        (
            '{"agent": "a", "task": "t", "seed": 0, "env_steps": 1, "return": 1%s}\n' % ("0" * 5000),
            "jsonl:1 is not JSON",
        ),
        ("[" * 100_000, r"a.jsonl:1 is not JSON"),
        ('{"agent": "a", "task": "t", "seed": 0, "env_steps": 1, "return": 1, "labels": {"a": "b"}}\n', "expected k=v"),
    ],
)
def test_bad_json_lines_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ScoresError, match=complaint):
        read_scores(tmp_path)


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"no .csv or .jsonl file in"):
        read_scores(tmp_path)
    with pytest.raises(ScoresError, match=r"there is no file or folder .*absent.csv"):
        read_scores(tmp_path / "absent.csv")
    with pytest.raises(ScoresError, match=r"cannot read xxx.*File name too long"):
        read_scores("x" * 5000)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ScoresError, match=r"neither a file nor a folder; write the scores to a .csv file"):
        read_scores(tmp_path / "pipe.csv")


def test_a_link_to_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\nsac,walk,0,10,1\n")
    (tmp_path / "b.csv").symlink_to("b.csv")
    with pytest.raises(ScoresError, match=r"b.csv: no file, such as a link to nowhere"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s,b,,t/u,a,", "s,b,,t,u/a,"),
        ("s,b,,t,a[v],", "s,b,,t,a,v"),
        ("s@b,c,,t,a,", "s,b@c,,t,a,"),
        ("s,b (x=y),,t,a,", "s,b,x=y,t,a,"),
        ("s,b,,t/u,a,", "s,b,,t%2Fu,a,"),
    ],
)
def test_runs_of_different_names_stay_two(tmp_path: Path, one: str, other: str) -> None:
    lines = [f"{names},0,10,{value}" for value, names in enumerate((one, other))]
    (tmp_path / "a.csv").write_text("\n".join(["suite,budget,labels,task,agent,variant,seed,env_steps,return", *lines]))
    assert sorted(final_scores(read_scores(tmp_path)[0])["score"]) == [0.0, 1.0]


def test_columns_may_be_spaced(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('agent, task, seed, env_steps ,"return"\n"m, v2", t, 0, 10, 1.5\n')
    frame = read_scores(tmp_path)[0]
    assert (set(frame["agent"]), final_scores(frame)["score"].tolist()) == ({"m, v2"}, [1.5])


@pytest.mark.parametrize(
    ("returns", "mean"),
    [
        ({"walker_walk": 400, "cheetah_run": 200}, "300.0"),
        ({"maze": 0.25, "ring": 0.75}, "0.500"),
        ({"pong": 21, "breakout": 400}, None),
        ({"walker_walk": 400, "maze": 0.5}, None),
    ],
)
def test_returns_on_different_scales_have_no_mean(
    cli: Callable[..., Any], tmp_path: Path, returns: dict[str, float], mean: str | None
) -> None:
    lines = [f"m,{task},{seed},10,{value}" for task, value in returns.items() for seed in range(2)]
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    shown = cli("table", "--scores", tmp_path / "a.csv", "--format", "md").out
    assert ("mean over tasks |" in shown) == (mean is not None)
    assert mean is None or f"| {mean} |" in shown
    assert ("so returns have no mean over tasks" in shown) == (mean is None)
    page = tmp_path / "page.html"
    assert cli("report", "--scores", tmp_path / "a.csv", "--reps", 5, "-o", page).code == 0
    text = page.read_text()
    assert (text.count("mean over tasks") > text.count("no mean over tasks")) == (mean is not None)


def test_seeds_count_exactly_and_labels_without_their_spaces(tmp_path: Path) -> None:
    lines = f'{2**53},sac,walk,10,1,"x=1, y=2"\n{2**53 + 1},sac,walk,10,2,"y=2,x=1"\n'
    (tmp_path / "A.CSV").write_text(f"seed,agent,task,env_steps,return,labels\n{lines}")
    frame = read_scores(tmp_path / "A.CSV")[0]
    assert set(frame["seed"]) == {2**53, 2**53 + 1}
    assert set(frame["labels"]) == {"x=1,y=2"}


def test_steps_of_any_size_stay_in_order(tmp_path: Path) -> None:
    """Also where runs times steps are more than an integer holds."""
    lines = [f"sac,walk,{seed},{step},{value}" for seed in range(9) for value, step in enumerate((2**61, 2**62))]
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    assert final_scores(read_scores(tmp_path)[0])["score"].tolist() == [1.0] * 9


def test_all_conflicts_are_counted_at_once(tmp_path: Path) -> None:
    lines = [f"sac,walk,{seed},10,{value}" for seed in range(12) for value in (1, 2)]
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    with pytest.raises(ScoresError, match=r"12 scores are given twice.*a.csv:2 and .*a.csv:3.*and 2 more"):
        read_scores(tmp_path)


def test_marl_eval_gets_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\nsac,walk,0,10,1\nsac,walk,0,20,2\n")
    (run,) = to_marl_eval(read_scores(tmp_path)[0], 15)[0]["scores@given"]["walk"]["sac"].values()
    assert run["absolute_metrics"] == {"return": [1.0]}
    assert list(run) == ["step_1", "absolute_metrics"]


def test_a_name_that_a_spreadsheet_would_run_stays_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n=1+1,@walk,0,10,-5\n+3,walk,0,10,-5\n")
    text = scores_csv(tables(read_scores(tmp_path)[0]))
    assert "'=1+1" in text and "'@walk" in text and ",-5.0," in text
    assert not re.search(r"(^|,)[=@]", text)


def test_marl_eval_gets_episodes_steps_and_a_last_evaluation(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        with RunWriter(tmp_path, f"dmc6@paper/walk/sac-a=1,b=2/{seed}", action_repeat=2) as writer:
            writer.write("eval", 0, 0, {"return": [1.0, 2.0]})
            if seed < 2:
                writer.write("eval", 100, 50, {"return": [3.0, math.nan] if seed else [3.0, 4.0]})
    exported, remarks = to_marl_eval(read(tmp_path))
    runs = exported["dmc6@paper"]["walk"]["sac-a=1;b=2"]  # its names must not hold commas
    assert runs["seed_0"] == {
        "step_1": {"step_count": 0, "return": [1.0, 2.0]},
        "step_2": {"step_count": 100, "return": [3.0, 4.0]},
        "absolute_metrics": {"return": [3.0, 4.0]},
    }
    assert set(runs) == {"seed_0", "seed_2"}
    assert "left out, since their last evaluation is no finite number: dmc6@paper/walk/sac-a=1,b=2/1" in remarks
    assert "1 evaluation is no finite number and left out" in remarks
    assert any("same agents, seeds and evaluations" in remark for remark in remarks)
    json.dumps(exported, allow_nan=False)


@pytest.mark.parametrize(
    ("agent", "suite", "told"),
    [
        ("drq", "", "suite is 'scores', and must be one of dmc6"),
        ("drqv2", "dmc6", r"agent is 'drqv2', and must be one of apl, .* --as METHOD=AGENT"),
        ("drq", "dmc6", ""),
    ],
)
def test_a_file_that_no_papers_table_takes_is_told_what_it_needs(
    cli: Callable[..., Result], tmp_path: Path, agent: str, suite: str, told: str
) -> None:
    """The table said "not run yet" of it, and nothing else."""
    column, value = (",suite", f",{suite}") if suite else ("", "")
    file = tmp_path / "scores.csv"
    file.write_text(f"{HEADER}{column}\n{agent},cartpole_swingup,0,100000,800{value}\n")
    asked = cli("table", "--paper", "T4", "--scores", file)
    assert asked.code == 0
    assert bool(re.search(f"no line of .*scores.csv stands in T4: {told}", asked.err)) == bool(told)
    assert ("800.0 (1)" in asked.out) == (not told)
