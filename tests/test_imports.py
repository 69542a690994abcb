"""Others' logs become scores: each format by a file as its program writes it, and what is asked about or refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import shlex
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis.rows.external import read_scores
from analysis.rows.scores import final_scores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MONITOR = """#{"t_start": 1700000000.0, "env_id": "walker_walk"}
r,l,t
1.5,100,0.1
2.5,50,0.2
"""
MARL_EVAL = {
    "dmc6": {"walker_walk": {"sac": {"seed_3": {
        "step_1": {"step_count": 10, "return": [1.0, 3.0]},
        "step_2": {"step_count": 20, "return": [5.0, 5.0]},
        "absolute_metrics": {"return": [5.0]},
    }}}}
}  # fmt: skip
DREAMER = [{"task": "dmc_walker_walk", "method": "dreamerv3", "seed": "2", "xs": [1e4, 2e4], "ys": [10.0, 20.0]}]
WANDB = """"Step","drq seed_1 - eval/return","drq seed_1 - eval/return__MIN","drq seed_1 - eval/return__MAX"
"10","7.5","7.5","7.5"
"20","","",""
"30","8.5","8.5","8.5"
"""

HEADER = "agent,task,seed,env_steps,return\n"
LINE = '{"agent": "m", "task": "t", "seed": 0, "env_steps": 10, "return": 1.5}\n'
ALL_SAID = ("--with", "agent=m", "--with", "task=t", "--with", "seed=0")


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


EVALUATIONS = npz(timesteps=np.array([10, 20]), results=np.array([[1.0, 3.0], [5.0, 6.0]]), ep_lengths=np.ones((2, 2)))
PICKLED = npz(timesteps=np.array([10]), results=np.array([[1.0], [2.0, 3.0]], dtype=object))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def imported(cli: Callable[..., Any], tmp_path: Path, *arguments: object) -> list[tuple[Any, ...]]:
    """Suite, task, agent, seed, labels, steps and return of every score."""
    file = tmp_path / "scores.csv"
    result = cli("import", *arguments, "-o", file)
    assert result.code == 0, result.err
    frame = read_scores(file)[0]
    frame = frame[frame["kind"] == "eval"]
    columns = ["suite", "task", "agent", "seed", "labels", "env_steps", "value"]
    return [tuple(line) for line in frame[columns].astype(dict.fromkeys(columns[:3], str)).to_numpy()]


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("logs/drq/walker_walk_2/0.monitor.csv", MONITOR, (),
         [("scores", "walker_walk", "drq", 1, "returns=training", 100, 1.5),
          ("scores", "walker_walk", "drq", 1, "returns=training", 150, 2.5)]),
        ("logs/ppo/walker_walk_3/evaluations.npz", EVALUATIONS, (),
         [("scores", "walker_walk", "ppo", 2, "", 10, 2.0), ("scores", "walker_walk", "ppo", 2, "", 20, 5.5)]),
        ("a.json", json.dumps(MARL_EVAL), (),
         [("dmc6", "walker_walk", "sac", 3, "", 10, 2.0), ("dmc6", "walker_walk", "sac", 3, "", 20, 5.0)]),
        ("b.json.gz", gzip.compress(json.dumps(DREAMER).encode(), mtime=0), ("--rename", "dmc_walker_walk=walker_walk"),
         [("scores", "walker_walk", "dreamerv3", 2, "returns=training", 10_000, 10.0),
          ("scores", "walker_walk", "dreamerv3", 2, "returns=training", 20_000, 20.0)]),
        ("tdmpc2-pixels/walker_walk.csv", "step,reward,seed\n0,5.5,1\n100,6.5,1\n", (),
         [("scores", "walker_walk", "tdmpc2-pixels", 1, "", 0, 5.5),
          ("scores", "walker_walk", "tdmpc2-pixels", 1, "", 100, 6.5)]),
        ("chart.csv", WANDB, ("--with", "task=walker_walk"),
         [("scores", "walker_walk", "drq", 1, "", 10, 7.5), ("scores", "walker_walk", "drq", 1, "", 30, 8.5)]),
        ("history.csv", "_step,_runtime,eval/return\n1,2,\n10,3,4.5\n",
         ("--with", "task=walker_walk", "--with", "agent=drq", "--with", "seed=0"),
         [("scores", "walker_walk", "drq", 0, "", 10, 4.5)]),
        ("sac_seed4.csv", "Wall time,Step,Value\n1.0,10,3.5\n", ("--with", "task=walker_walk"),
         [("scores", "walker_walk", "sac", 4, "", 10, 3.5)]),
        ("run-sac_seed4-tag-eval_return.csv", "Wall time,Step,Value\n1.0,10,3.5\n", ("--with", "task=walker_walk"),
         [("scores", "walker_walk", "sac", 4, "", 10, 3.5)]),
        ("run-sac_seed4-tag-rollout_ep_rew_mean.csv", "Wall time,Step,Value\n1.0,10,3.5\n", ("--with", "task=t"),
         [("scores", "t", "sac", 4, "returns=training", 10, 3.5)]),
        ("scores.jsonl", '{"step": 10, "episode/score": 1.5}\n{"step": 20, "train/loss": 3.0}\n',
         ("--with", "task=walker_walk", "--with", "agent=dreamerv3", "--with", "seed=0"),
         [("scores", "walker_walk", "dreamerv3", 0, "returns=training", 10, 1.5)]),
        ("progress.csv", "time/total_timesteps,rollout/ep_rew_mean,train/loss\n10,,0.5\n20,1.5,\n",
         ("--with", "task=walker_walk", "--with", "agent=sac", "--with", "seed=0"),
         [("scores", "walker_walk", "sac", 0, "returns=training", 20, 1.5)]),
        ("mine.csv", "algo,env,seed,steps,episode_reward\nsac,walker_walk,0,10,1.5\n",
         ("--columns", "agent=algo", "--columns", "task=env", "--columns", "env_steps=steps"),
         [("scores", "walker_walk", "sac", 0, "", 10, 1.5)]),
        ("eval.csv", "episode,episode_length,episode_reward,frame,step,total_time\n9,500,1.5,1000,500,2.5\n", ALL_SAID,
         [("scores", "t", "m", 0, "", 1000, 1.5)]),
        ("seeds.csv", f"{HEADER}m,t,seed_3,10,1.5\n", (), [("scores", "t", "m", 3, "", 10, 1.5)]),
        ("over_frames.csv", '"global_step","drq s1 - _step","drq s1 - _step__MIN","drq s1 - eval/return"\n'
         '"100","1","1",""\n"200","2","2","7.5"\n', ("--with", "task=t"), [("scores", "t", "drq", 1, "", 200, 7.5)]),
        ("two.csv", '"Step","drq s1 - eval/return","drq s1 - train/loss"\n"100","1.5","2.5"\n',
         ("--with", "task=t", "--columns", "return=train/loss"), [("scores", "t", "drq", 1, "", 100, 2.5)]),
        ("tdmpc2/walker_walk.csv", ",step,reward,seed\n0,100,6.5,1\n", (),
         [("scores", "walker_walk", "tdmpc2", 1, "", 100, 6.5)]),
        ("sac_seed4.csv", ",Wall time,Step,Value\n0,1.0,10,3.5\n", ("--with", "task=t"),
         [("scores", "t", "sac", 4, "", 10, 3.5)]),
        ("my_monitor.csv", f"{HEADER}m,t,0,10,1.5\n", (), [("scores", "t", "m", 0, "", 10, 1.5)]),
        ("inf.json", json.dumps(MARL_EVAL).replace("[5.0, 5.0]", "[Infinity, 5.0]"), (),
         [("dmc6", "walker_walk", "sac", 3, "", 10, 2.0), ("dmc6", "walker_walk", "sac", 3, "", 20, math.inf)]),
        ("mine.jsonl", '{"agent": "sac", "task": "walker_walk", "seed": 0, "global_step": 10, "score": 1.5}\n', (),
         [("scores", "walker_walk", "sac", 0, "", 10, 1.5)]),
    ],
)  # fmt: skip
def test_every_format_is_known_by_its_file(
    cli: Callable[..., Any], tmp_path: Path, name: str, content: str | bytes, options: tuple[str, ...], expected: Any
) -> None:
    assert imported(cli, tmp_path, write(tmp_path, name, content), *options) == expected


def test_a_seed_that_may_be_part_of_a_name_is_told(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Two models were averaged as two seeds, without a word."""
    chart = '"Step","vit-s16 - eval/return","vit-s32 - eval/return"\n10,1.0,9.0\n'
    result = cli("import", write(tmp_path, "chart.csv", chart), "--with", "task=t", "-o", tmp_path / "scores.csv")
    assert "rename the run to `vit-s16_seed0`" in result.err
    told = chart.replace(" - ", "_seed0 - ")
    result = cli("import", write(tmp_path, "chart.csv", told), "--with", "task=t", "-o", tmp_path / "scores.csv")
    assert "rename" not in result.err
    frame, _ = read_scores(tmp_path / "scores.csv")
    assert sorted(frame["agent"].astype(str).unique()) == ["vit-s16", "vit-s32"]


@pytest.mark.parametrize("name", ["scores.tsv", "scores.csv.gz", "scores.parquet"])
def test_what_no_reader_takes_is_to_be_saved_as_csv(cli: Callable[..., Any], tmp_path: Path, name: str) -> None:
    """`table` sent to `import`, which knew no more."""
    file = write(tmp_path, name, "agent\ttask\n")
    assert "save it as one of them" in cli("table", "--scores", file).err
    assert "save it as CSV" in cli("import", file, "-o", tmp_path / "o.csv").err


def test_an_event_file_is_read(cli: Callable[..., Any], tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path / "drq_seed2"))
    writer.add_scalar("eval/return", 2.5, 10)
    writer.close()
    found = imported(cli, tmp_path, tmp_path / "drq_seed2", "--with", "task=walker_walk")
    assert found == [("scores", "walker_walk", "drq", 2, "", 10, 2.5)]


def test_environments_that_end_at_one_step_count_with_their_mean(cli: Callable[..., Any], tmp_path: Path) -> None:
    """As CleanRL logs them; such files could not be imported at all."""
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path / "ppo_seed2"))
    for value in (1.0, 2.0, 6.0):
        writer.add_scalar("charts/episodic_return", value, 8000)
    writer.close()
    given = ("import", tmp_path / "ppo_seed2", "--with", "task=t", "-o", tmp_path / "scores.csv")
    assert "1 steps have several points, first 8,000: their mean counts" in cli(*given).err
    assert imported(cli, tmp_path, tmp_path / "ppo_seed2", "--with", "task=t")[0][-1] == 3.0


def test_a_run_that_went_on_in_another_event_file_is_one_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "drq_seed2"
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for suffix, first, steps in ((".0", 0.0, (10, 20, 30)), (".1", 100.0, (20, 30, 40))):
        writer = SummaryWriter(folder, purge_step=20 if first else None, filename_suffix=suffix)  # type: ignore[no-untyped-call]
        for step in steps:
            writer.add_scalar("eval/return", first + step, step, walltime=1000 + first + step)  # type: ignore[no-untyped-call]
        writer.close()  # type: ignore[no-untyped-call]
    found = imported(cli, tmp_path, folder, "--with", "task=t")
    assert [(line[5], line[-1]) for line in found] == [(10, 10.0), (20, 120.0), (30, 130.0), (40, 140.0)]


def test_a_monitor_of_an_environment_without_a_name_takes_its_folders(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Stable-Baselines3 writes the text None: two tasks became one."""
    for task in ("walker_walk", "cheetah_run"):
        write(tmp_path, f"logs/sac/{task}_1/0.monitor.csv", MONITOR.replace("walker_walk", "None"))
    assert {line[1] for line in imported(cli, tmp_path, tmp_path / "logs")} == {"walker_walk", "cheetah_run"}


def test_equal_scores_of_two_files_and_action_repeats_are_no_conflict(cli: Callable[..., Any], tmp_path: Path) -> None:
    """DreamerV3 logs its episodes' scores in two files; `table --scores` took all of these."""
    for name in ("a", "b"):
        write(tmp_path, f"both/{name}.csv", f"{HEADER}m,t,0,1000,5\n")
    assert len(imported(cli, tmp_path, tmp_path / "both")) == 1
    text = "agent,task,seed,env_steps,return,action_repeat\nm,t,0,1000,5,2\nm,t,0,1000,7,4\n"
    assert len(imported(cli, tmp_path, write(tmp_path, "repeats.csv", text))) == 2


def test_files_of_one_folder_that_become_one_run_are_told(cli: Callable[..., Any], tmp_path: Path) -> None:
    """DrQ-v2's train.csv joined its eval.csv without a word, and a training return was the last score."""
    for name, line in (("eval", "20000,700"), ("train", "20930,310")):
        (tmp_path / f"{name}.csv").write_text(f"frame,episode_reward\n{line}\n")
    given = ("--with", "agent=drqv2", "--with", "task=t", "--with", "seed=0")
    both = cli("import", tmp_path, *given, "-o", tmp_path / "scores.csv")
    assert "one run out of 2 places" in both.err and "if one has returns of training, leave it out" in both.err
    assert "out of" not in cli("import", tmp_path / "eval.csv", *given, "-o", tmp_path / "one.csv").err


def test_training_returns_of_event_files_are_no_evaluations(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Both went into one mean; runs in `sac_s1/logs`, `sac_s2/logs` were one run called `logs`."""
    make = pytest.importorskip("tensorboard.summary").Writer
    for seed in (1, 2):
        writer = make(str(tmp_path / "runs" / f"sac_s{seed}" / "logs"))
        writer.add_scalar("rollout/ep_rew_mean", 30.0, 10 + seed)
        if seed == 1:
            writer.add_scalar("eval/mean_reward", 500.0, 10)
        writer.close()
    result = cli("import", tmp_path / "runs", "--with", "task=t", "-o", tmp_path / "scores.csv")
    assert "taken as return is 'eval/mean_reward', and not rollout/ep_rew_mean; --columns return=TAG" in result.err
    frame, _ = read_scores(tmp_path / "scores.csv")
    found = frame[frame["kind"] == "eval"][["agent", "seed", "labels", "value"]].astype(str).to_numpy().tolist()
    assert found == [["sac", "1", "", "500.0"], ["sac", "2", "returns=training", "30.0"]]
    one = cli("import", tmp_path / "runs", "--with", "task=t", "--with", "seed=0", "--columns",
              "return=rollout/ep_rew_mean", "-o", tmp_path / "scores.csv")  # fmt: skip
    assert "agent sac, seed 0" in one.err and "one run out of 2 places" in one.err


def test_an_event_file_names_the_extra_that_reads_it(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    result = cli("import", write(tmp_path, "events.out.tfevents.1", ""))
    assert result.code == 2
    assert "pip install 'covr-bench[tensorboard]'" in " ".join(result.err.split())


def test_a_folder_of_runs_goes_through_the_verbs(cli: Callable[..., Any], tmp_path: Path) -> None:
    for run in (1, 2, 3):
        write(tmp_path, f"logs/drq/walker_walk_{run}/0.monitor.csv", MONITOR)
    imported(cli, tmp_path, tmp_path / "logs")
    scores = final_scores(read_scores(tmp_path / "scores.csv")[0])
    assert scores[["seed", "score"]].to_numpy().tolist() == [[0, 2.5], [1, 2.5], [2, 2.5]]
    assert "2.500 ± 0.000" in cli("table", "--scores", tmp_path / "scores.csv", "--format", "md").out


def test_episodes_of_several_environments_count_together(cli: Callable[..., Any], tmp_path: Path) -> None:
    """As stable_baselines3.common.monitor.load_results counts them: by the order of their ends."""
    for number, episodes in enumerate(("1.0,20,0.5\n2.0,30,2.5\n", "3.0,25,1.0\n")):
        text = f'#{{"t_start": {100 + number}.0, "env_id": "walker_walk"}}\nr,l,t\n{episodes}'
        write(tmp_path, f"logs/ppo/walker_walk_1/{number}.monitor.csv", text)
    found = imported(cli, tmp_path, tmp_path / "logs")
    assert [line[5:] for line in found] == [(20, 1.0), (45, 3.0), (75, 2.0)]


@pytest.mark.parametrize("given", [("0",), ("1",), ("1", "0")])
def test_any_file_of_a_run_stands_for_the_run(cli: Callable[..., Any], tmp_path: Path, given: tuple[str, ...]) -> None:
    for number in range(2):
        write(tmp_path, f"logs/ppo/walker_walk_1/{number}.monitor.csv", MONITOR.replace("1.5", f"{number}.5"))
    files = [tmp_path / f"logs/ppo/walker_walk_1/{number}.monitor.csv" for number in given]
    assert [line[-1] for line in imported(cli, tmp_path, *files)] == [0.5, 1.5, 2.5, 2.5]


def test_environments_of_two_tasks_are_not_one_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    for number, task in enumerate(("walker_walk", "walker_run")):
        write(tmp_path, f"ppo/a_1/{number}.monitor.csv", MONITOR.replace("walker_walk", task))
    refused = cli("import", tmp_path / "ppo", "-o", tmp_path / "scores.csv")
    assert (refused.code, "are of several tasks, walker_run, walker_walk" in refused.err) == (2, True)


def test_one_number_written_in_two_ways_is_no_conflict(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", f"{HEADER}m,t,0,1000,12.5\nm,t,00,1e3,12.50\nm,t,0,2000,nan\nm,t,0,2000,NaN\n")
    assert len(imported(cli, tmp_path, file)) == 2


def test_a_tag_that_is_not_there_is_not_replaced(cli: Callable[..., Any], tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path / "drq_seed2"))
    writer.add_scalar("eval/return", 2.5, 10)
    writer.close()
    arguments = ("--with", "task=t", "--columns", "return=eval/retrun", "-o", tmp_path / "scores.csv")
    refused = cli("import", tmp_path / "drq_seed2", *arguments)
    assert (refused.code, "which scalar is the return?" in refused.err) == (2, True)


def test_a_link_to_nowhere_is_not_passed_over(cli: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path, "in/a.csv", f"{HEADER}m,t,0,10,1\n")
    (tmp_path / "in" / "b.csv").symlink_to("b.csv")
    refused = cli("import", tmp_path / "in", "-o", tmp_path / "scores.csv")
    assert (refused.code, "b.csv is no file, such as a link to nowhere" in refused.err) == (2, True)


def test_an_empty_return_is_one_that_diverged(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "agent,task,seed,env_steps,return\nm,t,0,10,1.0\nm,t,0,20,\n")
    assert [math.isnan(line[-1]) for line in imported(cli, tmp_path, file)] == [False, True]


def test_a_name_that_nearly_fits_is_asked_about(cli: Callable[..., Any], tmp_path: Path) -> None:
    lines = "DrQ-v2,walker-walk,0,10,1\nDrQ-v2,Walker Run,0,10,1\nmine,own,0,10,1\n"
    file = write(tmp_path, "a.csv", HEADER + lines)
    refused = cli("import", file, "-o", tmp_path / "scores.csv")
    assert refused.code == 2
    assert "task 'walker-walk': is it 'walker_walk'? --rename walker-walk=walker_walk" in refused.err
    assert "agent 'DrQ-v2': is it 'drqv2'?" in refused.err
    assert "--rename 'Walker Run=walker_run'" in refused.err  # to be given to a shell
    assert "own" not in refused.err
    assert not (tmp_path / "scores.csv").exists()
    renamed = ("walker-walk=walker_walk", "Walker Run=walker_run", "DrQ-v2=drqv2")
    found = imported(cli, tmp_path, file, *(text for each in renamed for text in ("--rename", each)))
    assert [line[1:3] for line in found] == [("walker_walk", "drqv2"), ("walker_run", "drqv2"), ("own", "mine")]
    kept = imported(cli, tmp_path, file, "--keep-names")
    assert [line[1] for line in kept] == ["walker-walk", "Walker Run", "own"]


def test_all_conflicts_are_counted_at_once(cli: Callable[..., Any], tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        text = "agent,task,seed,env_steps,return\n" + "".join(f"m,t,0,{step},{value}\n" for step in range(30))
        write(tmp_path, f"in/{name}.csv", text)
    refused = cli("import", tmp_path / "in", "-o", tmp_path / "scores.csv")
    assert refused.code == 2
    assert "30 scores are of the same agent, task, seed and step" in refused.err
    assert "b.csv, first m on t, seed 0 at 0: 1.0 and 2.0\n" in refused.err
    assert "a.csv and " in refused.err and "b.csv" in refused.err


def test_one_conflict_is_counted_in_the_singular(cli: Callable[..., Any], tmp_path: Path) -> None:
    files = [write(tmp_path, f"{value}.csv", f"{HEADER}m,t,0,10,{value}\n") for value in (1, 2)]
    refused = cli("import", *files, "-o", tmp_path / "scores.csv")
    assert "1 score is of the same agent, task, seed and step, with different returns" in refused.err


@pytest.mark.parametrize(
    ("name", "content", "options", "complaint"),
    [
        ("a.txt", "x", (), "its name does not tell its format. If it is one of csv"),
        ("a.json", "{", (), "is not JSON"),
        ("a.json", '{"a": 1}', (), "not of the format marl-eval"),
        ("0.monitor.csv", "#{}\nr,l,t\n1,2,3\n", (), "does not say the agent: give --with agent=VALUE"),
        ("a.csv", "agent,task,seed,env_steps,return\n", (), "no scores in"),
        (
            "a.csv",
            "agent,task,seed,env_steps,score_x\nm,t,0,1,2\n",
            (),
            "which column is the return? --columns return=",
        ),
        ("evaluations.npz", EVALUATIONS, (), "does not say the agent: give --with agent=VALUE"),
        ("evaluations.npz", EVALUATIONS[:100], ALL_SAID, "evaluations.npz is damaged"),
        ("evaluations.npz", b"", ALL_SAID, "evaluations.npz is damaged"),
        ("evaluations.npz", PICKLED, ALL_SAID, "not of the format sb3, which is arrays timesteps (n,) and results"),
        ("evaluations.npz", npz(timesteps=np.array([1])), ALL_SAID, "not of the format sb3"),
        ("a.csv", "x", ("--from", "cvs"), "Did you mean 'csv'"),
        ("a.csv", "x", ("--with", "task"), "--with takes NAME=VALUE"),
        ("a.csv", "x", ("--columns", "retrun=r"), "Did you mean 'return'"),
        ("a.csv", f"{HEADER}m,t,0,1,2\n", ("--columns", "return=rewrd"), "no column 'rewrd'; there are agent, task"),
        ("a.jsonl", LINE, ("--columns", "return=rewrd"), "no column 'rewrd'; there are agent, task"),
        ("a.csv", WANDB, ("--columns", "return=loss"), "no metric 'loss'; there are eval/return"),
        ("a.csv", f"{HEADER}m,t,0,1,2\n", ("--rename", "n=m"), "unknown name to --rename 'n'. Valid: m, t."),
        ("a.csv", f"{HEADER}m,t,0,1,2\n", ("--with", "seed=1", "--with", "seed=2"), "--with states seed twice"),
        ("a.csv", "agent,task,seed,env_steps,return,return\nm,t,0,1,2,3\n", (), "has two columns 'return'"),
        ("a.csv", f"{HEADER}m,t,0,1\n", (), "a.csv:2: not as many values as the header has columns, which is 5"),
        ("a.csv", f"{HEADER}m,t,0,1,2,3\n", (), "a.csv:2: not as many values"),
        ("a.csv", f"{HEADER}m,t,0,1,2\n".replace(",", ";"), (), "columns are separated by ';'"),
        ("a.csv", f"{HEADER}m,t,0,1,5%\n", (), "a.csv:2: return is '5%'; a number or nan"),
        ("a.csv", WANDB.replace('"Step"', '"Relative Time (Wall)"'), (), "is over 'Relative Time (Wall)': export it"),
        ("a.csv", WANDB.replace('"10"', '"0.5"'), ("--with", "task=t"), "a.csv:2: env_steps is '0.5'; a whole"),
        ("a.csv", WANDB.replace('"10"', '"Infinity"'), ("--with", "task=t"), "a.csv:2: env_steps is 'Infinity'"),
        ("a.csv", '"Step","m s1 - r","m s1 - r"\n"1","2","3"\n', ("--with", "task=t"), "has two columns 'm s1 - r'"),
        ("a.jsonl", LINE.replace("1.5}", '1.5, "return": 2}'), (), "a.jsonl:1: an object has two entries 'return'"),
        ("a.jsonl", LINE.replace("1.5", "true"), (), "a.jsonl:1: return is True; a number"),
        ("a.jsonl", "[" * 100_000, (), "a.jsonl:1 is not JSON"),
        ("a.jsonl", "[1]", (), "not of the format jsonl, which is an object on each line"),
        ("0.monitor.csv", "", ALL_SAID, "no scores in"),
        ("0.monitor.csv", "#{x\nr,l,t\n", ALL_SAID, "monitor.csv:1 is not JSON"),
        ("0.monitor.csv", MONITOR, ("--columns", "return=rewrd", *ALL_SAID), "no column 'rewrd'; there are r, l, t"),
        ("0.monitor.csv", MONITOR, ("--columns", "env_steps=l", *ALL_SAID), "fixes where env_steps stands"),
        ("a.json", json.dumps(DREAMER), ("--columns", "return=ys"), "fixes where return stands"),
        ("a.csv", f"{HEADER}m,t,0,1,2\n".encode("utf-16"), (), "a.csv is not a table in UTF-8 text, save it as UTF-8"),
        ("a.csv", '"Step","m s1 - r","m s1 - q"\n"1","2","3"\n', ("--with", "task=t"), "which metric is the return? -"),
        ("0.monitor.csv", MONITOR + "3.5,2", ALL_SAID, "monitor.csv:5: not as many values"),
        ("0.monitor.csv", MONITOR.replace(",50,", ",-50,"), ALL_SAID, "monitor.csv:4: length l is '-50'"),
        (
            "a.json",
            json.dumps(MARL_EVAL).replace("[1.0, 3.0]", "[]"),
            (),
            "not of the format marl-eval, which is {envi",
        ),
        ("a.json", json.dumps(MARL_EVAL).replace("1.0", "1" * 400), (), "not of the format marl-eval"),
        (
            "a.json",
            json.dumps(MARL_EVAL).replace("return", "win_rate"),
            (),
            "--columns return=NAME; there are step_count",
        ),
        ("a.json", json.dumps(MARL_EVAL).replace("seed_3", "seed_-3"), (), "seed is 'seed_-3'"),
        ("a.json", json.dumps(MARL_EVAL).replace("seed_3", "seed 3.5"), (), "seed is 'seed 3.5'"),
        ("a.json", '{"e": {"t": {"a": {"0": {}, "0": {}}}}}', (), "two entries '0'"),
        ("a.json", json.dumps(DREAMER).replace("10000.0", "1e999"), ("--keep-names",), "env_steps is inf"),
        ("a.json.gz", b"\x1f\x8b\x08" + b"\0" * 7 + b"garbage!", (), "a.json.gz is damaged"),
    ],
)
def test_what_cannot_be_imported_says_what_to_give(
    cli: Callable[..., Any], tmp_path: Path, name: str, content: str | bytes, options: tuple[str, ...], complaint: str
) -> None:
    kept = write(tmp_path, "scores.csv", "what was imported before")
    result = cli("import", write(tmp_path, name, content), *options, "-o", kept)
    assert result.code == 2
    assert complaint in result.err
    assert kept.read_text() == "what was imported before"


@pytest.mark.parametrize("name", ["scores.jsonl", "scores", "."])
def test_a_file_that_no_verb_would_read_is_not_written(cli: Callable[..., Any], tmp_path: Path, name: str) -> None:
    result = cli("import", write(tmp_path, "a.csv", f"{HEADER}m,t,0,1,2\n"), "-o", tmp_path / name)
    assert result.code == 2
    assert "-o takes a file that ends in .csv" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINE + LINE.replace("10", "20").replace("1.5", "null")),
        ("a.json", json.dumps(DREAMER).replace("20.0]", "null]")),
        ("a.json", json.dumps(MARL_EVAL).replace("[5.0, 5.0]", "[5.0, null]")),
        ("agent/task.csv", "step,reward,seed\n10,1.5,0\n20,,0\n"),
    ],
)
def test_no_number_in_a_list_of_scores_is_a_run_that_diverged(
    cli: Callable[..., Any], tmp_path: Path, name: str, content: str
) -> None:
    found = imported(cli, tmp_path, write(tmp_path, name, content), "--keep-names")
    assert [math.isnan(line[-1]) for line in found] == [False, True]


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_of_windows_are_read(
    cli: Callable[..., Any], tmp_path: Path, start: str, end: str
) -> None:
    for name, content in (
        ("drq/walker_walk_1/0.monitor.csv", MONITOR), ("a.json", json.dumps(MARL_EVAL)), ("a.csv", WANDB),
        ("a.jsonl", LINE.replace("}", ', "note": "one\u2028two"}')),
    ):  # fmt: skip
        file = write(tmp_path, name, start + content.replace("\n", end))
        assert imported(cli, tmp_path, file, "--with", "task=walker_walk")


def test_names_and_seeds_come_back_as_they_were(cli: Callable[..., Any], tmp_path: Path) -> None:
    names = ("-sac", "=1+1", "@x", "'=y", "'z'")
    runs = [(name, 2**53 + seed) for name in names for seed in range(2)]
    lines = ({"agent": name, "task": "t", "seed": seed, "env_steps": 1, "return": -2} for name, seed in runs)
    file = write(tmp_path, "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    found = imported(cli, tmp_path, file, "--keep-names")
    assert [line[2:4] for line in found] == runs


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_an_event_file_that_cannot_be_read_to_its_end_says_how_far_it_was(
    cli: Callable[..., Any], tmp_path: Path, damage: str
) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path / "drq_seed2"))
    for step in range(10):
        writer.add_scalar("eval/return", 2.5, step)
    writer.close()
    (file,) = (tmp_path / "drq_seed2").iterdir()
    whole = cli("import", file, "--with", "task=walker_walk", "-o", tmp_path / "scores.csv")
    assert "cut" not in whole.err
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    file.write_bytes(data if damage == "flipped" else data[: len(data) // 2 + 3])
    told = cli("import", file, "--with", "task=walker_walk", "-o", tmp_path / "scores.csv")
    assert told.code == 0
    assert re.search(
        rf"note: {file} is cut or damaged.*: [56] events are read, \d+ of its {len(file.read_bytes())}", told.err
    )
    assert 3 <= len((tmp_path / "scores.csv").read_text().splitlines()) - 1 <= 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Agent,TASK, Seed ,Env Steps,Return\nm,t,0,100,2.5\n"),
        ("a.jsonl", '{"Agent": "m", "TASK": "t", "seed": 0, "env-steps": 100, "Return": 2.5}\n'),
    ],
)
def test_columns_in_another_spelling_are_taken_with_a_note(
    cli: Callable[..., Any], tmp_path: Path, name: str, content: str
) -> None:
    file = write(tmp_path, name, content)
    assert imported(cli, tmp_path, file) == [("scores", "t", "m", 0, "", 100, 2.5)]
    for verb in (("import", file, "-o", tmp_path / "scores.csv"), ("table", "--scores", file)):
        told = cli(*verb)
        assert told.code == 0, told.err
        assert f"{file}: columns are taken in another spelling: 'Agent' is agent, 'TASK' is task" in told.err


def test_of_two_spellings_none_is_taken(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "Agent,AGENT,task,seed,env_steps,return\nm,n,t,0,100,2.5\n")
    told = cli("import", file)
    assert told.code == 2 and "which column is the agent?" in told.err and "there are Agent, AGENT, task" in told.err


def test_missing_columns_are_asked_for_at_once_with_the_options_to_give(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    file = write(tmp_path, "a.csv", "Algo,Env Name,seed,frames,Episode Reward\nm,t,0,100,2.5\n")
    told = cli("import", file)
    options = ("--columns", "agent=Algo", "--columns", "task=Env Name", "--columns", "return=Episode Reward")
    assert told.code == 2 and shlex.join(options) in told.err
    assert "there are Algo, Env Name, seed, frames, Episode Reward" in told.err
    assert imported(cli, tmp_path, file, *options) == [("scores", "t", "m", 0, "", 100, 2.5)]


def test_the_mean_of_episodes_near_the_largest_number_is_a_number(cli: Callable[..., Any], tmp_path: Path) -> None:
    steps = {"step_1": {"step_count": 100, "return": [1e308, 1.5e308]}}
    file = write(tmp_path, "a.json", json.dumps({"s": {"t": {"m": {"seed_0": steps}}}}))
    assert imported(cli, tmp_path, file) == [("s", "t", "m", 0, "", 100, 1.25e308)]


def noted(cli: Callable[..., Any], tmp_path: Path, text: str, *more: str) -> tuple[list[list[Any]], str]:
    """Steps and returns of a file's scores, and what was said of it."""
    file = write(tmp_path, "given.csv", text)
    result = cli("import", file, *more, "-o", tmp_path / "scores.csv")
    assert result.code == 0, result.err
    lines = list(csv.DictReader((tmp_path / "scores.csv").open()))
    return [[int(line["env_steps"]), float(line["return"])] for line in lines], result.err


RUN = ("--with", "agent=a", "--with", "task=t", "--with", "seed=0")


def test_the_steps_of_a_chart_are_said_to_be_those_of_the_log(cli: Callable[..., Any], tmp_path: Path) -> None:
    chart = '"Step","drq_seed1 - eval/return"\n0,1\n57,2\n'
    _, said = noted(cli, tmp_path, chart, "--with", "task=t")
    assert "taken as env_steps is 'Step'; --columns env_steps=NAME takes another" in said


def test_one_column_is_the_return_of_all_lines(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Training returns between the evaluations are not scores, though each of them has a usual name."""
    text = "_step,global_step,eval/return,rollout/ep_rew_mean\n1,10,,3\n2,20,5,4\n3,30,,6\n4,40,8,7\n"
    scores, said = noted(cli, tmp_path, text, *RUN)
    assert scores == [[20, 5.0], [40, 8.0]]
    assert "taken as return is 'eval/return', and not rollout/ep_rew_mean; --columns return=NAME" in said
    assert "taken as env_steps is 'global_step', and not _step" in said
    scores, _ = noted(cli, tmp_path, text, *RUN, "--columns", "return=rollout/ep_rew_mean")
    assert [value for _, value in scores] == [3, 4, 6, 7]


def test_a_diverged_return_has_no_other_column_in_its_place(cli: Callable[..., Any], tmp_path: Path) -> None:
    text = "agent,task,seed,env_steps,return,score\na,t,0,10,500,0.5\na,t,0,20,,0.4\n"
    scores, said = noted(cli, tmp_path, text)
    assert scores[0] == [10, 500.0] and math.isnan(scores[1][1])
    assert "taken as" not in said


def test_an_empty_step_has_no_other_column_in_its_place(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "frame,step,episode_reward\n20,10,1\n,20,2\n")
    refused = cli("import", file, *RUN, "-o", tmp_path / "scores.csv")
    assert (refused.code, "a.csv:3: no env_steps, which other lines have" in refused.err) == (2, True)


def test_a_column_of_steps_that_may_count_something_else_is_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    scores, said = noted(cli, tmp_path, "step,episode_reward\n20,1\n", *RUN)
    assert scores == [[20, 1.0]] and "taken as env_steps is 'step'; --columns env_steps=NAME takes another" in said


def test_a_number_in_an_agents_name_is_not_its_seed(cli: Callable[..., Any], tmp_path: Path) -> None:
    text = "Step,mamba-s4-seed0 - eval/return,mamba-s6-seed1 - eval/return,vit_s2 - eval/return\n10,1,2,3\n"
    file = write(tmp_path, "a.csv", text)
    assert cli("import", file, "--with", "task=t", "-o", tmp_path / "scores.csv").code == 0
    lines = csv.DictReader((tmp_path / "scores.csv").open())
    assert [(line["agent"], line["seed"]) for line in lines] == [("mamba-s4", "0"), ("mamba-s6", "1"), ("vit", "2")]


def test_what_is_imported_is_not_overwritten(cli: Callable[..., Any], tmp_path: Path) -> None:
    text = f"{HEADER}m,t,0,10,1\n"
    file = write(tmp_path, "scores.csv", text)
    refused = cli("import", file, "-o", file)
    assert (refused.code, "scores.csv would be overwritten by its import: give -o FILE" in refused.err) == (2, True)
    assert file.read_text() == text


def test_a_folder_is_imported_again_without_what_the_first_time_wrote(cli: Callable[..., Any], tmp_path: Path) -> None:
    file, output = write(tmp_path, "a.csv", f"{HEADER}m,t,0,10,1\n"), tmp_path / "scores.csv"
    assert cli("import", tmp_path, "-o", output).code == 0
    file.write_text(f"{HEADER}m,t,0,10,2\n")
    again = cli("import", tmp_path, "-o", output)
    assert again.code == 0, again.err
    assert "1 score of 1 run" in again.out


def test_an_empty_line_of_a_spreadsheet_is_passed_over(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", f"{HEADER}m,t,0,10,1\n,,,,\n")
    assert cli("import", file, "-o", tmp_path / "scores.csv").code == 0


def test_environments_that_began_apart_count_by_the_clock(cli: Any, tmp_path: Path) -> None:
    """The second began 10 seconds after the first: its early episode ended last."""
    for number, each in enumerate(("1.0,20,0.5\n2.0,30,2.5\n", "3.0,25,1.0\n")):
        text = f'#{{"t_start": {100 + 10 * number}.0, "env_id": "walker_walk"}}\nr,l,t\n{each}'
        write(tmp_path, f"logs/ppo/walker_walk_1/{number}.monitor.csv", text)
    assert [line[5:] for line in imported(cli, tmp_path, tmp_path / "logs")] == [(20, 1.0), (50, 2.0), (75, 3.0)]
