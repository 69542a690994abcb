"""The Python face: what the commands do, as functions that return values, for notebooks and scripts.

What is wrong raises UserError with the sentence that the command would print::

    outcome = covr_bench.run("catch", agents=["drqv2"], budget="smoke")
    outcome.results.returns()
    results = covr_bench.read("results")
    with covr_bench.load_policy("catch@smoke/catch/drqv2/0") as policy:
        policy.play(episodes=3)

These are `run`, `plan`, `read` and `load_policy`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.config.experiment import design
from covr_bench.config.request import Request, by_name
from covr_bench.config.request import request as checked
from covr_bench.kit.errors import UserError, unknown
from covr_bench.kit.winograd import Choice, choose
from covr_bench.run.cores import cores
from covr_bench.run.machine import device, most_workers, rendering
from covr_bench.run.plan import plan as planned
from covr_bench.run.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from covr_bench.config.experiment import Experiment
    from covr_bench.launch.base import Job, Launcher, Watch
    from covr_bench.launch.seats import Placement
    from covr_bench.policies.play import TrainedPolicy
    from covr_bench.run.plan import Plan


@dataclass(frozen=True)
class Preparation:
    """An experiment ready to start on this machine.

    Attributes:
        experiment: What was asked for, found and checked.
        plan: Its runs, and what the store has of each.
        workers: Runs at a time.
        kernel: What convolves on a CPU, and why; in each run's provenance.
        launcher: What executes the runs.
        facts: What was chosen for rendering, for each run's provenance; empty where nothing is drawn with OpenGL.
        placement: How runs share the GPUs; None without `--per-gpu`.
    """

    experiment: Experiment
    plan: Plan
    workers: int
    kernel: Choice
    launcher: Launcher
    facts: Mapping[str, Any]
    placement: Placement | None = None


@dataclass(frozen=True)
class Results:
    """Rows of a store.

    Attributes:
        out: The store's folder.
        frame: A line per row: `suite, budget, task, agent, variant, seed, kind, env_steps, metric, value, ...`.
    """

    out: Path
    frame: pd.DataFrame

    def returns(self, env_steps: int | None = None, *, score: str = "last") -> pd.DataFrame:
        """The final return of every run, a line each; at or before `env_steps` where given.

        score: `last` (evaluation), `last3` (evaluations), `train10` (training episodes that ended in the last 10 % of
        the steps) or `auc` (mean over all evaluations). Raises UserError for another.
        """
        from analysis.rows.final import SCORES
        from analysis.rows.scores import final_scores

        if score not in SCORES:
            raise unknown("score", score, SCORES)
        return final_scores(self.frame, env_steps=env_steps, score=score)


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        plan: All its runs, those that were done before too.
        failed: Why each run that did not finish did not, by its id.
        results: The rows of all its runs.
    """

    plan: Plan
    failed: Mapping[str, str]
    results: Results


def prepare(request: Request) -> Preparation:
    """Find and check all that a request names, and look up what is done. Starts nothing. Raises UserError."""
    from covr_bench.launch.base import HasNodes
    from covr_bench.launch.find import make_launcher
    from covr_bench.track.trackers import chosen

    experiment, launcher = design(request), make_launcher(request.launcher, request.launcher_settings)
    nodes = launcher if isinstance(launcher, HasNodes) else None
    on = device(request.device, here=nodes is None)  # else its nodes may have what this machine lacks
    chosen(request.trackers, request.tracker_settings)  # complains before anything is measured
    kernel = choose(request.conv_kernel, on)
    todo = _plan(experiment, on, 1, kernel.kernel).todo
    facts = rendering() if any(experiment.suite.task(config.task).needs_gl for config in todo) else {}
    placement = _placement(request, launcher, on, facts) if request.per_gpu else None
    most = placement.workers if placement else 0
    asked = request.workers or most or (nodes.places(on) if nodes and todo else most_workers())
    workers = min(asked, max(len(todo), 1), *([most] if placement else []))
    plan = _plan(experiment, on, 1 if workers > 1 or nodes else cores().count, kernel.kernel)
    return Preparation(experiment, plan, workers, kernel, launcher, facts, placement)


def _placement(request: Request, launcher: Launcher, on: str, facts: Mapping[str, Any]) -> Placement:
    """How the launcher shares the GPUs. Raises UserError if it cannot."""
    from covr_bench.launch.base import SharesGpus

    assert request.per_gpu
    if not isinstance(launcher, SharesGpus):
        raise UserError(f"launcher {request.launcher} does not share GPUs: leave --per-gpu out, or --launcher local")
    if on != "cuda":
        mend = (
            "leave --device out" if on.startswith("cuda") else "leave --per-gpu out, or install a CUDA build of torch"
        )
        raise UserError(f"--per-gpu gives each run a GPU of its own, and the device is {on}: {mend}")
    return launcher.share_gpus(request.per_gpu, str(facts.get("gl_backend", "")))


def execute(preparation: Preparation, watch: Watch, warn: Callable[[str], None] = warnings.warn) -> list[Job]:
    """Run what is left to do, the longest first; returns the jobs.

    Args:
        preparation: Of `prepare`.
        watch: Shown the jobs a few times a second.
        warn: Told of trackers that fail.

    Raises:
        UserError: The folders of runs that begin anew cannot be moved, or a tracker lacks something.
        KeyboardInterrupt: The user asked to stop; all runs have checkpointed.
    """
    from covr_bench.launch.execute import execute as launch
    from covr_bench.run.cost.estimate import longest_first
    from covr_bench.track.trackers import make_trackers

    request = preparation.experiment.request
    session = Session(request.command(), dict(preparation.facts) | {"conv_kernel": preparation.kernel.reason})
    with make_trackers(request.trackers, request.tracker_settings, warn) as trackers:
        preparation.plan.prepare()
        todo = longest_first(preparation.plan.todo, preparation.facts)
        watchers = [watch, trackers.watch]
        return launch(preparation.launcher, todo, preparation.workers, session, watchers)


def run(suite: str | Path | Request, *, watch: Watch = lambda jobs: None, **options: Any) -> Outcome:
    """Train and evaluate agents on a suite, as `covr-bench run` does; the same call continues where it stopped.

    Args:
        suite: Name, or path of a `.py` file that defines SUITE; or a whole `Request`, without `options`.
        watch: Shown the jobs a few times a second.
        options: The fields of `Request`, also by their names on the command line: `agents`, `tasks`, `seeds`
            (`[0, 1]` or `"0-4"`), `budget`, `env_steps`, `settings` (`{"lr": 1e-3}`), `out`, ...

    Returns:
        The plan, what failed and why, and the rows.

    Raises:
        UserError: Something named does not exist, or does not fit.
    """
    preparation = prepare(_request(suite, options))
    jobs = execute(preparation, watch) if preparation.plan.todo else []
    failed = preparation.plan.left_out
    failed |= {job.config.run_id: job.error.strip() for job in jobs if job.state not in ("finished", "submitted")}
    return Outcome(preparation.plan, failed, _rows_of(preparation))


def plan(suite: str | Path | Request, **options: Any) -> Plan:
    """What `run` with the same arguments would do: `covr-bench run --dry-run` without the costs. Raises UserError."""
    return prepare(_request(suite, options)).plan


def read(
    out: str | Path = "results",
    *,
    suite: str = "",
    tasks: str | Sequence[str] = (),
    agents: str | Sequence[str] = (),
    runs: str | Sequence[str] | None = None,
) -> Results:
    """The rows of a store.

    Args:
        out: The store's folder.
        suite, tasks, agents: Only these, by name.
        runs: Only these, by id; all where None.

    Raises:
        UserError: There is no store, or it has no rows of that name.
    """
    from analysis.rows.scores import choose
    from results.store import read as read_rows

    out = os.path.expanduser(out)
    if not (Path(out) / "runs").is_dir():
        raise UserError(f"no results in {out}; covr_bench.run(...) or `covr-bench run` makes some")
    frame = read_rows(Path(out))
    chosen = {"tasks": _several(tasks), "agents": _several(agents)}
    if suite and suite not in (found := sorted(map(str, frame["suite"].unique()))):
        raise UserError(f"no run of suite {suite!r}; there are runs of: {', '.join(found) or 'none'}")
    frame = frame[frame["suite"] == suite] if suite else frame
    if runs is not None:
        there = set(frame["run_id"])
        for run in (wanted := _several(runs)):
            if run not in there:
                raise unknown(f"run in {out}", run, there)
        frame = frame[frame["run_id"].isin(wanted)]
    try:
        return Results(Path(out), choose(frame, **chosen) if any(chosen.values()) else frame)
    except ValueError as error:
        raise UserError(str(error)) from error


def load_policy(
    run: str | Path,
    out: str | Path = "results",
    *,
    task: str = "",
    settings: Mapping[str, Any] | Sequence[str] | None = None,
    device: str = "cpu",
    trust_code: bool = False,
) -> TrainedPolicy:
    """The newest policy of a stored run, or a published one, before its own task or another of the same shapes.

    Args:
        run: The run's id, its folder, a part of the id that no other has, or `hf:USER/NAME`, published on the hub.
        out: Folder of the results.
        task: `SUITE/TASK`; the run's own where empty.
        settings: Options of the task, such as `{"env.render": "fast"}`; or a list of `KEY=VALUE`.
        device: A torch device, or `auto`.
        trust_code: Run the agent's own code that a published policy brings along.

    Returns:
        A context manager that acts, plays episodes, and has its environment as `env`.

    Raises:
        UserError: The run, its weights or its files are gone, or the policy does not fit the task.
    """
    from covr_bench.policies.play import TrainedPolicy
    from covr_bench.run import machine

    chosen = [f"{key}={value}" for key, value in by_name("settings", settings or {}).items()]
    folder, on = Path(os.path.expanduser(out)), machine.device(str(device))
    return TrainedPolicy(folder, str(run), task=task, settings=chosen, device=on, trust_code=trust_code)


def _rows_of(preparation: Preparation) -> Results:
    """The rows of the runs of a plan, of which any may have none yet."""
    from results.store import no_rows
    from results.store import read as read_rows

    out = Path(preparation.experiment.request.out)
    frame = read_rows(out) if (out / "runs").is_dir() else no_rows()
    return Results(out, frame[frame["run_id"].isin(preparation.plan.run_ids)])


def _request(suite: str | Path | Request, options: Mapping[str, Any]) -> Request:
    if isinstance(suite, Request):
        return checked({**suite.as_dict(), **options}, "the request")
    return checked({"suite": suite, **options}, "the call")


def _several(names: str | Sequence[str]) -> Sequence[str]:
    """A single name where several can stand is one of them, not its letters."""
    return [names] if isinstance(names, str) else list(names)


def _plan(experiment: Experiment, on: str, threads: int, kernel: str) -> Plan:
    request = experiment.request
    runs = experiment.runs(device=on, threads=threads, conv_kernel=kernel)
    return planned(
        runs,
        restart=request.restart,
        accept_changed_code=request.accept_changed_code,
        keep_kernel=request.conv_kernel == "auto",
    )
