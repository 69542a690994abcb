"""Neighbours: no module of the working directory hides another, and an agent imports those of its own folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_runner import PATIENCE_S

from covr_bench.run import child
from results.store import read_run

AGENT = """
import random
import beside
from baselines.random import Config, Random
from covr_bench import AgentSpec

class Mine(Random):
    def update(self, replay, step):
        import beside_lazily, torch
        return {{"mine": torch.tensor(beside.VALUE + beside_lazily.VALUE + random.random() * 0)}}

AGENT = AgentSpec("{name}", Config, Mine, "control")
"""
OURS = ("suites", "baselines", "covr", "results", "analysis", "covr_bench")
THEIRS = ("random", "types", "json")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A working directory with a file for each module that must not be taken from there, and folders called as ours."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in (*OURS, *THEIRS):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the working directory')")
    for name in ("baselines", "results"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemExit('{name} of the working directory')")
    return folder


def environment(path: str = "") -> dict[str, str]:
    """Where ours is found, as in the tests' own process, and what else PYTHONPATH says."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), path])),
        "COLUMNS": "80",
    }


@pytest.mark.parametrize("path", ["", ".", f"{os.pathsep}."])
def test_a_child_takes_nothing_from_the_working_directory(path: str, trap: Path, tmp_path: Path) -> None:
    """Not even what PYTHONPATH names as `.`; what only the working directory has can be imported then."""
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "probed.py").write_text(
        f"import importlib\nfor name in {(*OURS, *THEIRS)}: print(importlib.import_module(name).__file__)\n"
    )
    (trap / "of_the_user.py").write_text("")
    if path:
        with (probe / "probed.py").open("a") as file:
            file.write("import of_the_user\n")
    env = environment(f"{probe}{os.pathsep}{path}" if path else str(probe))
    done = subprocess.run(child.python_child("probed"), cwd=trap, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) == len(OURS) + len(THEIRS)
    assert not [file for file in files if str(trap) in file]
    assert {str(Path(file).parents[1]) for file in files[: len(OURS)]} == {child.HOME}


def test_the_search_path_keeps_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    library = os.path.dirname(os.__file__)
    run = str(Path(child.__file__).parent)
    assert child.search_path([run, "/a", library, "/b"]) == ["/a", library, child.HOME, "/b"]
    assert child.search_path(["", "/a", ".", str(tmp_path), library]) == ["/a", library, child.HOME, str(tmp_path)]
    assert child.search_path(["/a"]) == [child.HOME, "/a"]


@pytest.mark.deep
def test_a_command_and_its_runs_work_beside_any_files(trap: Path, tmp_path: Path) -> None:
    """Two agents from two folders, each with modules beside it of the same names, run from a third folder."""
    agents = []
    for number, name in enumerate(("one", "two")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(AGENT.format(name=name))
        (folder / "beside.py").write_text(f"VALUE = {10.0 * (number + 1)}")
        (folder / "beside_lazily.py").write_text(f"VALUE = {1.0 * (number + 1)}")
        agents += ["--agent", f"../{name}/{name}.py"]
    script = tmp_path / "covr-bench"  # what pip installs
    script.write_text("from covr_bench.cli.app import main\nmain()\n")
    command = [sys.executable, script, "run", "--suite", "catch", "--task", "catch", "--budget", "smoke"]
    command += [*agents, "--env-steps", "40", "--workers", "2", "--out", "../out"]
    done = subprocess.run(command, cwd=trap, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, value in (("one", 11.0), ("two", 22.0)):
        rows = read_run(tmp_path / "out", f"catch@smoke-40/catch/{name}/0")
        assert set(rows.query("metric == 'mine'")["value"]) == {value}


@pytest.mark.parametrize("module", ["covr_bench", "covr_bench.cli.app"])
def test_python_m_works_there_too(module: str, trap: Path) -> None:
    """As far as Python itself does: what `python -m` imports before ours is its own affair."""
    for name in ("types", "json", "covr_bench"):
        (trap / f"{name}.py").unlink()
    command: list[Any] = [sys.executable, "-m", module, "list", "suites"]
    done = subprocess.run(command, cwd=trap, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "catch" in done.stdout


def test_python_m_of_another_package_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import covr_bench\n")
    (tmp_path / "mine" / "train.py").write_text("import helpers_of_mine\n")
    (tmp_path / "helpers_of_mine.py").write_text("print('found')\n")
    command = [sys.executable, "-m", "mine.train"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout == "found\n", done.stderr


def test_a_program_that_imports_ours_is_told_of_a_module_that_hides_it(trap: Path) -> None:
    """Its search path is its own."""
    (trap / "covr_bench.py").unlink()
    for name in THEIRS:
        (trap / f"{name}.py").unlink()
    done = subprocess.run([sys.executable, "-c", "import covr_bench"], cwd=trap, capture_output=True, text=True)
    assert done.returncode == 1
    assert "should be in" in done.stderr
    assert "rename or remove that" in done.stderr
