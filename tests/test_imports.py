"""Others' logs become scores: each format by a file as its program writes it, and what is asked about or refused."""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING, Any

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
        ("scores.jsonl", '{"step": 10, "episode/score": 1.5}\n{"step": 20, "train/loss": 3.0}\n',
         ("--with", "task=walker_walk", "--with", "agent=dreamerv3", "--with", "seed=0"),
         [("scores", "walker_walk", "dreamerv3", 0, "", 10, 1.5)]),
        ("progress.csv", "time/total_timesteps,rollout/ep_rew_mean,train/loss\n10,,0.5\n20,1.5,\n",
         ("--with", "task=walker_walk", "--with", "agent=sac", "--with", "seed=0"),
         [("scores", "walker_walk", "sac", 0, "", 20, 1.5)]),
        ("mine.csv", "algo,env,seed,steps,episode_reward\nsac,walker_walk,0,10,1.5\n",
         ("--columns", "agent=algo", "--columns", "task=env", "--columns", "env_steps=steps"),
         [("scores", "walker_walk", "sac", 0, "", 10, 1.5)]),
        ("mine.jsonl", '{"agent": "sac", "task": "walker_walk", "seed": 0, "global_step": 10, "score": 1.5}\n', (),
         [("scores", "walker_walk", "sac", 0, "", 10, 1.5)]),
    ],
)  # fmt: skip
def test_every_format_is_known_by_its_file(
    cli: Callable[..., Any], tmp_path: Path, name: str, content: str | bytes, options: tuple[str, ...], expected: Any
) -> None:
    assert imported(cli, tmp_path, write(tmp_path, name, content), *options) == expected


def test_an_event_file_is_read(cli: Callable[..., Any], tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path / "drq_seed2"))
    writer.add_scalar("eval/return", 2.5, 10)
    writer.close()
    found = imported(cli, tmp_path, tmp_path / "drq_seed2", "--with", "task=walker_walk")
    assert found == [("scores", "walker_walk", "drq", 2, "", 10, 2.5)]


def test_a_folder_of_runs_goes_through_the_verbs(cli: Callable[..., Any], tmp_path: Path) -> None:
    for run in (1, 2, 3):
        write(tmp_path, f"logs/drq/walker_walk_{run}/0.monitor.csv", MONITOR)
    imported(cli, tmp_path, tmp_path / "logs")
    scores = final_scores(read_scores(tmp_path / "scores.csv")[0])
    assert scores[["seed", "score"]].to_numpy().tolist() == [[0, 2.5], [1, 2.5], [2, 2.5]]
    assert "2.5 ± 0.0" in cli("table", "--scores", tmp_path / "scores.csv", "--format", "md").out


def test_episodes_of_several_environments_count_together(cli: Callable[..., Any], tmp_path: Path) -> None:
    """As stable_baselines3.common.monitor.load_results counts them: by the order of their ends."""
    for number, episodes in enumerate(("1.0,20,0.5\n2.0,30,2.5\n", "3.0,25,1.0\n")):
        text = f'#{{"t_start": {100 + number}.0, "env_id": "walker_walk"}}\nr,l,t\n{episodes}'
        write(tmp_path, f"logs/ppo/walker_walk_1/{number}.monitor.csv", text)
    found = imported(cli, tmp_path, tmp_path / "logs")
    assert [line[5:] for line in found] == [(20, 1.0), (45, 3.0), (75, 2.0)]


def test_an_empty_return_is_one_that_diverged(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "agent,task,seed,env_steps,return\nm,t,0,10,1.0\nm,t,0,20,\n")
    assert [math.isnan(line[-1]) for line in imported(cli, tmp_path, file)] == [False, True]


def test_a_name_that_nearly_fits_is_asked_about(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "agent,task,seed,env_steps,return\nDrQ-v2,walker-walk,0,10,1\nmine,own,0,10,1\n")
    refused = cli("import", file, "-o", tmp_path / "scores.csv")
    assert refused.code == 2
    assert "task 'walker-walk': is it 'walker_walk'? --rename walker-walk=walker_walk" in refused.err
    assert "agent 'DrQ-v2': is it 'drqv2'?" in refused.err
    assert "own" not in refused.err
    assert not (tmp_path / "scores.csv").exists()
    found = imported(cli, tmp_path, file, "--rename", "walker-walk=walker_walk", "--rename", "DrQ-v2=drqv2")
    assert [line[1:3] for line in found] == [("walker_walk", "drqv2"), ("own", "mine")]
    assert [line[1] for line in imported(cli, tmp_path, file, "--keep-names")] == ["walker-walk", "own"]


def test_all_conflicts_are_counted_at_once(cli: Callable[..., Any], tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        text = "agent,task,seed,env_steps,return\n" + "".join(f"m,t,0,{step},{value}\n" for step in range(30))
        write(tmp_path, f"in/{name}.csv", text)
    refused = cli("import", tmp_path / "in", "-o", tmp_path / "scores.csv")
    assert refused.code == 2
    assert "30 scores are of the same agent, task, seed and step" in refused.err
    assert "a.csv and " in refused.err and "b.csv" in refused.err


@pytest.mark.parametrize(
    ("name", "content", "options", "complaint"),
    [
        ("a.txt", "x", (), "unknown format; --from takes csv"),
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
        ("a.csv", "x", ("--from", "cvs"), "Did you mean 'csv'"),
        ("a.csv", "x", ("--with", "task"), "--with takes NAME=VALUE"),
        ("a.csv", "x", ("--columns", "retrun=r"), "Did you mean 'return'"),
    ],
)
def test_what_cannot_be_imported_says_what_to_give(
    cli: Callable[..., Any], tmp_path: Path, name: str, content: str, options: tuple[str, ...], complaint: str
) -> None:
    result = cli("import", write(tmp_path, name, content), *options, "-o", tmp_path / "scores.csv")
    assert result.code == 2
    assert complaint in result.err
