"""Real processes: stopped, killed, diverging and out of disk, and what is left of them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import SMALL_DRQV2
from test_train import go, measured, trained

from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig
from covr_bench.kit.seeds import derive_seed
from covr_bench.run.checkpoint import Checkpoints
from results import provenance
from results.store import read_run, run_folder, writer_pid

if TYPE_CHECKING:
    from collections.abc import Callable


PATIENCE_S = 300.0  # on a busy machine a worker's imports alone take long
AGENTS = """
import os, signal
import torch
from baselines.random import Config, Random
from covr_bench import AgentSpec

class {name}(Random):
    calls = 0
    def update(self, replay, step):
        if step == 60:
            {at_60}
        return {{"loss": torch.tensor({loss})}}

AGENT = AgentSpec("{name}", Config, {name}, "control")
"""
DIES = "os.kill(os.getpid(), signal.SIGKILL)"


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def rows_of(out: Path, run_id: str) -> list[dict[str, Any]]:
    path = run_folder(out, run_id) / "rows.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


@pytest.fixture
def agents(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, at_60: str = "pass", loss: str = "1.0") -> str:
        (tmp_path / f"{name}.py").write_text(AGENTS.format(name=name, at_60=at_60, loss=loss))
        return f"{name}.py"

    return write


@pytest.mark.deep
def test_one_bad_run_does_not_stop_the_others(start: Any, agents: Callable[..., str], tmp_path: Path) -> None:
    """A crash, a process killed once and one killed twice, a NaN, a disk too full for one agent's checkpoint."""
    once = f"flag = {str(tmp_path / 'flag')!r}; os.path.exists(flag) or (open(flag, 'w').close(), {DIES})"
    refs = [
        agents("dies_once", at_60=once),
        agents("dies_twice", at_60=DIES),
        agents("has_nan", loss="float('nan') if step >= 60 else 1.0"),
        agents("crashes", at_60="raise ZeroDivisionError('of mine')"),
        "drqv2",
        "random",
    ]
    command = ["--suite", "catch", "--task", "catch", "--env-steps", "100", "--budget", "smoke", "--workers", "2"]
    command += ["--out", "results", "--set", "batch_size=4"]

    def of(refs: list[str]) -> list[str]:
        return [item for ref in refs for item in ("--agent", ref)]

    limit = (4 << 20,) * 2  # bytes a file may have: drqv2's checkpoint has more
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)}
    process = start("run", *command, *of(refs), cwd=tmp_path, **full)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    assert "plan: 6 runs of 100 env steps (catch@smoke-100): 6 to do" in out
    results = tmp_path / "results"
    names = ("dies_once", "dies_twice", "has_nan", "crashes", "drqv2-batch_size=4", "random")
    ids = {name: f"catch@smoke-100/catch/{name}/0" for name in names}
    assert {name: provenance.statuses(results)[run_id]["status"] for name, run_id in ids.items()} == {
        "dies_once": "finished",
        "dies_twice": "interrupted",
        "has_nan": "failed",
        "crashes": "failed",
        "drqv2-batch_size=4": "failed",
        "random": "finished",
    }
    assert f"{ids['dies_once']} started again, its process was killed" in out
    assert "4 of 6 runs did not finish" in out
    summary = out.split("did not finish")[1]
    assert f"{ids['dies_twice']} failed: killed by SIGKILL, twice" in summary
    assert f"{ids['has_nan']} failed: loss is nan at " in summary
    assert f"{ids['crashes']} failed: ZeroDivisionError: of mine" in summary
    assert f"{ids['drqv2-batch_size=4']} failed: cannot write a checkpoint to " in summary
    assert "File too large" in summary
    errors = {
        name: [row["text"] for row in rows_of(results, run_id) if row["kind"] == "error"]
        for name, run_id in ids.items()
    }
    assert len(errors["has_nan"]) == 1
    assert "training has diverged" in errors["has_nan"][0]
    assert "ZeroDivisionError" in errors["crashes"][0]
    assert not errors["random"]
    evaluated = read_run(results, ids["drqv2-batch_size=4"]).query("kind == 'eval' and metric == 'return'")
    assert evaluated["env_steps"].tolist() == [0, 100]

    # With room on the disk, and an agent that does not die, the same runs are finished.
    agents("dies_twice")
    again = start("run", *command, *of([ref for ref in refs if ref not in ("has_nan.py", "crashes.py")]), cwd=tmp_path)
    out, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    assert "2 done" in out
    finished = [run_id for run_id, record in provenance.statuses(results).items() if record["status"] == "finished"]
    assert len(finished) == 4


def workers_of(out: Path, ids: list[str]) -> list[int]:
    return [pid for run_id in ids if (pid := writer_pid(out, run_id)) is not None]


@pytest.mark.deep
def test_stopped_and_killed_launchers_leave_runs_that_go_on_bit_for_bit(start: Any, tmp_path: Path) -> None:
    command = ["run", "--suite", "catch", "--task", "catch", "--agent", "drqv2", "--seeds", "0,1", "--workers", "2"]
    slow = (*SMALL_DRQV2, "drqv2.update_every=1")  # seconds of training, so that there is time to stop it in
    command += [
        "--budget",
        "short",
        "--env-steps",
        "1500",
        "--conv-kernel",
        "torch",
        *(item for text in slow for item in ("--set", text)),
    ]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"

    def training() -> bool:
        """Both runs are in an episode: their newest row is that of the episode before."""
        newest = [rows_of(stopped, run_id)[-1:] for run_id in ids()]
        return len(newest) == 2 and all(rows and rows[0]["kind"] == "episode" for rows in newest)

    def ids() -> list[str]:
        return list(provenance.statuses(stopped))

    def counts() -> list[int]:
        return [len(rows_of(stopped, run_id)) for run_id in ids()]

    def grown(before: list[int]) -> bool:
        """Both runs have gone on: a row that says so, and one of an episode."""
        return all(now > then + 1 for now, then in zip(counts(), before, strict=True))

    # The launcher is killed: its workers notice, checkpoint and end.
    process = start(*command, "--out", stopped)
    wait_for(training)
    process.kill()
    process.wait()
    wait_for(lambda: not workers_of(stopped, ids()))
    for run_id in ids():
        assert Checkpoints(run_folder(stopped, run_id) / "checkpoint").exists()
        assert provenance.statuses(stopped)[run_id]["status"] == "interrupted"

    # Ctrl-C: workers checkpoint, the exit status is that of an interrupt, nothing is lost.
    before = counts()
    process = start(*command, "--out", stopped)
    wait_for(lambda: grown(before) and training())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "2 to continue" in out
    assert out.count("stopping: writing a checkpoint") == 2
    assert "covr-bench: stopped; the same command goes on from here" in err
    assert "Traceback" not in err
    assert not workers_of(stopped, ids())

    # A worker is killed: it is started again from that checkpoint.
    before = counts()
    process = start(*command, "--out", stopped)
    wait_for(lambda: grown(before) and training())
    victim = writer_pid(stopped, ids()[0])
    assert victim
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "started again, its process was killed" in out

    run_id = ids()[0]  # the victim's
    one, other = config_of(stopped, run_id), config_of(stopped, run_id, out=whole)
    go(other, registry.agent("drqv2"))
    assert measured(one).equals(measured(other))
    assert trained(one) == trained(other)
    record = provenance.statuses(stopped)[run_id]
    assert len(record["sessions"]) >= 4
    assert record["seeds"]["run"] == one.seed
    assert record["seeds"]["eval_episode_0"] == derive_seed(one.seed, "eval_episode", 0)


def config_of(stored: Path, run_id: str, out: Path | None = None) -> RunConfig:
    return RunConfig.from_dict(provenance.statuses(stored)[run_id]["config"] | {"out": str(out or stored)})


@pytest.mark.deep
def test_files_by_relative_path_beside_an_installed_package(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's suite, budget and agent from the folder they stand in; a package's from where pip put it."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", site, Path(__file__).parent / "plugin_example"], check=True
    )
    brief = "from covr_bench import Budget\nBUDGET = Budget('brief', 41, 30, 1, (5,))\n"
    (tmp_path / "my_budget.py").write_text(brief)
    (tmp_path / "my_suite.py").write_text(
        "from dataclasses import replace\nfrom suites import catch\nSUITE = replace(catch.SUITE, name='mine')\n"
    )
    (tmp_path / "my_agent.py").write_text(AGENTS.format(name="my_own", at_60="pass", loss="1.0"))
    command = ["run", "--suite", "my_suite.py", "--task", "catch", "--budget", "./my_budget.py"]
    command += ["--agent", "my_agent.py", "--agent", "example_constant", "--set", "action=-0.5"]
    command += ["--agent", "vbe", "--vlm", "example_silent", "--allow-silent-vlm"]
    command += ["--track", "example_hears", "--set-track", "example_hears.name=told.txt"]
    process = start(*command, path=(site,), cwd=tmp_path)
    _out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    for run in ("my_own/5", "example_constant-action=-0.5/5"):
        rows = read_run(tmp_path / "results", f"mine@brief/catch/{run}")
        assert rows.query("kind == 'eval' and metric == 'return'")["env_steps"].tolist() == [0, 30, 41]

    asked = read_run(tmp_path / "results", "mine@brief/catch/vbe-vlm=example_silent,vlm_silent=allow/5")
    assert set(asked["labels"].astype(str)) == {"vlm=stand-in:example_silent,vlm_silent=allowed"}
    told = (tmp_path / "told.txt").read_text().splitlines()
    assert {"begin mine@brief/catch/my_own/5", "begin mine@brief/catch/example_constant-action=-0.5/5"} <= set(told)
    assert told.count("end finished") == 3
    refused = start(*command, "--out", "other", "--launcher", "example_refuses", path=(site,), cwd=tmp_path)
    out, err = refused.communicate(timeout=PATIENCE_S)
    assert refused.returncode == 1, err
    assert "failed: there is no such machine" in out

    monkeypatch.syspath_prepend(site)
    suite = registry.suite("example_catch")
    assert suite.tasks[0].name == "slow_catch"
    assert registry.budget(suite, "example_tiny").env_steps == 40
    assert registry.budget(registry.suite("catch"), "example_tiny").env_steps == 40
    shutil.rmtree(site)
