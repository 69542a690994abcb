"""What a command will run: agents x tasks x seeds, less what is already done, and what it will cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covr_bench.config.run_config import (
    ASIDE_FIELDS,
    RunConfig,
    check_overrides,
    concerning,
    env_options,
    resolve_agent,
    resolve_env,
    setting,
    variant_name,
)
from covr_bench.kit.errors import UserError, unknown
from covr_bench.run.checkpoint import Checkpoints
from results import provenance
from results.layout import PROVENANCE_FILE
from results.store import RunId, run_folder
from suites.base import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from covr_bench.kit.api import AgentSpec
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
    variants: Sequence[str] = (),
    overrides: Mapping[str, str] | None = None,
    device: str = "cpu",
    out: str = "results",
) -> list[RunConfig]:
    """Every run the command means, seeds outermost so that each task has one seed before any has two.

    agents: specs by the reference the user gave. tasks, seeds: the suite's and the budget's own when empty.
    variants: only these of the suite's; one that changes nothing on a task is the same run as an earlier one and is
    left out. Raises UserError for an unknown task, variant or setting, and for names that cannot be kept apart.
    """
    overrides = overrides or {}
    chosen = _chosen(suite, tasks)
    check_overrides(list(agents.values()), chosen, overrides)
    _check_names(agents)
    line_up = _line_up(suite, agents, variants)
    configs = []
    for seed in seeds or budget.seeds:
        for task in chosen:
            seen: list[tuple[str, dict[str, Any]]] = []
            for ref, variant in line_up:
                spec = agents[ref]
                settings = resolve_agent(spec, task, budget, {**variant.settings, **overrides})
                if (ref, settings) in seen:
                    continue
                seen.append((ref, settings))
                drawn = _asked_of_env(spec, task, settings)
                configs.append(
                    RunConfig(
                        run_id=_run_id(suite, budget, task, spec, _called(variant, overrides, spec), seed),
                        suite=suite_ref,
                        suite_version=suite.version,
                        task=task.name,
                        agent=ref,
                        seed=seed,
                        env_steps=budget.env_steps,
                        eval_every=budget.eval_every,
                        eval_episodes=budget.eval_episodes,
                        action_repeat=task.action_repeat,
                        variant=variant.name,
                        overrides=concerning(spec, overrides),
                        agent_config=settings,
                        env=resolve_env(task, budget.overrides) | drawn | resolve_env(task, overrides),
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


def _chosen(suite: Suite, names: Sequence[str]) -> list[Task]:
    valid = [task.name for task in suite.tasks]
    for name in names:
        if name not in valid:
            raise unknown(f"task of suite {suite.name}", name, valid)
    wanted = names or suite.default_tasks or valid
    return [task for task in suite.tasks if task.name in wanted]


def _line_up(suite: Suite, agents: Mapping[str, AgentSpec], names: Sequence[str]) -> list[tuple[str, Variant]]:
    """Every agent as the suite runs it: the reference the user gave, and a variant."""
    theirs = {variant.name for variant in suite.variants if variant.agent in [spec.name for spec in agents.values()]}
    for name in names:
        if name not in theirs - {""}:
            raise unknown(f"variant of {', '.join(agents)} in suite {suite.name}", name, theirs - {""})
    line_up = []
    for ref, spec in agents.items():
        mine = [variant for variant in suite.variants if variant.agent == spec.name] or [Variant(spec.name, "")]
        line_up += [(ref, variant) for variant in mine if not names or variant.name in names]
    return line_up


def _asked_of_env(spec: AgentSpec, task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the environment that are the agent's to choose.

    One that crops says with its image_size how large frames are drawn; one that sees no pictures says with its
    observation what it is told instead. Raises UserError for a task that cannot be seen so.
    """
    asked = {name: value for name in ("image_size", "observation") if (value := setting(settings, name))}
    if missing := asked.keys() - env_options(task):
        names = ", ".join(f"{name}={asked[name]}" for name in sorted(missing))
        raise UserError(
            f"agent {spec.name} needs {names}, which task {task.name} does not offer; leave one of them out"
        )
    return asked


def _called(variant: Variant, overrides: Mapping[str, str], spec: AgentSpec) -> str:
    return ",".join(filter(None, (variant.name, variant_name(overrides, spec))))


def _check_names(agents: Mapping[str, AgentSpec]) -> None:
    refs: dict[str, str] = {}
    for ref, spec in agents.items():
        if spec.name in refs:
            raise UserError(f"{refs[spec.name]} and {ref} are both called {spec.name!r}; give one another name")
        refs[spec.name] = ref


def _run_id(suite: Suite, budget: Budget, task: Task, spec: AgentSpec, variant: str, seed: int) -> str:
    try:
        return str(RunId(suite.name, budget.name, task.name, spec.name, variant, seed))
    except ValueError as error:
        raise UserError(str(error)) from error


def _state(config: RunConfig) -> str:
    folder = run_folder(config.out, config.run_id)
    if not (folder / PROVENANCE_FILE).exists():
        return "to do"
    record = provenance.read(folder / PROVENANCE_FILE)
    if differing := _differences(record["config"], config.as_dict()):
        raise UserError(
            f"run {config.run_id} exists in {config.out} with other settings:\n  "
            + "\n  ".join(differing)
            + f"\nIts rows and new ones must not be mixed: give another --out, or delete {folder}"
        )
    if record["status"] == "finished":
        return "done"
    if Checkpoints(folder / "checkpoint").exists():
        return "to continue"
    return "failed before" if record["status"] == "failed" else "to do"


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line per setting that differs, `agent_config.lr: 0.0001 there, 0.001 here`."""
    there, here = ({key: value for key, value in each.items() if key not in ASIDE_FIELDS} for each in (stored, wanted))
    there, here = _flat(there), _flat(here)
    keys = [key for key in {**here, **there} if there.get(key) != here.get(key)]
    return [f"{key}: {there.get(key, 'not set')} there, {here.get(key, 'not set')} here" for key in keys]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in _flat(value).items()}
        else:
            flat[key] = value
    return flat
