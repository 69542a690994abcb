"""`covr-bench status` and `cancel`: runs that wait, run here or elsewhere, are lost, stopped, failed or done."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from experiments import configure
from hypothesis import given
from hypothesis import strategies as st

from covr_bench.config import registry
from covr_bench.launch.base import Job, State
from covr_bench.launch.local import LocalLauncher, Settings
from covr_bench.run.beats import Beats
from covr_bench.run.plan import plan
from covr_bench.run.session import Session
from results import provenance
from results.cancel import cancel, is_cancelled
from results.holding import Holding, holding_of_this_process
from results.overview import Place, RunView, counts, seconds_left, view
from results.store import RunWriter, run_folder

COMMAND = ("--suite", "catch", "--budget", "smoke", "--agent", "random", "--task", "catch")
RUNS = [f"catch@smoke/catch/random/{seed}" for seed in range(7)]
PATIENCE_S = 300.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lease(out: Path, run_id: str, **values: Any) -> Holding:
    """A lease in a run's folder, of this process unless it is said to be of another."""
    mine = holding_of_this_process(1, "its")
    progress = {"phase": "train", "env_steps": 100, "env_steps_per_s": 10.0, "last_return": 3.5}
    holding = replace(mine, progress=progress, peak_memory=2 * 10**9, **values)
    run_folder(out, run_id).mkdir(parents=True, exist_ok=True)
    (run_folder(out, run_id) / "lease.json").write_text(holding.to_json())
    return holding


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Seeds 0 to 5: done, failed, interrupted at step 200, running here, of a dead process, on another machine."""
    suite, spec = registry.suite("catch"), registry.agent("random")
    configs = configure(
        suite, "catch", {"random": spec}, suite.budgets["smoke"], tasks=["catch"], seeds=range(7), out=str(tmp_path)
    )
    assert [config.run_id for config in configs] == RUNS
    for config, status in zip(configs[:6], ["finished", "failed", "interrupted", *["running"] * 3], strict=True):
        with RunWriter(tmp_path, config.run_id, action_repeat=2) as writer:
            provenance.begin(tmp_path, config.run_id, config=config.as_dict(), seeds={}, command="cmd")
            writer.write("episode", 200, 100, {"return": 1.0})
            if status == "finished":
                writer.end()
            if status != "running":
                provenance.finish(tmp_path, config.run_id, status, wall_s=8.0)
    lease(tmp_path, RUNS[3], launcher="local")
    lease(tmp_path, RUNS[4], born=1)
    lease(tmp_path, RUNS[5], host="node7", machine="another", pid=9, launcher="slurm", job="99_4", length_s=30.0)
    return tmp_path


def states(result: Result) -> list[str]:
    assert result.code == 0, result.err
    return [run["state"] for run in json.loads(result.out)["runs"]]


ALL = ["done", "failed", "interrupted", "running", "lost", "running", "waiting"]


def test_a_plans_runs_are_shown_wherever_they_are(cli: Callable[..., Result], out: Path) -> None:
    result = cli("status", *COMMAND, "--seeds", "0-6", "--out", out, "--json")
    assert states(result) == ALL
    told = json.loads(result.out)
    assert told["counts"] == {"running": 2, "lost": 1, "waiting": 1, "interrupted": 1, "failed": 1, "done": 1}
    total = told["runs"][0]["total_env_steps"]
    assert [run["env_steps"] for run in told["runs"]] == [total, 200, 200, 100, 100, 100, 0]
    elsewhere = told["runs"][5]
    assert (elsewhere["host"], elsewhere["launcher"], elsewhere["job"]) == ("node7", "slurm", "99_4")
    assert (elsewhere["env_steps_per_s"], elsewhere["last_return"]) == (10.0, 3.5)
    assert elsewhere["peak_memory_bytes"] == 2 * 10**9
    assert told["unsure"] == 1
    shown = cli("status", *COMMAND, "--seeds", "0-6", "--out", out)
    assert f"7 runs in {out}: 2 running, 1 lost, 1 waiting, 1 interrupted, 1 failed, 1 done" in shown.out
    left = (total - 100) / 10
    assert f"{RUNS[5]}  100/{total:,} env steps  10.0/s  {left / 60:.0f} min left" in shown.out or left < 90
    assert "return 3.5  process 9 on node7 (slurm job 99_4)  2.0 GB" in shown.out
    assert "2 at a time, 20.0 env steps/s together" in shown.out
    assert "note: 1 of them on other machines were not seen to beat yet" in shown.out


def test_without_a_plan_the_whole_store_is_shown(cli: Callable[..., Result], out: Path) -> None:
    assert states(cli("status", "--out", out, "--json")) == ALL[:6]
    empty = cli("status", "--out", out / "nothing")
    assert empty.code == 2
    assert "no results in" in empty.err


def test_a_lost_run_has_no_speed(out: Path) -> None:
    """It would promise an end."""
    assert [view(out, RUNS[seed], lambda *of: False).speed for seed in (3, 4)] == [10.0, 0.0]


def test_a_lease_of_another_machine_is_lost_once_it_was_watched_in_vain(out: Path) -> None:
    """By the reader's own clock, over several calls; a beat in between begins the watch anew."""
    now = 1000.0

    def look() -> Place:
        beats = Beats(out, lambda: now)
        found = view(out, RUNS[5], beats.silent).place
        beats.keep()
        unsure.append(bool(beats.unsure))
        return found

    unsure: list[bool] = []

    for hour in (-3600.0, 3600.0):  # what the file's own time says, or the other machine's clock, counts for nothing
        lease_file = run_folder(out, RUNS[5]) / "lease.json"
        os.utime(lease_file, (time.time() + hour,) * 2)
    assert look() is Place.RUNNING
    now += 29.0
    assert look() is Place.RUNNING
    now += 1.0
    assert look() is Place.LOST
    lease(out, RUNS[5], host="node7", machine="another", pid=9, beat=5, length_s=30.0)
    assert look() is Place.RUNNING
    now += 31.0
    assert look() is Place.LOST
    now = 5.0  # this machine was started anew: its clock with it, and what was seen before says nothing
    assert look() is Place.RUNNING
    assert unsure == [True, True, False, False, False, True]


def test_to_wait_makes_certain(cli: Callable[..., Result], out: Path) -> None:
    lease(out, RUNS[5], host="node7", machine="another", pid=9, length_s=1.0)
    assert states(cli("status", *COMMAND, "--seeds", "5", "--out", out, "--json", "--wait")) == ["lost"]


def test_a_damaged_record_hides_no_other_run(cli: Callable[..., Result], out: Path) -> None:
    (run_folder(out, RUNS[1]) / "provenance.json").write_text("{")
    assert states(cli("status", "--out", out, "--json")) == ["done", "unreadable", *ALL[2:6]]


def test_cancel_marks_what_is_not_done_and_run_takes_the_marks_away(cli: Callable[..., Result], out: Path) -> None:
    refused = cli("cancel", "--out", out)
    assert refused.code == 2 and "say what to cancel" in refused.err
    result = cli("cancel", *COMMAND, "--seeds", "0-6", "--out", out)
    assert "6 of 7 runs cancelled: 2 are running" in result.out
    assert [is_cancelled(out, run_id) for run_id in RUNS] == [False, *[True] * 6]
    now = cli("status", *COMMAND, "--seeds", "0-6", "--out", out, "--json")
    assert states(now) == [*ALL[:6], "interrupted"]
    assert [run["cancelled"] for run in json.loads(now.out)["runs"]] == [False, *[True] * 6]
    suite, spec = registry.suite("catch"), registry.agent("random")
    configs = configure(
        suite, "catch", {"random": spec}, suite.budgets["smoke"], tasks=["catch"], seeds=range(7), out=str(out)
    )
    asked_again = [config for config in configs if config.run_id != RUNS[5]]
    plan(asked_again).prepare()
    marked = [run_id for run_id in RUNS if is_cancelled(out, run_id)]
    assert marked == [RUNS[3], RUNS[5]]  # the first has a writer, which is to see the mark yet


def test_a_run_that_is_cancelled_before_it_starts_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covr_bench.launch.worker.python_child", lambda module: [sys.executable, "-c", "pass"])
    suite, spec = registry.suite("catch"), registry.agent("random")
    budget = suite.budgets["smoke"]
    configs = configure(suite, "catch", {"random": spec}, budget, tasks=["catch"], seeds=[0, 1], out=str(tmp_path))
    cancel(tmp_path, configs[0].run_id)
    jobs = [Job(config) for config in configs]
    LocalLauncher(Settings()).run(jobs, 1, Session("cmd"), lambda jobs: None)
    assert [job.state for job in jobs] == [State.INTERRUPTED, State.FINISHED]
    assert "`covr-bench cancel` stopped it" in jobs[0].error


@pytest.mark.deep
def test_a_running_run_that_is_cancelled_checkpoints_and_goes_on_later(
    start: Any, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a command that knows nothing but the store."""
    monkeypatch.setenv("COVR_BENCH_LEASE_S", "6")
    command = ["--suite", "catch", "--task", "catch", "--agent", "drqv2", "--seeds", "0,1", "--budget", "short"]
    command += ["--set", "drqv2.batch_size=4", "--set", "drqv2.hidden_dim=16", "--out", str(tmp_path / "results")]
    process = start("run", *command, "--workers", "1", "--device", "cpu")

    def runs() -> list[dict[str, Any]]:
        return json.loads(cli("status", *command, "--json").out)["runs"]  # type: ignore[no-any-return]

    def trains() -> bool:
        first = runs()[0]
        return bool(first["state"] == "running" and first["env_steps"] > 0)

    deadline = time.monotonic() + PATIENCE_S
    while not trains():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.3)
    now = runs()
    assert [run["state"] for run in now] == ["running", "waiting"]
    assert now[0]["launcher"] == "local" and now[0]["peak_memory_bytes"] > 1e8
    assert "2 of 2 runs cancelled: 1 are running" in cli("cancel", *command).out
    printed, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    assert "env steps as `covr-bench cancel` asked" in printed
    after = runs()
    assert [(run["state"], run["cancelled"]) for run in after] == [("interrupted", True)] * 2
    checkpoints = list((run_folder(tmp_path / "results", after[0]["run_id"]) / "checkpoint").glob("[0-9]*"))
    assert int(checkpoints[0].name) >= now[0]["env_steps"]
    assert list(tmp_path.rglob("lease.json")) == []


# Reckoning


def test_the_time_left_is_that_of_what_is_left_at_the_speed_and_number_of_what_runs() -> None:
    a, b = "s@b/t/a/{}", "s@b/t/b/{}"
    views = [
        RunView(a.format(0), Place.RUNNING, 500, 1000, 5.0),
        RunView(b.format(0), Place.RUNNING, 0, 1000, 50.0),
        RunView(a.format(1), Place.INTERRUPTED, 500, 1000),
        RunView(b.format(1), Place.DONE, 1000, 1000, 30.0),
        RunView(b.format(2), Place.WAITING, 0, 1000),
        RunView(b.format(3), Place.FAILED, 0, 1000),
    ]
    assert seconds_left(views) == pytest.approx((100 + 20 + 100 + 25) / 2)
    assert seconds_left(views[:1]) == 100.0
    assert seconds_left(views[3:4]) == 0.0
    assert math.isnan(seconds_left(views[2:3]))
    assert counts(views) == {"running": 2, "waiting": 1, "interrupted": 1, "failed": 1, "done": 1}


def test_all_are_done_no_sooner_than_the_slowest() -> None:
    late, soon = (RunView(f"s@b/t/a/{seed}", Place.RUNNING, at, 1000, 1.0) for seed, at in enumerate((0, 990)))
    assert seconds_left([late, soon]) == 1000.0


runs = st.builds(
    RunView,
    st.sampled_from(["s@b/t/a/0", "s@b/t/b/0"]),
    st.sampled_from(list(Place)),
    st.integers(0, 1000),
    st.just(1000),
    st.floats(0, 1e6),
)


@given(st.lists(runs, max_size=6))
def test_the_time_left_is_never_senseless(views: list[RunView]) -> None:
    left = seconds_left(views)
    assert math.isnan(left) or left >= 0.0


def test_status_needs_nothing_heavy(tmp_path: Path) -> None:
    """A login node is asked often: no torch, no pandas, to look at a store."""
    (tmp_path / "runs").mkdir()
    code = (
        "import sys; sys.argv = ['covr-bench', 'status', '--out', sys.argv[1]]\n"
        "from covr_bench.cli.app import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'pandas', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert ended.stdout.splitlines() == [f"0 runs in {tmp_path}: none", "[]"], ended.stderr


def test_a_cancelled_run_without_a_lease_is_shown_as_cancelled(cli: Callable[..., Result], out: Path) -> None:
    (run_folder(out, RUNS[3]) / "lease.json").unlink()
    cli("cancel", *COMMAND, "--seeds", "3", "--out", out)
    result = cli("status", *COMMAND, "--seeds", "3", "--out", out, "--json")
    assert [(run["state"], run["cancelled"]) for run in json.loads(result.out)["runs"]] == [("interrupted", True)]
