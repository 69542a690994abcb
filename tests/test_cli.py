"""The command line: what it prints, what it refuses, and what it does not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from experiments import configure

from covr_bench.config import registry
from covr_bench.run.cost.estimate import Cost
from results import provenance
from results.layout import ROWS_FILE
from results.store import RunWriter, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable

SUITE = registry.suite("catch")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Results of `catch@smoke` by `random`: both tasks, two seeds; one of them failed."""
    configs = configure(
        SUITE, "catch", {"random": registry.agent("random")}, SUITE.budgets["smoke"], seeds=[0, 1], out=str(tmp_path)
    )
    for number, config in enumerate(configs):
        with RunWriter(tmp_path, config.run_id, action_repeat=2) as writer:
            provenance.begin(
                tmp_path, config.run_id, config=config.as_dict(), seeds={"run": config.seed}, command="cmd"
            )
            for step in (0, 200, 400):
                writer.write("eval", step, step // 2, {"return": [10.0 * number + step / 100]})
            if number == 3:
                writer.error("q is nan at 400 env steps")
            else:
                writer.end()
            provenance.finish(tmp_path, config.run_id, "failed" if number == 3 else "finished", wall_s=7.0)
    return tmp_path


@pytest.fixture
def measured_cost(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Known costs in place of a trial of the first steps."""
    cost = {"env_s": 1e-3, "act_s": 1e-3, "update_s": 0.0, "frame_bytes": 1e3, "agent_bytes": 1e6}
    monkeypatch.setattr("covr_bench.run.cost.estimate.costs", lambda configs, *_: [Cost(**cost) for _ in configs])
    return cost


HEAVY = ("torch", "pandas", "mujoco", "dm_control", "matplotlib", "transformers", "pyarrow", "gymnasium", "numpy")


def imported_by(*arguments: object) -> set[str]:
    """Those heavy packages that `covr-bench ARGS` imports."""
    code = f"""
import sys
from covr_bench.cli.app import main
sys.argv = {["covr-bench", *map(str, arguments)]!r}
try:
    main()
except SystemExit as ended:
    print(ended.code, *[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, *names = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    return set(names)


def test_output_that_cannot_be_written_is_said(start: Any) -> None:
    """49 lines of traceback; an ASCII terminal ended a table at its first dagger."""
    with open("/dev/full", "w") as full:
        process = start("list", stdout=full)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines() == [
        "covr-bench: cannot write: No space left on device. Free some space, or send the output elsewhere"
    ]


def test_letters_that_a_terminal_lacks_are_shown_by_their_codes(start: Any, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("agent,task,seed,env_steps,return\n\u03b1,t,0,10,1\n\u03b1,t,1,20,2\n", "utf-8")
    ascii_only = ("env", "-u", "PYTHONIOENCODING", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0")  # tox sets it
    process = start("table", "--scores", tmp_path / "u.csv", before=ascii_only)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "\\u03b1" in out and "\\u2020" in out, err


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("--help") == set()
    assert imported_by("run", "--help") == set()


def test_reading_results_needs_neither_torch_nor_a_simulator(out: Path) -> None:
    simulators = {"torch", "mujoco", "dm_control", "transformers"}
    assert not imported_by("table", "--out", out) & simulators
    assert not imported_by("show", "catch@smoke/catch/random/0", "--out", out) & simulators


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--suite", "cach"], "unknown suite 'cach'. Did you mean 'catch'"),
        (["--suite", "catch", "--agent", "drqv"], "unknown agent 'drqv'. Did you mean 'drqv2'"),
        (["--suite", "catch", "--task", "catchh"], "unknown task of suite catch 'catchh'. Did you mean 'catch'"),
        (["--suite", "catch", "--budget", "smok"], "unknown budget of suite catch 'smok'. Did you mean 'smoke'"),
        (["--suite", "catch", "--set", "batchsize=3"], "unknown setting 'batchsize'. Did you mean"),
        (["--suite", "catch", "--set", "batch_size=x"], "batch_size = 'x': Input should be a valid integer"),
        (["--suite", "catch", "--set", "env.image_size=x"], "env.image_size = 'x': Input should be a valid integer"),
        (["--suite", "catch", "--seeds", "one"], "--seeds takes numbers and ranges"),
        (["--suite", "catch", "--device", "gpu"], "unknown device 'gpu'. Valid: auto, cpu, cuda"),
        (["--suite", "absent.py"], "no file"),
    ],
)
def test_bad_input_is_named_with_what_is_valid(cli: Callable[..., Any], arguments: list[str], complaint: str) -> None:
    result = cli("run", *arguments)
    assert result.code == 2
    assert complaint in result.err
    assert "Traceback" not in result.err


def test_bad_options_are_refused(cli: Callable[..., Any]) -> None:
    assert cli("run").code == 2
    assert cli("run", "--suite", "catch", "--workers", "0").code == 2
    assert cli("run", "--suite", "catch", "--env-steps", "0").code == 2


def test_only_the_suite_is_needed(cli: Callable[..., Any], measured_cost: Any, tmp_path: Path) -> None:
    result = cli("run", "--suite", "catch", "--dry-run", "--out", tmp_path)
    assert result.code == 0
    assert "plan: 12 runs of 20,000 env steps (catch@paper): 12 to do" in result.out
    assert not (tmp_path / "runs").exists()


def test_the_plan_says_what_it_costs(cli: Callable[..., Any], measured_cost: Any, tmp_path: Path) -> None:
    """Of the two runs at once catch_or_end is the longer: it repeats no action, so that each step costs 2 ms."""
    result = cli(
        "run", "--suite", "catch", "--agent", "random", "--seeds", "0", "--workers", "2", "--out", tmp_path, "--dry-run"
    )
    evaluated = 11 * 10 * SUITE.task("catch_or_end").max_episode_steps
    seconds = 6 + (20_000 + evaluated) * 2e-3
    assert f"time: about {seconds / 60:.0f} min, 2 at a time, 1 torch thread each on cpu" in result.out
    assert "disk: up to 0.0 GB while they run" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_the_plan_says_when_omp_num_threads_limits_it(
    cli: Callable[..., Any], measured_cost: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(4), raising=False)
    command = ("run", "--suite", "catch", "--agent", "random", "--out", tmp_path, "--dry-run")
    limited = "note: OMP_NUM_THREADS=1 limits this to one run at a time; unset it or give --workers"
    assert limited in " ".join(cli(*command).out.split())
    assert "OMP_NUM_THREADS" not in cli(*command, "--workers", "2").out
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "OMP_NUM_THREADS" not in cli(*command).out


def test_the_plan_shows_what_is_measured_once_where_there_is_no_terminal(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(configs: list[Any], renderer: Any, progress: Callable[[str], None], warn: Any, tell: Any) -> list[Cost]:
        for text in ("0 of 2, catch", "1 of 2, catch_or_end"):
            progress(text)
        warn("nothing is remembered")
        tell("2 measured now")
        return [Cost(1e-3, 1e-3, 0.0, 1e3, 1e6) for _ in configs]

    monkeypatch.setattr("covr_bench.run.cost.estimate.costs", costs)
    lines = cli("run", "--suite", "catch", "--agent", "random", "--out", tmp_path, "--dry-run").out.splitlines()
    assert lines[0] == "planning catch ..."
    assert "costs: 2 measured now" in lines
    assert [line for line in lines if " of 2," in line] == ["0 of 2, catch"]
    assert "note: nothing is remembered" in lines


def test_a_plan_of_days_asks_once_at_a_terminal(
    cli: Callable[..., Any], measured_cost: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_cost["update_s"] = 100.0
    launched: list[int] = []
    monkeypatch.setattr("covr_bench.face.execute", lambda ready, *rest: launched.append(len(ready.plan.todo)) or [])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    command = ("run", "--suite", "catch", "--agent", "random", "--out", tmp_path, "--workers", "1")
    for answer, flags in (("n", ()), ("", ()), ("y", ()), ("", ("--yes",))):
        monkeypatch.setattr("builtins.input", lambda *prompt, answer=answer: asked.append(answer) or answer)
        assert cli(*command, *flags).code == 0
    assert asked == ["n", "", "y"]
    assert launched == [6, 6]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    cli(*command)
    assert asked == ["n", "", "y"]
    assert launched == [6, 6, 6]


def test_an_out_that_cannot_be_written_is_named(cli: Callable[..., Any], measured_cost: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("run", "--suite", "catch", "--agent", "random", "--out", tmp_path / "file" / "results")
    assert result.code == 2
    assert f"cannot write to {tmp_path / 'file' / 'results'}" in result.err
    assert "--out" in result.err


def test_when_all_is_done_nothing_starts(cli: Callable[..., Any], out: Path) -> None:
    result = cli("run", "--suite", "catch", "--agent", "random", "--budget", "smoke", "--out", out)
    assert result.code == 0
    assert "1 to do" not in result.out
    assert "plan: 2 runs of 400 env steps (catch@smoke): 2 done" in result.out
    assert f"nothing to do: every run is in {out}" in result.out
    assert re.search(r"│ catch +│ +4.0 │", result.out)
    assert (out / "reports" / "catch@smoke.png").stat().st_size > 0


def test_other_settings_under_the_same_name_are_refused(cli: Callable[..., Any], out: Path) -> None:
    path = run_folder(out, "catch@smoke/catch/random/0") / "provenance.json"
    record = json.loads(path.read_text())
    record["config"]["env_steps"] = 300
    path.write_text(json.dumps(record))
    result = cli("run", "--suite", "catch", "--agent", "random", "--budget", "smoke", "--out", out)
    assert result.code == 2
    assert "env_steps: 300 there, 400 here" in result.err


def test_table_in_three_formats(cli: Callable[..., Any], out: Path) -> None:
    assert "catch_or_end" in cli("table", "--out", out).out
    assert cli("table", "--out", out, "--format", "md").out.count("|") > 8
    assert "catch_or_end" in cli("table", "--out", out, "--format", "csv").out
    bad = cli("table", "--out", out, "--format", "xml")
    assert bad.code == 2
    assert "Valid: terminal, md, csv" in bad.err


def test_a_table_says_what_a_long_name_stands_for(cli: Callable[..., Any], tmp_path: Path) -> None:
    overrides = {"drqv2.hidden_dim": "64", "feature_dim": "32", "stddev_steps": "100000", "batch_size": "16"}
    for name, given in (("drqv2", overrides), ("random", {})):
        agents = {name: registry.agent(name)}
        configs = configure(
            SUITE, "catch", agents, SUITE.budgets["smoke"], tasks=["catch"], overrides=given, out=str(tmp_path)
        )
        for config in configs:
            provenance.begin(tmp_path, config.run_id, config=config.as_dict(), seeds={"run": 0}, command="cmd")
            with RunWriter(tmp_path, config.run_id, action_repeat=2) as writer:
                writer.write("eval", 400, 200, {"return": [1.0]})
                writer.end()
    for format_ in ("terminal", "md", "latex"):
        shown = (
            cli("table", "--out", tmp_path, "--format", format_).out.replace("\\_", "_").replace("\\allowbreak{}", "")
        )
        (legend,) = re.findall(r"drqv2-set-\w{8}:\s+(drqv2.+?)\.(?=[\s}])", shown, re.DOTALL)
        assert legend.split() == [
            "drqv2.hidden_dim=64,", "feature_dim=32,", "stddev_steps=100000,", "batch_size=16"
        ]  # fmt: skip


def test_a_damaged_row_costs_only_itself(cli: Callable[..., Any], out: Path) -> None:
    rows = run_folder(out, "catch@smoke/catch/random/1") / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"schema": 1, "kind": "ev')
    result = cli("table", "--out", out)
    assert "skipped 1 unreadable line" in result.err
    assert result.code == 0
    assert "catch" in result.out


def test_no_results_is_said(cli: Callable[..., Any], tmp_path: Path) -> None:
    for verb in ("table", "plot"):
        result = cli(verb, "--out", tmp_path / "none")
        assert result.code == 2
        assert "there is no results folder" in result.err
    result = cli("show", "catch@smoke/catch/random/0", "--out", tmp_path)
    assert result.code == 2
    assert "unknown run" in result.err


def test_plot_draws_what_is_stored(cli: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    assert cli("plot", "--out", out, "-o", picture).out.strip() == str(picture)
    assert picture.read_text().startswith("<?xml")
    assert "Valid endings" in cli("plot", "--out", out, "-o", "curves.gif").err
    both = cli("plot", "--out", out, "--kind", "aggregate", "--paper", "T4")
    assert both.code == 2 and "give one of them" in both.err
    absent = cli("plot", "--out", out, "-o", tmp_path / "absent" / "curves.png")
    assert absent.code == 2
    assert "cannot write" in absent.err


def test_show_tells_all_of_a_run(cli: Callable[..., Any], out: Path) -> None:
    shown = cli("show", "catch@smoke/catch/random/0", "--out", out)
    assert shown.code == 0
    for text in ("finished after 7 s", "env_steps=400", "run=0", "torch 2", "400       4.0 ████"):
        assert text in shown.out
    assert "error:" not in shown.out
    failed = cli("show", f"{out}/runs/catch@smoke/catch_or_end/random/1", "--out", out)
    assert "error: q is nan at 400 env steps" in failed.out
    wrong = cli("show", "catch@smoke/catch/random/7", "--out", out)
    assert wrong.code == 2
    assert "Did you mean 'catch@smoke/catch/random/" in wrong.err
    assert cli("show", "nonsense", "--out", out).code == 2


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("")])
def test_show_says_that_a_finished_run_lost_its_rows(cli: Callable[..., Any], out: Path, damage: Any) -> None:
    """It said `no evaluation yet`, and all was well."""
    damage(run_folder(out, "catch@smoke/catch/random/0") / ROWS_FILE)
    shown = cli("show", "catch@smoke/catch/random/0", "--out", out)
    assert (shown.code, "it finished, but" in shown.err) == (2, True)
    assert "finished after 7 s" in shown.out and "no evaluation yet" not in shown.out


def test_list_names_everything(cli: Callable[..., Any]) -> None:
    listed = cli("list").out
    for name in (*registry.suites(), *registry.agent_names(), "smoke", "cartpole_swingup", "20,000", "0, 1, 2"):
        assert name in listed
    assert max(map(len, listed.splitlines())) <= 80
    assert "cartpole_swingup" not in cli("list", "agents").out


def test_doctor_examines_this_machine(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    result = cli("doctor")
    for name in ("python", "torch", "rendering", "cpu", "memory", "disk", "gpu"):
        assert name in result.out
    assert result.code == int("FAIL" in result.out)


def test_doctor_says_what_macos_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    from covr_bench.cli import doctor

    monkeypatch.setattr("covr_bench.cli.doctor.sys.platform", "darwin")
    said = " ".join(finding for _, _, finding in doctor._python())
    assert "no carla client" in said and "MUJOCO_GL=glfw" in said


def test_doctor_names_what_is_missing(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covr_bench.cli.doctor.REQUIRED", ("numpy", "absent_package"))
    monkeypatch.setattr("covr_bench.cli.doctor._rendering", list)
    result = cli("doctor")
    assert result.code == 1
    assert "FAIL" in result.out
    assert "pip install 'absent_package'" in result.out
    assert np.__version__ in result.out


def test_a_kernel_that_cannot_be_compiled_is_refused_before_anything_runs(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from covr_bench.kit import winograd

    monkeypatch.setattr(winograd, "build", lambda: (_ for _ in ()).throw(winograd.KernelUnavailable("no compiler")))
    result = cli("run", "--suite", "catch", "--conv-kernel", "winograd", "--out", str(tmp_path))
    assert result.code == 2
    assert "no compiler" in result.err
    assert cli("run", "--suite", "catch", "--conv-kernel", "fft").code == 2


def test_the_embedded_carla_server_says_what_it_can_serve(cli: Any) -> None:
    done = cli("carla", "serve", "--map", "Town04")
    assert done.code == 2
    assert "Town04" in done.err
    assert "highway" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("table", "--scores", ""), ("stats", "--scores="), ("report", "-o", ""), ("run", "--out", ""),
        ("show", "x", "--out", ""), ("compare", "a", "b", "--out", ""), ("plot", "-o", ""),
        ("import", ""), ("vlm", "ask", "dmc6/walker_walk", ""),
    ],
)  # fmt: skip
def test_an_empty_path_is_not_the_working_folder(cli: Callable[..., Any], words: tuple[str, ...]) -> None:
    refused = cli(*words)
    assert refused.code == 2
    assert "a path is empty; name a file or folder" in refused.err
