"""Every command of the docs does what its page says, in a folder that has what the page supposes.

Runs are planned, not made (`--dry-run`): names, settings, agents, budgets and launchers are those of a real run. What
needs the network, a cluster or an hour is left out with its reason; other tests make small ones of the kind.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from test_compare import write_seeds
from test_docs import ROOT, cases

from covr_bench.run.cost.estimate import Cost

if TYPE_CHECKING:
    from collections.abc import Callable

PLANNED = ("run", "reproduce")
LEFT_OUT = {  # a pattern of the command: why it is not given here
    r"s3://|hf:|Qwen/|--track wandb|--to hf": "asks the network",
    r"HOST|10\.0\.0\.7": "asks another machine",
    r"--launcher ray": "needs Ray",
    r"^gate |^probe |^vlm bench": "takes minutes: test_gate_runs and test_probe have its kind",
    r"^carla serve": "serves until it is stopped",
    r"^(eval|record|publish) ": "needs a policy that took an hour",
    r"^cancel --suite|^status --suite": "plans at a size that test_status has",
    r"file:///mnt": "is about a disk of its own",
    r"--per-gpu": "needs a GPU",
    r"--track mlflow": "needs a tracker, which tox -e trackers has",
    r"^doctor|^check-env dmc6|--task cartpole_swingup --frame|--videos": "draws by OpenGL, chosen once a process",
    r"^vlm ask .*cartpole_swingup": "reads the task with OpenGL off, for the whole process",
}
pytestmark = pytest.mark.deep


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages suppose to be there."""
    stored = ROOT / "results" / "reference"
    if not stored.is_dir():
        pytest.skip("the reference results are in the repository only")
    for name in ("results", "results-main", "results-mine", "main", "mine", "A", "B"):
        for task in (
            "dmc6@short/walker_walk", "dmc6@paper/cartpole_swingup", "effect@short", "carla@paper-1000/hw",
            "ablation@short-10000",
        ):  # fmt: skip
            if name == "results" or task.startswith("dmc6@short"):
                shutil.copytree(stored / "runs" / task, tmp_path / name / "runs" / task)
    _write_own_runs(tmp_path)
    (tmp_path / "results" / "reference").mkdir()
    (tmp_path / "results" / "reference" / "runs").symlink_to(stored / "runs")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    ours = (ROOT / "baselines" / "drqv2.py").read_text(encoding="utf-8")
    (tmp_path / "my_agent.py").write_text(ours.replace('name="drqv2"', 'name="my_agent"'), encoding="utf-8")
    (tmp_path / "my_suite.py").write_text((ROOT / "examples" / "gymnasium_suite.py").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "tutorials" / "task.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(# mine\.py\n.*?)```", page, re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    (tmp_path / "my_script.py").write_text("import carla\nclient = carla.Client('localhost', 2000)\n")
    table = [f"dmc6,walker_walk,drq,{seed},{step},{step / 100 + seed}" for seed in range(3) for step in (0, 60_000)]
    scores = "\n".join(["suite,task,agent,seed,env_steps,return", *table, ""])
    (tmp_path / "my_scores.csv").write_text(scores)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "scores.csv").write_text(scores)
    Image.fromarray(np.zeros((84, 84, 3), np.uint8)).save(tmp_path / "frame.png")
    cost = Cost(env_s=1e-3, act_s=1e-3, update_s=1e-2, frame_bytes=1e3, agent_bytes=1e6)  # else it would be measured
    monkeypatch.setattr("covr_bench.run.cost.estimate.costs", lambda configs, *_: [cost for _ in configs])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_own_runs(folder: Path) -> None:
    """Runs of a store of one's own, of agents and commits that pages name, and scores that others have of them."""
    for cell in ("catch@short/catch/drqv2", "catch@short/catch/my_agent", "catch@paper/catch/drq"):
        write_seeds(folder / "results", cell, [20.0])
    for seed, commit in enumerate(("5759ad9", "c57626e")):
        write_seeds(folder / "results", "catch@paper/catch/mine", [30.0], seed, commits=(commit.ljust(40, "0"),))
    header = "suite,budget,task,action_repeat,agent,seed,env_steps,return"
    (folder / "theirs.csv").write_text(f"{header}\ncatch,paper,catch,2,mine,0,200,9\n")


def unlike() -> dict[str, list[str]]:
    """Words of each command by what it comes to, without what the shell does with its output."""
    found = {}
    for _, line in cases():
        words = shlex.split(line, comments=True)[1:]
        words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", ">>", "&&")), len(words))]
        found[" ".join(words)] = words
    return found


@pytest.mark.parametrize(("given", "words"), unlike().items())
def test_a_command_of_the_docs_runs(given: str, words: list[str], folder: Path, cli: Callable[..., Any]) -> None:
    for pattern, reason in LEFT_OUT.items():
        if re.search(pattern, given):
            pytest.skip(reason)
    result = cli(*words, *(["--dry-run", "--out", folder / "new"] if words[0] in PLANNED else []))
    assert result.code == 0, result.out + result.err
