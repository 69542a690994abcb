"""Which code made a run is named by `compare`, `show` and the report, from records with and without it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from results import provenance
from results.code_identity import agent_code, code_changes, own_code, project_code
from results.layout import PROVENANCE_FILE, run_folder
from results.store import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMIT, CONTENT = "0123" + "a" * 36, "c0ffee" + "9" * 58
AGENT, CHANGED, SUITE = "1f2e3d4c5b6a" + "0" * 52, "aa11bb22cc33" + "0" * 52, "5e5e5e5e5e5e" + "0" * 52
CELL = "dmc6@paper/walker_walk/sac"
LIGHT = ("--reps", 50)


def record_of(code: dict[str, str] | None, *, commit: str | None = COMMIT, changes: bool = False) -> dict[str, Any]:
    """What a run with this code has in its provenance; None: one made before code was recorded."""
    config = {"suite": "dmc6", "agent": "sac", "agent_config": {"lr": 0.1}, "env": {}}
    session = {"started": "2026-01-01T00:00:00", "ended": None, "wall_s": 1.0, "git_sha": commit, "command": "cmd"}
    before, after = {"agent": AGENT, "suite": ""}, {"agent": CHANGED, "suite": ""}
    accepted = {"code": after, "accepted_changed_code": {"from": before, "to": after}} if changes else {}
    return {
        "schema": 1,
        "status": "finished",
        "config": config | ({"code": code} if code else {}),
        "sessions": [session, session | accepted],
        "seeds": {"run": 0},
        "wall_s": 2.0,
        "environment": {
            "version": "0.1.0", "git_sha": commit, "git_dirty": False, "python": "3.11", "packages": {}, "cpu": "x",
            "cpu_cores": 1, "ram_bytes": 1, "gpus": [], "platform": "p", "content_sha256": None if commit else CONTENT,
        },
    }  # fmt: skip


def write_run(out: Path, seed: int, score: float, record: dict[str, Any]) -> None:
    with RunWriter(out, f"{CELL}/{seed}", action_repeat=2) as writer:
        writer.write("eval", 100, 50, {"return": [score]})
        writer.end()
    provenance.write(run_folder(out, f"{CELL}/{seed}") / PROVENANCE_FILE, record)


def test_a_record_names_its_code() -> None:
    record = record_of({"agent": AGENT, "suite": SUITE}, changes=True)
    assert project_code(record["environment"]) == f"covr-bench 0.1.0, commit {COMMIT}"
    assert project_code(record["environment"] | {"git_dirty": True}).endswith(" with uncommitted changes")
    assert code_changes(record) == ["agent 1f2e3d4c5b6a to agent aa11bb22cc33"]
    assert own_code(record) == "agent aa11bb22cc33"  # the last session's
    assert own_code(record_of({"agent": AGENT, "suite": SUITE})) == "agent 1f2e3d4c5b6a, suite 5e5e5e5e5e5e"


def test_the_content_of_a_package_stands_in_for_a_commit() -> None:
    assert project_code(record_of(None, commit=None)["environment"]) == "covr-bench 0.1.0, content c0ffee999999"
    assert project_code({"version": "0.1.0", "git_sha": None}) == "covr-bench 0.1.0, commit unknown"


@pytest.mark.parametrize("record", [{}, {"config": {}}, {"config": None, "sessions": None}, {"config": {"code": None}}])
def test_records_without_code_are_read(record: dict[str, Any]) -> None:
    assert (agent_code(record), own_code(record), code_changes(record)) == ("", "not recorded", [])
    assert project_code({}) == "covr-bench of unknown version, commit unknown"


def test_compare_names_the_code_of_both_sides(cli: Callable[..., Any], tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_run(old, 0, 1.0, record_of({"agent": AGENT, "suite": ""}))
    write_run(old, 1, 2.0, record_of(None))
    write_run(new, 0, 3.0, record_of({"agent": AGENT, "suite": ""}, commit=None, changes=True))
    compared = json.loads(cli("compare", old, new, "--format", "json", *LIGHT).out)
    assert compared["a"] == f"{old} (commit 0123aaa; agent code sac 1f2e3d4c5b6a, not recorded for 1 of 2 runs)"
    assert compared["b"] == f"{new} (covr-bench 0.1.0, content c0ffee999999; agent code sac aa11bb22cc33)"
    assert "sac on walker_walk: code differs: agent 1f2e3d4c5b6a in A, aa11bb22cc33 in B" in compared["notes"]
    assert (
        "B: sac on walker_walk: seed 0 went on with changed code, agent 1f2e3d4c5b6a to agent aa11bb22cc33"
        in compared["notes"]
    )
    assert not [note for note in compared["notes"] if "settings differ" in note]  # code is no setting
    assert not [note for note in compared["notes"] if note.startswith("A: ") and "changed code" in note]


def test_equal_code_is_no_note(cli: Callable[..., Any], tmp_path: Path) -> None:
    for out in (tmp_path / "old", tmp_path / "new"):
        write_run(out, 0, 1.0, record_of({"agent": AGENT, "suite": ""}))
    compared = json.loads(cli("compare", tmp_path / "old", tmp_path / "new", "--format", "json", *LIGHT).out)
    assert compared["notes"] == []


def test_show_and_the_report_name_the_code(cli: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "results"
    write_run(out, 0, 1.0, record_of({"agent": AGENT, "suite": ""}, changes=True))
    write_run(out, 1, 1.0, record_of(None))
    shown = " ".join(cli("show", f"{CELL}/0", "--out", out).out.split())
    assert f"covr-bench 0.1.0, commit {COMMIT}" in shown
    assert "agent aa11bb22cc33; went on with changed code, agent 1f2e3d4c5b6a to agent aa11bb22cc33" in shown
    assert AGENT not in shown
    without = " ".join(cli("show", f"{CELL}/1", "--out", out).out.split())
    assert "own code not recorded" in without and "went on" not in without
    assert cli("report", "--out", out, "-o", tmp_path / "page.html", *LIGHT).code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<dt>own code</dt><dd>agent aa11bb22cc33</dd>") == 1
    assert page.count("<dt>own code</dt><dd>not recorded</dd>") == 1
    assert page.count("<dt>went on with changed code</dt><dd>agent 1f2e3d4c5b6a to agent aa11bb22cc33</dd>") == 1
