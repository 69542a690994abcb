"""A large store: seconds and memory from 100,000 runs to a table of 50 agents, and what each command takes to start.

And many short runs: what the launcher adds to the start of a process, and the memory of the process that launches.

    python -m pytest benchmarks/bench_scale.py -s
    COVR_BENCH_RUNS=100000 COVR_BENCH_STORE=/tmp/scale python -m pytest benchmarks/bench_scale.py -s
    COVR_BENCH_LAUNCHES=10000 python -m pytest benchmarks/bench_scale.py -s -k launcher

COVR_BENCH_RUNS sets the number of runs (2,000 if unset), each of 11 evaluations of 10 episodes and a row that ends it,
of 50 agents on 6 tasks. COVR_BENCH_STORE keeps the store in a folder for the next time: 100,000 runs are as many files
of 3 KB. Each measurement is a process of its own; wall and CPU seconds (user and system) and peak memory are printed,
since on a shared machine only CPU seconds can be compared.

COVR_BENCH_LAUNCHES sets the number of launched runs (500 if unset). Each is a process that ends at once; between them,
as many bare forks tell what a process costs by itself. Without their processes, 10,000 are launched in any case.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bench_store import EVALUATIONS, line

from results import provenance
from results.holding import LEASE_FILE, holding_of_this_process
from results.layout import PROVENANCE_FILE, ROWS_FILE, run_folder

RUNS = int(os.environ.get("COVR_BENCH_RUNS", "2000"))
LAUNCHES = int(os.environ.get("COVR_BENCH_LAUNCHES", "500"))
PARTS = 5  # of the launches, each beside a part of the bare forks: the machine's load changes
TASKS = ("finger_spin", "cartpole_swingup", "reacher_easy", "cheetah_run", "walker_walk", "ball_in_cup_catch")
AGENTS = 50
END = '{"schema": 1, "kind": "end", "env_steps": 100000, "agent_steps": 50000, "action_repeat": 2, "wall_s": 10.0, '
END += '"time": 1.7e9, "metric": "end", "value": 1}\n'


def run_id(number: int) -> str:
    agent, seed = number // len(TASKS) % AGENTS, number // len(TASKS) // AGENTS
    return f"dmc6@paper/{TASKS[number % len(TASKS)]}/agent{agent}/{seed}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNS runs; those that a kept store lacks are written."""
    kept = os.environ.get("COVR_BENCH_STORE")
    out = Path(kept).resolve() if kept else tmp_path_factory.mktemp("store")
    for number in range(RUNS):
        folder = run_folder(out, run_id(number))
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / ROWS_FILE).write_text("".join(line(number, index) for index in range(EVALUATIONS)) + END)
    return out


CLOCK = """
import resource, sys, time
def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
clocks = [clock()]
{}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss / 1024, *(b - a for x, y in zip(clocks, clocks[1:]) for a, b in zip(x, y)))
"""


def measure(code: str, *arguments: object) -> tuple[float, list[tuple[float, float]]]:
    """Peak MiB, and wall and CPU seconds between the times at which `code` appends `clock()` to `clocks`."""
    command = [sys.executable, "-c", CLOCK.format(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, *spans = map(float, done.stdout.splitlines()[-1].split())
    return peak, list(zip(spans[::2], spans[1::2], strict=True))


def say(benchmark: Any, names: tuple[str, ...], peak: float, spans: list[tuple[float, float]]) -> None:
    benchmark.extra_info |= {"runs": RUNS, "peak_mib": peak}
    print(f"\n{RUNS:,} runs, peak {peak:.0f} MiB")
    for name, (wall, cpu) in zip(names, spans, strict=True):
        benchmark.extra_info |= {f"{name}_s": wall, f"{name}_cpu_s": cpu}
        print(f"  {name}: {wall:.2f} s, CPU {cpu:.2f} s")


def test_parse_anew(store: Path, benchmark: Any) -> None:
    """Without a cache; leaves one."""
    import shutil

    shutil.rmtree(store / "cache", ignore_errors=True)
    code = "from results.store import read\nread(sys.argv[1])\nclocks.append(clock())"
    say(benchmark, ("parse",), *benchmark.pedantic(measure, args=(code, store)))


def test_store_to_table(store: Path, benchmark: Any) -> None:
    """From the cache. `check` is the part of `load` that asks every run's file whether it has changed."""
    from results.store import read

    read(store)
    code = """
from results.layout import ROWS_FILE, scan
list(scan(sys.argv[1], ROWS_FILE))
clocks.append(clock())
from analysis.tables.scores import tables, to_markdown
from results.store import read
clocks.append(clock())
frame = read(sys.argv[1])
clocks.append(clock())
(table,) = tables(frame)
to_markdown([table])
clocks.append(clock())
"""
    peak, spans = benchmark.pedantic(measure, args=(code, store))
    say(benchmark, ("check", "imports", "load", "table"), peak, spans)


@pytest.mark.parametrize(
    "verb",
    [
        ("table", "--format", "csv"),
        ("stats", "--reps", "2000", "--format", "csv"),
        ("plot", "--kind", "curves", "-o", "curves.pdf"),
        ("report", "-o", "report.html"),
    ],
    ids=lambda verb: verb[0],
)
def test_a_whole_command(store: Path, tmp_path: Path, verb: tuple[str, ...], benchmark: Any) -> None:
    """`covr-bench` on the store, as a user gives it."""
    code = f"""
import os
from covr_bench.cli.app import main
sys.argv = ["covr-bench", *{verb!r}, "--out", sys.argv[1]]
os.chdir({str(tmp_path)!r})
try:
    main()
except SystemExit:
    clocks.append(clock())
"""
    say(benchmark, verb[:1], *benchmark.pedantic(measure, args=(code, store)))
    for file in tmp_path.iterdir():
        print(f"  {file.name}: {file.stat().st_size / 1e6:.1f} MB")


STATUS_RUNS, RUNNING, STOPPED = 10_000, 1_000, 1_000  # the campaign of docs/scale.md


def test_status(tmp_path: Path, benchmark: Any) -> None:
    """`covr-bench status` of 10,000 runs, of which 1,000 run on other machines and 1,000 were interrupted."""
    fill_for_status(tmp_path / "out")
    code = """
import os
os.environ["XDG_CACHE_HOME"] = sys.argv[2]
from covr_bench.cli.app import main
sys.argv = ["covr-bench", "status", "--out", sys.argv[1]]
try:
    main()
except SystemExit:
    clocks.append(clock())
"""
    for look in ("first", "second"):  # which knows what the first saw
        peak, ((wall, cpu),) = measure(code, tmp_path / "out", tmp_path / "cache")
        benchmark.extra_info |= {f"{look}_s": wall, f"{look}_cpu_s": cpu, f"{look}_peak_mib": peak}
        print(f"\nstatus of {STATUS_RUNS:,} runs, {look} look: {wall:.2f} s, CPU {cpu:.2f} s, peak {peak:.0f} MiB")
    benchmark.pedantic(measure, args=(code, tmp_path / "out", tmp_path / "cache"))


def fill_for_status(out: Path) -> None:
    """Runs as they lie in a store: each with rows and its record, those that run with a lease."""
    first = run_id(0)
    config = {
        "env_steps": 100_000,
        "agent": "agent0",
        "suite": "dmc6",
        "settings": {f"setting{n}": n for n in range(30)},
    }
    provenance.begin(out, first, config=config, seeds={f"seed{n}": n for n in range(20)}, command="covr-bench run")
    record = (run_folder(out, first) / PROVENANCE_FILE).read_text()
    rows = "".join(line(0, index) for index in range(EVALUATIONS))
    lease = replace(holding_of_this_process(1, "its"), machine="another", host="node7", launcher="slurm")
    lease = replace(
        lease, progress={"phase": "train", "env_steps": 50_000, "env_steps_per_s": 28.0, "last_return": 1.0}
    )
    for number in range(STATUS_RUNS):
        folder = run_folder(out, run_id(number))
        folder.mkdir(parents=True, exist_ok=True)
        running, stopped = number < RUNNING, number < RUNNING + STOPPED
        status = "running" if running else "interrupted" if stopped else "finished"
        text = record.replace(first, run_id(number)).replace('"status": "running"', f'"status": "{status}"')
        (folder / PROVENANCE_FILE).write_text(text.replace('"wall_s": 0.0', '"wall_s": 3600.0'))
        (folder / ROWS_FILE).write_text(rows if stopped else rows + END)
        if running:
            (folder / LEASE_FILE).write_text(lease.to_json())


LAUNCHED = """
import os
from covr_bench.config.run_config import RunConfig
from covr_bench.launch import forked, local
from covr_bench.launch.execute import execute
from covr_bench.launch.local import LocalLauncher
from covr_bench.run.session import Session

out, runs, parts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
forked._execute = lambda *order: os._exit(0)

class NoOp(forked.ForkedLauncher):
    run = LocalLauncher.run  # without the import of what these runs do not use

def run(number):
    settings = {f"setting{n}": n for n in range(30)}
    return RunConfig(f"s@b/t/a/{number}", "s", 1, "t", "a", number, 10, 10, 1, 1, settings, out=out)

def bare():
    for _ in range(runs // parts):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)

class Ended:
    # A process that has ended at once: what remains is the launcher.

    descriptor = None

    def __init__(self, job):
        self.job = job
        self.ended = lambda: True
        self.status = lambda: 0

class StandIns(NoOp):
    start = lambda self, job, session: Ended(job)

if len(sys.argv) > 4:
    configs = [run(number) for number in range(runs)]
    local.TICK_S = 0.0  # nothing to wait for
    clocks.append(clock())
    jobs = execute(StandIns(forked.Settings()), configs, 8, Session("covr-bench run"))
    assert {str(job.state) for job in jobs} == {"finished"}
    clocks.append(clock())
else:
    for part in range(parts):
        bare()
        clocks.append(clock())
        configs = [run(part * runs + number) for number in range(runs // parts)]
        clocks.append(clock())
        execute(NoOp(forked.Settings()), configs, 2, Session("covr-bench run"))
        clocks.append(clock())
"""


def test_launcher_overhead(tmp_path: Path, benchmark: Any) -> None:
    """Milliseconds that a launched run takes beyond a bare fork of the same process, waited for."""
    _, spans = benchmark.pedantic(measure, args=(LAUNCHED, tmp_path, LAUNCHES, PARTS))
    each = LAUNCHES // PARTS
    bare, launched = spans[::3], spans[2::3]
    for name, at in (("wall", 0), ("cpu", 1)):
        costs = [[span[at] / each * 1e3 for span in kind] for kind in (bare, launched)]
        extra = median(of_run - of_fork for of_fork, of_run in zip(*costs, strict=True))
        benchmark.extra_info |= {f"fork_{name}_ms": median(costs[0]), f"overhead_{name}_ms": extra}
        print(f"\n{name}: a fork {median(costs[0]):.2f} ms, a run beyond it {extra:.2f} ms (medians of {PARTS})")


def test_launcher_by_itself(tmp_path: Path, benchmark: Any) -> None:
    """10,000 runs without their processes: the launcher's loop, and the memory of who launches so many."""
    runs = 10_000
    peak, (_, (wall, cpu)) = benchmark.pedantic(measure, args=(LAUNCHED, tmp_path, runs, 1, "stand-ins"))
    benchmark.extra_info |= {"peak_mib": peak, "loop_cpu_ms": cpu / runs * 1e3}
    print(f"\n{runs:,} runs: {wall / runs * 1e3:.2f} ms each, CPU {cpu / runs * 1e3:.2f} ms; peak {peak:.0f} MiB")
