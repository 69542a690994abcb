"""The gate as a user meets it: an agent in a git repository, a first reference, a mistake, a repair."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from learner import AGENT, PLAIN

from covr_bench.gate.measure import Broken, Side, distinct


def write(folder: Path, **changes: str) -> None:
    (folder / "learner.py").write_text(AGENT.format(**(PLAIN | changes)))


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.covr-bench.gate]\nagent = ["learner.py"]\ntask = ["catch_or_end"]\n'
    )
    (tmp_path / ".gitignore").write_text("results/\n__pycache__/\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.deep
def test_against_a_revision(cli: Callable[..., Any], repository: Path) -> None:
    same = cli("gate", "--against", "main")
    assert (same.code, "learner on catch_or_end" in same.out or "identical" in same.out) == (0, True), same.err
    write(repository, discount="0.5 * batch.discount")
    changed = cli("gate", "--against", "main")
    assert changed.code == 3, changed.out + changed.err
    assert "target_q" in changed.out and "in main (" not in changed.err
    record = json.loads((repository / "results" / "gate" / "gate.json").read_text())
    assert record["exit_code"] == 3 and record["lines"][0]["question"] == "same mathematics?"
    assert {path.name for path in (repository / "results" / "gate").iterdir()} >= {
        "gate.md", "gate.html", "junit.xml", "gate.json",
    }  # fmt: skip
    worktrees = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True)
    assert len(worktrees.stdout.splitlines()) == 1
    unknown = cli("gate", "--against", "nowhere")
    assert unknown.code == 2 and "neither `reference`, nor a folder, nor a git revision" in unknown.err


@pytest.mark.deep
def test_against_a_folder_of_references(cli: Callable[..., Any], repository: Path) -> None:
    (repository / "refs").mkdir()
    nothing = cli("gate", "--against", "refs")
    assert nothing.code == 4 and "--bless" in nothing.out
    assert cli("gate", "--against", "refs", "--bless", "the first").code == 0
    assert "nothing to bless" in cli("gate", "--against", "refs", "--bless", "again").out
    write(repository, critic="value", draw_first="torch.rand(3)")  # other names, other draws before: as harmless as any
    same = cli("gate", "--against", "refs")
    assert same.code == 0, same.out
    write(repository, discount="batch.discount / 0")
    broken = cli("gate", "--against", "refs")
    assert broken.code == 4, broken.out
    (repository / "learner.py").write_text("import nothing_of_this_name\n")
    gone = cli("gate", "--against", "refs")
    assert gone.code == 4 and "nothing_of_this_name" in gone.out
    write(repository, discount="0.5 * batch.discount")
    assert cli("gate", "--against", "refs", "--bless", "a shorter horizon").code == 0
    facts = json.loads((repository / "refs" / "learner" / "reference.json").read_text())
    assert [entry["reason"] for entry in facts["history"]] == ["the first", "a shorter horizon"]
    assert facts["history"][1]["moved"]


def test_runs_of_other_seeds_differ_and_equal_ones_are_broken(tmp_path: Path) -> None:
    write(tmp_path)
    with Side("new", tmp_path, tmp_path / "out", "catch", ("catch_or_end",)) as side:
        found = side.signals(["learner.py"], (0, 1))["learner.py"]
    assert not isinstance(found, Broken)
    twice = pd.concat([found[found["seed"] == 0], found[found["seed"] == 0].assign(seed=1)])
    broken = distinct(twice)
    assert isinstance(broken, Broken) and "seeds 0 and 1 give the same numbers" in broken.reason
