"""The gate as a user meets it: an agent in a git repository, a first reference, a mistake, a repair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from learner import AGENT, PLAIN

from covr_bench.gate.measure import Broken, Side, distinct
from covr_bench.run.alone import alone


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
def test_the_tutorial_goes_as_it_says(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, as docs/gate.md has them, without `git init`; each gate ends with the code that is beside it."""
    page = (Path(__file__).parents[1] / "docs" / "gate.md").read_text()
    block = page.split("## Your first gate")[1].split("```")[1].strip().splitlines()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("results/\n")
    expected = {"identical: exit code 0": (0, "identical"), "changed: exit code 3": (3, "batch 0: reward")}
    expected["identical again"] = expected["identical: exit code 0"]
    gates = 0
    for line in block[1:]:
        command, _, outcome = line.partition("  #")
        if command.startswith("covr-bench"):
            found = cli(*command.split()[1:], "--task", "catch_or_end")
            code, word = expected[outcome.strip()]
            assert found.code == code and word in found.out, found.out + found.err
            gates += 1
        else:
            identity = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@y"}
            identity |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in identity.items()}
            subprocess.run(command, shell=True, check=True, env=os.environ | identity)
    assert gates == 3
    assert {path.name for path in (tmp_path / "results" / "gate").iterdir()} >= {
        "gate.md", "gate.html", "junit.xml", "gate.json",
    }  # fmt: skip
    worktrees = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(worktrees.stdout.splitlines()) == 1
    unknown = cli("gate", "--agent", "my_agent.py", "--against", "nowhere")
    assert unknown.code == 2 and "neither `reference`, nor a folder, nor a git revision" in unknown.err


def test_two_gates_do_not_share_a_folder_and_none_deletes_what_is_not_its_own(
    cli: Callable[..., Any], repository: Path
) -> None:
    """The second deleted the first one's runs, and either a folder `new` of the user's in `--out`."""
    kept = repository / "mine" / "new" / "notes"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    (repository / "refs").mkdir()
    with alone(repository / "mine", "gate in", repository / "mine"):
        second = cli("gate", "--against", "refs", "--out", "mine")
    assert second.code == 2 and "another gate in" in second.err
    assert cli("gate", "--against", "refs", "--out", "mine", "--agent", "no_agent").code
    assert kept.read_text() == "kept"


def test_what_no_revision_has_is_not_held_against_itself(cli: Callable[..., Any], repository: Path) -> None:
    """The gate passed: both sides ran the same file."""
    outside = repository.with_name(f"{repository.name}-outside")
    outside.mkdir()
    write(outside)
    found = cli("gate", "--against", "HEAD", "--agent", str(outside / "learner.py"))
    assert found.code == 2 and "is not in the repository" in found.err
    worktrees = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(worktrees.stdout.splitlines()) == 1


@pytest.mark.parametrize("option", ["--at-least", "--margin"])
def test_a_demand_of_a_task_that_is_not_judged_is_refused(
    cli: Callable[..., Any], repository: Path, option: str
) -> None:
    """It was ignored, and the gate passed."""
    found = cli("gate", "--task", "catch", option, "catch_or_end=1e9")
    assert found.code == 2 and f"{option} names catch_or_end, and judged are only catch" in found.err
    assert cli("gate", "--bless", "").code == 2


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


@pytest.mark.deep
def test_runs_of_other_seeds_differ_and_equal_ones_are_broken(tmp_path: Path) -> None:
    write(tmp_path)
    with Side("new", tmp_path, tmp_path / "out", "catch", ("catch_or_end",)) as side:
        found = side.signals(["learner.py"], (0, 1))["learner.py"]
    assert not isinstance(found, Broken)
    twice = pd.concat([found[found["seed"] == 0], found[found["seed"] == 0].assign(seed=1)])
    broken = distinct(twice)
    assert isinstance(broken, Broken) and "seeds 0 and 1 give the same numbers" in broken.reason
