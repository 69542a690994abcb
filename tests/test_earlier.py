"""Rows of earlier versions keep their meaning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covr_bench.cli import reproduce
from covr_bench.config import registry
from covr_bench.config.settings import resolve
from results import provenance
from results.earlier import SUITES, budget
from results.layout import PROVENANCE_FILE, RunId
from results.store import RunWriter, read, run_folder

REFERENCE = Path(__file__).parents[1] / "results/reference"
RAD = {"agent": "rad", "agent_config": {"batch_size": 128}, "overrides": {}}


@pytest.mark.parametrize(
    ("run", "changes", "expected"),
    [
        ("dmc6@paper/walker_walk/rad/0", {}, "scripts"),
        ("dmc6-ar2@paper-20000/walker_walk/rad/0", {}, "scripts-20000"),
        ("dmc6@paper/walker_walk/rad-lr=1e-4/0", {"overrides": {"lr": "1e-4"}}, "scripts"),
        ("dmc6@paper/walker_walk/rad/0", {"agent_config": {"batch_size": 512}}, "paper"),
        ("dmc6@paper/walker_walk/rad-batch_size=128/0", {"overrides": {"rad.batch_size": "128"}}, "paper"),
        ("dmc6@paper/walker_walk/sac/0", {"agent": "sac"}, "paper"),
        ("dmc6@paperback/walker_walk/rad/0", {}, "paperback"),
        ("catch@paper/catch/rad/0", {}, "paper"),
        ("dmc6@short/walker_walk/rad/0", {}, "short"),
        (
            "dmc6@paper/walker_walk/covr/0",
            {"agent": "covr", "agent_config": {"base": "rad", "base_settings": {"batch_size": 128}}},
            "scripts",
        ),
        (
            "dmc6@paper/walker_walk/covr-base=drqv2/0",
            {"agent": "covr", "agent_config": {"base": "drqv2", "base_settings": {"batch_size": 128}}},
            "paper",
        ),
    ],
)
def test_a_run_with_the_scripts_batch_is_one_of_scripts(run: str, changes: dict[str, Any], expected: str) -> None:
    assert budget(run, RAD | changes) == expected


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"config": {}}', '{"config": {"agent_config": 1}}'])
def test_a_damaged_record_leaves_the_name(tmp_path: Path, damage: str) -> None:
    run = RunId.parse("dmc6@paper/walker_walk/rad/0")
    with RunWriter(tmp_path, str(run), action_repeat=2) as writer:
        writer.write("eval", 0, 0, {"return": [1.0]})
    if damage:
        (run_folder(tmp_path, run) / PROVENANCE_FILE).write_text(damage)
    assert set(read(tmp_path)["budget"]) == {"paper"}


def test_the_reference_runs() -> None:
    rows = read(REFERENCE).drop_duplicates("run_id")
    budgets = rows.groupby(rows["budget"].astype(str))["agent"].apply(lambda agents: set(agents.astype(str)))
    assert budgets["scripts"] == {"covr", "curl", "rad"}
    assert not budgets["paper"] & {"curl", "rad"}


def test_their_command_asks_for_the_budget_they_had() -> None:
    record = json.loads(next(REFERENCE.glob("runs/dmc6@paper/*/curl*/0/provenance.json")).read_text())
    (command,) = reproduce.commands({record["run_id"]: record})
    assert "--budget scripts " in command.text


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("agent", ["rad", "curl", "drq", "covr"])
def test_scripts_is_what_paper_was(suite: str, agent: str) -> None:
    """And `paper` differs in the batch alone."""
    spec, chosen = registry.agent(agent), registry.suite(suite)
    task = chosen.tasks[0]
    scripts, paper = (resolve(spec, task, chosen.budgets[name], {}).agent for name in ("scripts", "paper"))
    if agent == "covr":
        scripts, paper = scripts["base_settings"], paper["base_settings"]
    assert {key: (scripts[key], paper[key]) for key in scripts if scripts[key] != paper[key]} == {
        "batch_size": (128, 512)
    }


def test_a_table_says_what_its_budget_is(cli: Callable[..., Any]) -> None:
    shown = cli("table", "--out", REFERENCE, "--suite", "dmc6", "--format", "md").out
    assert "Budget paper: The published protocol: batches of 512 for rad, curl and drq" in shown
    assert "Budget scripts: As paper, with the batches of the official scripts" in shown


def test_statuses_name_runs_as_they_lie_on_disk() -> None:
    assert any(run_id.startswith("dmc6@paper/cartpole_swingup/rad") for run_id in provenance.statuses(REFERENCE))
