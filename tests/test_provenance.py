"""Every run says where it came from, through crashes and resumes."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from results import environment, provenance
from results.store import RunWriter, StoreError, run_folder

if TYPE_CHECKING:
    from pathlib import Path

RUN = "dmc6@paper/cartpole_swingup/drqv2/0"
SESSION: dict[str, Any] = {"seeds": {"run": 0, "env": 17}, "command": "covr-bench run"}
CONFIG: dict[str, Any] = {"lr": 1e-4, "hidden": (256, 256)}


def record_path(out: Path, run_id: str = RUN) -> Path:
    return run_folder(out, run_id) / "provenance.json"


def test_collect_is_json_and_names_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, function in ((socket, "gethostname"), (platform, "node"), (socket, "getfqdn")):
        monkeypatch.setattr(module, function, lambda *_: "secret-host")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("USER", "secret-user")
    facts = environment.collect()
    assert json.loads(json.dumps(facts)) == facts
    assert "secret" not in json.dumps(facts)
    assert facts["mujoco_gl"] == "egl"
    assert facts["ram_bytes"] > 2**28
    assert facts["cpu_cores"] == os.cpu_count()
    assert facts["packages"]["numpy"] == __import__("numpy").__version__


def test_collect_imports_no_heavy_package() -> None:
    code = (
        "import sys; from results import environment; environment.collect()\n"
        "print('torch' in sys.modules, 'mujoco' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False", "False",
    ]  # fmt: skip


def test_checkout_gives_commit_and_whether_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    monkeypatch.setattr(environment, "_SOURCE", tmp_path)
    assert environment.collect()["git_sha"] is None  # no checkout: installed from a wheel
    git("init")
    assert environment.collect()["git_sha"] is None  # no commit yet
    (tmp_path / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-m", "first")
    facts = environment.collect()
    assert (facts["git_sha"], facts["git_dirty"]) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "code.py").write_text("2")
    assert environment.collect()["git_dirty"] is True


def test_sessions_of_a_resumed_run(tmp_path: Path) -> None:
    provenance.begin(tmp_path, RUN, config=CONFIG, **SESSION, extra={"gl_renderer": "llvmpipe"})
    provenance.finish(tmp_path, RUN, "interrupted", wall_s=10.0)
    provenance.begin(tmp_path, RUN, config=CONFIG, **SESSION, wall_s=10.0)  # and killed at 25 s
    provenance.begin(tmp_path, RUN, config=CONFIG | {"lr": 3e-4}, **SESSION, wall_s=25.0)
    provenance.finish(tmp_path, RUN, "finished", wall_s=40.5)
    record = provenance.read(record_path(tmp_path))
    assert record["run_id"] == RUN
    assert record["status"] == "finished"
    assert record["wall_s"] == 40.5
    assert record["seeds"] == {"run": 0, "env": 17}
    assert record["config"] == {"lr": 1e-4, "hidden": [256, 256]}
    assert {session["command"] for session in record["sessions"]} == {"covr-bench run"}
    assert [session["wall_s"] for session in record["sessions"]] == [10.0, 15.0, 15.5]
    assert [session["ended"] is None for session in record["sessions"]] == [False, True, False]
    assert [session.get("config_changes") for session in record["sessions"]] == [None, None, {"lr": [1e-4, 3e-4]}]


def test_unknown_status_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'done'; valid: running, finished, failed, interrupted"):
        provenance.finish(tmp_path, RUN, "done", wall_s=0.0)


def test_interrupted_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance.write(tmp_path / "provenance.json", {"schema": 1, "status": "running"})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match=r"provenance\.json: No space left on device"):
        provenance.write(tmp_path / "provenance.json", {"schema": 1, "status": "finished"})
    assert json.loads((tmp_path / "provenance.json").read_text())["status"] == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["provenance.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot read"), ("[]", "not a provenance record"), ("{}", "not a provenance record"),
     ('{"schema": 99}', "upgrade")],
)  # fmt: skip
def test_record_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=rf"provenance\.json.*{message}|{message}.*provenance\.json"):
        provenance.read(path)


def test_statuses_tell_running_from_dead(tmp_path: Path) -> None:
    runs = {name: f"dmc6@paper/cartpole/{name}/0" for name in ("finished", "alive", "killed", "failed", "damaged")}
    for run_id in runs.values():
        provenance.begin(tmp_path, run_id, config=CONFIG, **SESSION)
    provenance.finish(tmp_path, runs["finished"], "finished", wall_s=1.0)
    provenance.finish(tmp_path, runs["failed"], "failed", wall_s=1.0)
    record_path(tmp_path, runs["damaged"]).write_text("{")
    with (
        RunWriter(tmp_path, runs["killed"], action_repeat=1),
        RunWriter(tmp_path, runs["alive"], action_repeat=1),
        pytest.warns(UserWarning, match="damaged/0/provenance.json"),
    ):
        assert provenance.statuses(tmp_path)[runs["killed"]]["status"] == "running"
    with RunWriter(tmp_path, runs["alive"], action_repeat=1), pytest.warns(UserWarning, match="damaged"):
        statuses = {run_id: record["status"] for run_id, record in provenance.statuses(tmp_path).items()}
    assert statuses == {
        runs["finished"]: "finished", runs["alive"]: "running", runs["killed"]: "interrupted", runs["failed"]: "failed",
    }  # fmt: skip


def test_no_runs_have_no_statuses(tmp_path: Path) -> None:
    assert provenance.statuses(tmp_path / "absent") == {}
