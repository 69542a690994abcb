"""What a command will run: agents x tasks x seeds, less what is already done, and what it will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from covr_bench.checkpoint import Checkpoints
from covr_bench.config import MACHINE_FIELDS, RunConfig, check_overrides, resolve_agent, variant_name
from covr_bench.errors import UserError, unknown
from results import provenance
from results.store import RunId, StoreError, run_folder

if TYPE_CHECKING:
    from covr_bench.api import AgentSpec
    from suites.base import Budget, Suite, Task


@dataclass(frozen=True)
class Planned:
    """A run of the plan. state: `to do`, `to continue` (has a checkpoint), `failed before` or `done`."""

    config: RunConfig
    state: str


def configure(
    suite: Suite,
    suite_ref: str,
    agents: Mapping[str, AgentSpec],
    budget: Budget,
    *,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    overrides: Mapping[str, str] | None = None,
    device: str = "cpu",
    out: str = "results",
) -> list[RunConfig]:
    """Every run the command means, seeds outermost so that each task has one seed before any has two.

    agents: specs by the reference the user gave. tasks, seeds: all of the suite's and the budget's when empty.
    Raises UserError for an unknown task or setting.
    """
    overrides = overrides or {}
    check_overrides(list(agents.values()), overrides)
    env = {key.removeprefix("env."): value for key, value in overrides.items() if key.startswith("env.")}
    configs = []
    for seed in seeds or budget.seeds:
        for task in _chosen(suite, tasks):
            for ref, spec in agents.items():
                run_id = RunId(suite.name, budget.name, task.name, spec.name, variant_name(overrides, spec), seed)
                configs.append(
                    RunConfig(
                        run_id=str(run_id),
                        suite=suite_ref,
                        suite_version=suite.version,
                        task=task.name,
                        agent=ref,
                        seed=seed,
                        env_steps=budget.env_steps,
                        eval_every=budget.eval_every,
                        eval_episodes=budget.eval_episodes,
                        action_repeat=task.action_repeat,
                        agent_config=resolve_agent(spec, task, budget, overrides),
                        env=dict(env),
                        device=device,
                        out=out,
                    )
                )
    return configs


def plan(configs: Sequence[RunConfig]) -> list[Planned]:
    """The runs with what the store already has of each.

    Raises UserError when a stored run of the same name has other settings: rows of both would be mixed.
    """
    return [Planned(config, _state(config)) for config in configs]


def with_threads(config: RunConfig, threads: int) -> RunConfig:
    return replace(config, threads=threads)


def _chosen(suite: Suite, names: Sequence[str]) -> list[Task]:
    valid = [task.name for task in suite.tasks]
    for name in names:
        if name not in valid:
            raise unknown(f"task of suite {suite.name}", name, valid)
    return [task for task in suite.tasks if not names or task.name in names]


def _state(config: RunConfig) -> str:
    folder = run_folder(config.out, config.run_id)
    if not (folder / "provenance.json").exists():
        return "to do"
    try:
        record = provenance.read(folder / "provenance.json")
    except StoreError as error:
        raise UserError(str(error)) from error
    if differing := _differences(record["config"], config.as_dict()):
        raise UserError(
            f"run {config.run_id} exists in {config.out} with other settings ({', '.join(differing)}); its rows and "
            "new ones must not be mixed. Give another --out, or delete " + str(folder)
        )
    if record["status"] == "finished":
        return "done"
    if Checkpoints(folder / "checkpoint").exists():
        return "to continue"
    return "failed before" if record["status"] == "failed" else "to do"


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    keys = [key for key in wanted if key not in MACHINE_FIELDS and stored.get(key) != wanted[key]]
    return [f"{key}: {stored.get(key)} there, {wanted[key]} here" for key in keys]
