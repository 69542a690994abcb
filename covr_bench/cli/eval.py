"""`covr-bench eval`: trained policies on another task, or on more episodes of their own."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import DeviceName, OfTask, Out, SetEnv, StartSeed, TrustCode, console, fail, say
from covr_bench.config import registry
from covr_bench.config.experiment import code_of_agent, code_of_suite
from covr_bench.config.run_config import ASIDE_FIELDS
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import derive_seed, starts
from covr_bench.policies.load import acting, find_run
from covr_bench.run.machine import device, rendering
from results import provenance
from results.code_identity import code_of, is_changed
from results.layout import FROM, PROVENANCE_FILE, RunId, StoreError, run_folder, variant_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from covr_bench.policies.load import Acting

    Measured = Mapping[str, list[float]]  # per metric one number an episode


def eval_command(
    run: Annotated[
        list[str], typer.Argument(help="Run ids, parts of ids that fit one run, folders of runs, or hf:USER/NAME.")
    ],
    task: OfTask = "",
    episodes: Annotated[int | None, typer.Option(min=1, help="Episodes. [the run's]")] = None,
    seed: StartSeed = None,
    set_: SetEnv = None,
    device: DeviceName = "auto",
    trust_code: TrustCode = False,
    out: Out = Path("results"),
) -> None:
    """Evaluate trained policies on another task of the same shapes, without training on it."""
    try:
        evaluate_runs(
            EvalOptions(tuple(run), task, episodes, seed, tuple(set_ or ()), device, out, trust_code), console()
        )
    except KeyboardInterrupt:
        fail("stopped; the same command goes on from here", 130)


@dataclass(frozen=True)
class EvalOptions:
    """The command line of `covr-bench eval`; empty and None mean the run's own.

    seed: of the starts; two runs given the same one meet the same episodes.
    """

    runs: tuple[str, ...]
    task: str = ""
    episodes: int | None = None
    seed: int | None = None
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    out: Path = Path("results")
    trust_code: bool = False


def evaluate_runs(options: EvalOptions, console: Console) -> None:
    """Evaluate every run named and store the rows.

    Raises UserError, after the others, for those that fail; at once for a name of no run.
    """
    folders, failures = [], []
    for run in options.runs:
        try:
            folders.append(find_run(options.out, run))
        except StoreError as error:
            failures.append(str(error))
    on = device(options.device)
    for folder in dict.fromkeys(folders):
        try:
            with acting(folder, options.task, options.overrides, device=on, trust_code=options.trust_code) as policy:
                _evaluate(policy, options, on, console)
        except (UserError, StoreError) as error:
            failures.append(str(error))
    if failures:
        raise UserError("\n".join(failures))


def _evaluate(policy: Acting, options: EvalOptions, device: str, console: Console) -> None:

    config = _config(policy, options, device)
    run_id, metrics = config["run_id"], _stored(options.out, config)
    if new := metrics is None:
        with console.status(f"{policy.config.run_id} on {policy.target.name} ..."):
            metrics = _measure(policy, options.out, config)
    assert metrics
    number = config["eval_episodes"]
    say(
        console,
        f"{policy.config.run_id} after {policy.env_steps:,} env steps, on {policy.target.name}: "
        f"{number} episode{'s' if number > 1 else ''} from the starts of seed {config['starts_seed']}",
    )
    if policy.target.dropped:
        say(console, f"  {policy.target.name} has no option {', '.join(policy.target.dropped)}: left out")
    if _has_other_code(policy, config):
        say(console, "  its agent's code is another than in training, which the rows say: code=changed")
    for name, values in metrics.items():
        say(console, f"  {name:<24} {summary(values)}")
    say(console, f"  {'rows in' if new else 'was already in'} {run_folder(options.out, run_id)}")


def summary(values: list[float]) -> str:
    """`31.2 ± 4.0 (n=10)`: mean, standard deviation of a sample, number; without deviation for one value."""
    import numpy as np

    spread = f" ± {np.std(values, ddof=1):.4g}" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread} (n={len(values)})"


def _config(policy: Acting, options: EvalOptions, device: str) -> dict[str, Any]:
    """What is evaluated and how, as JSON values: the run's configuration with the task's in its place."""
    run, target = policy.config, policy.target
    seed = run.seed if options.seed is None else options.seed
    episodes = options.episodes or run.eval_episodes
    changes: dict[str, str] = {f"eval.env.{name}": str(value) for name, value in target.changes.items()}
    changes |= {"eval.episodes": str(episodes)} if episodes != run.eval_episodes else {}
    changes |= {"eval.seed": str(seed)} if seed != run.seed else {}
    config = replace(
        run,
        run_id=str(_run_id(policy, changes)),
        suite=target.ref,
        suite_version=target.suite.version,
        task=target.task.name,
        env_steps=policy.env_steps,
        eval_episodes=episodes,
        action_repeat=target.action_repeat,
        overrides=run.overrides | changes,
        code=code_of_agent(run.agent, registry.agent(run.agent), run.agent_config)
        | {"suite": code_of_suite(target.ref)},
        conv_kernel="torch",  # a policy that only acts has no other
        env=dict(target.env),
        device=device,
        out=str(options.out),
    ).as_dict()
    weights = {"env_steps": policy.env_steps, "sha256": policy.saved.sha256}
    trained = {"run": run.run_id, "checkpoint": weights, "git_sha": policy.record["sessions"][-1]["git_sha"]}
    return json.loads(json.dumps(config | {"starts_seed": seed, "evaluated": trained}))  # type: ignore[no-any-return]


def _run_id(policy: Acting, changes: Mapping[str, str]) -> RunId:
    """Where the rows go: `carla@paper-from-carla.hw/a/covr/0`. Raises UserError for a name too long."""
    target = policy.target
    try:
        own = RunId.parse(policy.config.run_id)
        variant = ",".join(filter(None, (own.variant, variant_of(changes))))
        budget = f"{own.budget}{FROM}{own.suite}.{own.task}"
        return RunId(target.suite.name, budget, target.task.name, own.agent, variant, own.seed)
    except ValueError as error:
        raise UserError(str(error)) from error


def _stored(out: Path, config: Mapping[str, Any]) -> Measured | None:
    """What the store has of this very evaluation: of the same weights, under the same settings."""
    from results.store import read_run

    file = run_folder(out, config["run_id"]) / PROVENANCE_FILE
    if not file.exists():
        return None
    record = provenance.read(file)
    changed = {key: after for key, (_, after) in record["sessions"][-1].get("config_changes", {}).items()}
    differing = {key for key, value in (record["config"] | changed).items() if config.get(key) != value}
    if record["status"] != "finished" or differing - set(ASIDE_FIELDS) or is_changed(code_of(record), config["code"]):
        return None
    rows = read_run(out, config["run_id"])
    rows = rows[(rows["kind"] == "eval") & (rows["env_steps"] == config["env_steps"])]
    return {str(metric): list(values) for metric, values in zip(rows["metric"], rows["episodes"], strict=True)}


def _measure(policy: Acting, out: Path, config: Mapping[str, Any]) -> Measured:
    """Play the episodes and store their rows. Raises UserError if the policy's networks have diverged."""
    from covr_bench.run.contract import Diverged
    from covr_bench.run.evaluate import evaluate
    from results.store import RunWriter

    step, run_id, seed = policy.env_steps, config["run_id"], config["starts_seed"]
    resets = starts(seed, config["eval_episodes"])
    seeds = {"run": config["seed"], "eval_env": derive_seed(config["seed"], "eval_env")}
    seeds |= {f"eval_episode_{index}": reset for index, reset in enumerate(resets)}
    with RunWriter(out, run_id, action_repeat=config["action_repeat"], labels=_labels(policy, config)) as writer:
        provenance.begin(
            out,
            run_id,
            config=config,
            seeds=seeds,
            command=shlex.join(["covr-bench", *sys.argv[1:]]),
            wall_s=writer.wall_s,
            extra=rendering() if policy.target.task.needs_gl else {},
        )
        status = "interrupted"
        try:
            measured, agent_steps = evaluate(policy.agent, policy.env, resets, step), policy.saved.state["agent_steps"]
            writer.resume(step, agent_steps)  # rows of later steps are those of weights that are no more
            writer.write("eval", step, agent_steps, measured)
            writer.end()
            status = "finished"
        except Exception as error:
            status = "failed"
            writer.error(str(error))
            if isinstance(error, Diverged):
                raise UserError(f"run {policy.config.run_id}: {error}") from error
            raise
        finally:
            provenance.finish(out, run_id, status, wall_s=writer.wall_s)
    return measured


def _labels(policy: Acting, config: Mapping[str, Any]) -> dict[str, str]:
    """What the task's environment and the run mark rows with, and what the policy was trained on."""
    run = policy.config
    labels = dict(getattr(policy.env.unwrapped, "labels", {}))
    labels |= registry.agent(run.agent).labels(run.agent_config)
    accepted = any("accepted_changed_code" in session for session in policy.record["sessions"])
    if accepted or _has_other_code(policy, config):
        labels["code"] = "changed"
    own = RunId.parse(run.run_id)
    return labels | {"trained_on": f"{own.suite}/{own.task}"}


def _has_other_code(policy: Acting, config: Mapping[str, Any]) -> bool:
    """Whether a user's file that the agent is made of is another than in training. Of ours there is the commit."""
    run, trained = policy.config, code_of(policy.record)
    refs = {"agent": run.agent, **{what: str(run.agent_config.get(what, "")) for what in ("base", "vlm")}}
    return bool(trained) and is_changed(trained, {what: config["code"][what] for what in refs if is_path(refs[what])})
