"""What one run is: a value that can be printed, stored as JSON and handed to a process."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.kit.errors import UserError, unknown
from results.layout import variant_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from covr_bench.kit.api import AgentSpec
    from suites.base import Budget, Task


@dataclass(frozen=True)
class RunConfig:
    """One reproducible run. `suite`, `agent`: registry names or paths of files. Lengths in environment steps.

    agent_config: every setting of the agent, resolved. env: options given to the task's `make`.
    threads: torch threads; part of the run because sums in another order round differently.
    conv_kernel: `torch` or `winograd`, see `nets.set_conv_kernel`.
    variant: the suite's, by name. overrides: what the user set that concerns this run, as typed.
    """

    run_id: str
    suite: str
    suite_version: int
    task: str
    agent: str
    seed: int
    env_steps: int
    eval_every: int
    eval_episodes: int
    action_repeat: int
    agent_config: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    conv_kernel: str = "torch"
    out: str = "results"
    variant: str = ""
    overrides: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunConfig:
        return cls(**{item.name: record[item.name] for item in fields(cls) if item.name in record})


ASIDE_FIELDS = ("device", "threads", "conv_kernel", "out", "variant", "overrides")
"""What may differ when a stored run is continued: where it runs and how it was asked for, not what it computes."""


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """`["lr=1e-3", "env.render=fast"]` as a mapping. Raises UserError for anything else."""
    overrides: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UserError(f"--set takes key=value, got {item!r}")
        if key.strip() in overrides:
            raise UserError(f"--set gives {key.strip()!r} twice")
        overrides[key.strip()] = value.strip()
    return overrides


def resolve_agent(spec: AgentSpec, task: Task, budget: Budget, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The agent's settings: published defaults, then the task's, the budget's, the user's. Raises UserError.

    The base of an agent that wraps one is set as if it ran by itself, so that the two can be compared.
    """
    settings = _resolve(spec, task, _overrides_of(spec, budget.overrides), _overrides_of(spec, overrides))
    if spec.wraps:
        base = registry.agent(settings[spec.wraps])
        settings["base_settings"] = _resolve(
            base, task, _base_overrides(spec, base, budget.overrides), _base_overrides(spec, base, overrides)
        )
    return settings


def setting(agent_config: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A setting of an agent, or of the base it wraps."""
    return agent_config.get(name, agent_config.get("base_settings", {}).get(name, default))


def _resolve(spec: AgentSpec, task: Task, budgeted: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(spec.Config)
    try:
        config = adapter.validate_python({**spec.task_defaults.get(task.key, {}), **budgeted, **overrides})
    except ValidationError as error:
        # A default that follows from a bad setting is no second error.
        errors = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        lines = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in errors]
        raise UserError(f"bad setting of {spec.name}: " + "; ".join(lines)) from error
    return adapter.dump_python(config, mode="json")  # type: ignore[no-any-return]


def resolve_env(task: Task, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The `env.*` overrides as options of the task's `make`, each of the type of its default. Raises UserError."""
    from pydantic import TypeAdapter, ValidationError

    options = env_options(task)
    chosen = {}
    for key, text in overrides.items():
        name = key.removeprefix("env.")
        if name == key:
            continue
        if name not in options:
            raise unknown(f"setting of task {task.name}", key, (f"env.{option}" for option in options))
        try:
            chosen[name] = TypeAdapter(type(options[name])).validate_python(text)
        except ValidationError as error:
            raise UserError(f"bad setting of task {task.name}: {key} = {text!r}: {error.errors()[0]['msg']}") from error
    return chosen


def check_overrides(specs: Sequence[AgentSpec], tasks: Sequence[Task], overrides: Mapping[str, str]) -> None:
    """Every key belongs to some agent or to the environment. Raises UserError naming the nearest valid ones."""
    valid = {f"env.{option}" for task in tasks for option in env_options(task)}
    for spec in specs:
        valid |= _keys(spec, overrides)
    for key in overrides:
        if key not in valid:
            raise unknown("setting", key, valid)


def variant_name(overrides: Mapping[str, str], spec: AgentSpec) -> str:
    """What sets a run with these overrides apart from the agent as published, fit for a folder's name."""
    mine = {key: value for key, value in overrides.items() if key.startswith("env.")} | _overrides_of(spec, overrides)
    if spec.wraps:
        mine |= _base_overrides(spec, _base_of(spec, overrides), overrides)
    return variant_of(mine)


def concerning(spec: AgentSpec, overrides: Mapping[str, str]) -> dict[str, str]:
    """Those of a command's overrides that an agent's runs follow, as typed: it may name settings of other agents."""
    keys = _keys(spec, overrides)
    return {key: value for key, value in overrides.items() if key in keys or key.startswith("env.")}


def _keys(spec: AgentSpec, overrides: Mapping[str, str]) -> set[str]:
    """What settings of an agent, and of the base it wraps, can be called."""
    names, keys = _names(spec), set()
    if spec.wraps:
        base = _base_of(spec, overrides)
        keys = {f"{base.name}.{name}" for name in _names(base)}
        names |= _names(base)
    return keys | names | {f"{spec.name}.{name}" for name in names}


def _names(spec: AgentSpec) -> set[str]:
    return {item.name for item in fields(spec.Config)} - {"base_settings"}


def _overrides_of(spec: AgentSpec, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an agent: a plain `key` is for every agent that has it, `agent.key` for that one and goes before it."""
    names = _names(spec)
    shared = {key: value for key, value in overrides.items() if key in names}
    own = _prefixed(spec, overrides)
    return shared | {key: value for key, value in own.items() if key in names or not spec.wraps}


def _base_overrides(spec: AgentSpec, base: AgentSpec, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Those of an agent's base: its own, then `agent.key` of keys that are the base's and not the agent's."""
    theirs = {key: value for key, value in _prefixed(spec, overrides).items() if key not in _names(spec)}
    return _overrides_of(base, overrides) | theirs


def _prefixed(spec: AgentSpec, overrides: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{spec.name}."
    return {key.removeprefix(prefix): value for key, value in overrides.items() if key.startswith(prefix)}


def _base_of(spec: AgentSpec, overrides: Mapping[str, str]) -> AgentSpec:
    default = next(item.default for item in fields(spec.Config) if item.name == spec.wraps)
    return registry.agent(_overrides_of(spec, overrides).get(spec.wraps, default))


def env_options(task: Task) -> dict[str, Any]:
    """Options of the task's `make` with their defaults: its keyword-only parameters."""
    parameters = inspect.signature(task.make).parameters.values()
    return {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}
