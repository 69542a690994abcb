"""Settings resolved once: what an agent and its task are set to, from defaults, budget, variant and user.

A setting can be named in four places, each of which overrides the ones before it: the agent's defaults for a task, the
budget, the suite's variant, and what the user set. A name that nothing has is refused wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from covr_bench.config import registry
from covr_bench.config.run_config import setting
from covr_bench.config.values import checked_config, typed
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError, unknown
from results.layout import variant_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from covr_bench.kit.api import AgentSpec
    from suites.base import Budget, Task

    WithBase = tuple[AgentSpec, AgentSpec | None]

ENV = "env."  # how the name of a setting of the environment begins
STAND_IN = "tiny"  # how the label `vlm` of the stand-ins that ship begins
SHOWN = {"pixels": "pixels", "state": "states"}  # what agents see and tasks offer, in a sentence


@dataclass(frozen=True)
class Settings:
    """What one agent on one task is set to, JSON values.

    Attributes:
        agent: Every field of the agent's Config; of an agent that wraps another, with that one's as `base_settings`.
        env: Options given to the task's `make`.
    """

    agent: Mapping[str, Any]
    env: Mapping[str, Any]


def resolve(spec: AgentSpec, task: Task, budget: Budget, *chosen: Mapping[str, str]) -> Settings:
    """Settings of an agent on a task.

    The base of an agent that wraps one is set as if it ran by itself, so that the two can be compared.

    Args:
        spec: The agent.
        task: The task.
        budget: Its `overrides` are settings, and its `stand_in` where a stand-in is the agent's VLM.
        *chosen: The variant's and the user's settings, by names that `check_names` has seen; later ones win.

    Raises:
        UserError: A bad value, or a task that does not offer what the agent needs.
    """
    settings = _checked(spec, task, _merged(_of_agent(spec, layer) for layer in (budget.overrides, *chosen)))
    if budget.stand_in and spec.labels(settings).get("vlm", "").startswith(STAND_IN):
        layers = (budget.overrides, budget.stand_in, *chosen)
        settings = _checked(spec, task, _merged(_of_agent(spec, layer) for layer in layers))
    if spec.wraps:
        base = registry.agent(settings[spec.wraps])
        of_base = _merged(_of_base(spec, base, layer) for layer in (budget.overrides, *chosen))
        settings["base_settings"] = _checked(base, task, of_base)
        _check_labels(spec, settings, base)
    env = of_env(task, _offered(task, budget.overrides)) | _needed_of_env(spec, task, settings)
    env |= _merged(of_env(task, layer) for layer in chosen)
    _check_sight(spec, task, env)
    return Settings(settings, env)


def _check_labels(spec: AgentSpec, settings: Mapping[str, Any], base: AgentSpec) -> None:
    """Raises UserError for a base whose VLM the rows of the agent that wraps it would not name."""
    theirs, ours = base.labels(settings["base_settings"]), spec.labels(settings)
    if any(ours.get(name) != label for name, label in theirs.items()):
        told = ", ".join(f"{name}={label}" for name, label in theirs.items())
        raise UserError(f"agent {spec.name} cannot wrap {base.name}, whose rows say {told}, and its own would not")


def _merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for layer in layers for key, value in layer.items()}


def of_env(task: Task, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that are options of the task's `make`, each of the option's type. Raises UserError."""
    from pydantic import ValidationError

    options, found = task.options, {}
    for key, value in chosen.items():
        name = key.removeprefix(ENV)
        if name == key:
            continue
        if name not in options:
            raise unknown(f"setting of task {task.name}", key, (f"{ENV}{option}" for option in options))
        try:
            found[name] = typed(_type_of(task, name), value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise UserError(f"bad setting of task {task.name}: {key} = {value!r}: {message}") from error
    try:
        task.repeat(found)
    except ValueError as error:
        raise UserError(f"bad setting of task {task.name}: {error}") from error
    return found


def _type_of(task: Task, option: str) -> Any:
    """The type that `make` names for its option, else that of the default."""
    try:
        named = get_type_hints(task.make).get(option, Any)
    except (TypeError, NameError):  # a callable without, or names that are there for a type checker only
        named = Any
    return type(task.options[option]) if named is Any else named


def _offered(task: Task, layer: Mapping[str, Any]) -> dict[str, Any]:
    """Without the options of the environment that a task lacks: a budget is for all tasks of its suite."""
    return {key: value for key, value in layer.items() if key.removeprefix(ENV) in {key, *task.options}}


def check_names(
    what: str, chosen: Mapping[str, Any], agents: Sequence[WithBase], tasks: Iterable[Task], *, others: bool = False
) -> None:
    """Every setting belongs to some agent or to the environment.

    Args:
        what: What each of them is, for the error, such as `setting of budget smoke`.
        chosen: Settings by name.
        agents: Those that are run, each with the base that it wraps.
        tasks: Tasks that are run.
        others: Whether settings of agents that are not run are fine too, as in a budget, which is for all of them.

    Raises:
        UserError: Names the nearest valid ones.
    """
    valid = {f"{ENV}{option}" for task in tasks for option in task.options}
    for spec, base in agents:
        valid |= names_of(spec, base)
    unclear = [key for key in chosen if key not in valid]
    if unclear and others:
        run = {spec.name for spec, _ in agents}
        for name in sorted(set(registry.our_agents()) - run, key=lambda name: not _prefixes_any(name, unclear)):
            other = registry.agent(name)
            valid |= names_of(other, base_of(other, chosen))
            if not (unclear := [key for key in unclear if key not in valid]):
                return
    for key in unclear:
        raise unknown(what, key, valid)


def base_of(spec: AgentSpec, *layers: Mapping[str, Any]) -> AgentSpec | None:
    """The base that an agent wraps with these settings, of which later ones win; None of one that wraps none."""
    if not spec.wraps:
        return None
    default = next(item.default for item in fields(spec.Config) if item.name == spec.wraps)
    return registry.agent(_merged(_of_agent(spec, layer) for layer in layers).get(spec.wraps, default))


def names_of(spec: AgentSpec, base: AgentSpec | None) -> set[str]:
    """What settings of an agent, and of the base it wraps, can be called: `key` and `agent.key`."""
    names, keys = _fields(spec), set()
    if base:
        keys = {f"{base.name}.{name}" for name in _fields(base)}
        names |= _fields(base)
    return keys | names | {f"{agent}.{name}" for agent in _addressed(spec) for name in names}


def concerning(spec: AgentSpec, base: AgentSpec | None, chosen: Mapping[str, str]) -> dict[str, str]:
    """Those of a command's settings that an agent's runs follow, as typed: it may name settings of other agents."""
    keys = names_of(spec, base)
    return {key: value for key, value in chosen.items() if key in keys or key.startswith(ENV)}


def variant_name(spec: AgentSpec, base: AgentSpec | None, chosen: Mapping[str, str]) -> str:
    """What sets a run with these settings apart from the agent as published, fit for a folder's name."""
    mine = {key: value for key, value in chosen.items() if key.startswith(ENV)} | _of_agent(spec, chosen)
    if base:
        mine |= _of_base(spec, base, chosen)
        if is_path(mine.get(spec.wraps, "")):
            mine[spec.wraps] = Path(mine[spec.wraps]).name
    return variant_of(mine)


def _checked(spec: AgentSpec, task: Task, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's own settings: its defaults, those for the task, and what was chosen."""
    defaults = spec.task_defaults.get(task.key, {})
    for key in defaults:
        if key not in _fields(spec):
            raise unknown(f"setting in task_defaults[{task.key!r}] of agent {spec.name}", key, _fields(spec))
    return checked_config(spec, {**defaults, **chosen})


def _needed_of_env(spec: AgentSpec, task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the environment that are the agent's to choose.

    One that crops says with its image_size how large frames are drawn; one that sees states is shown them where a task
    offers both. Raises UserError for a task that cannot be seen so.
    """
    if spec.sees not in (*task.observations, "nothing"):
        offered = " and ".join(SHOWN[kind] for kind in task.observations)
        raise UserError(f"agent {spec.name} sees {SHOWN[spec.sees]}; task {task.name} offers {offered} only")
    needed: dict[str, Any] = {}
    if spec.sees == "state" and "observation" in task.options:
        needed["observation"] = setting(settings, "observation", spec.sees)
    if size := setting(settings, "image_size"):
        needed["image_size"] = size
        if "image_size" not in task.options:
            raise UserError(
                f"agent {spec.name} needs image_size={size}, which task {task.name} does not offer; leave one of them "
                "out"
            )
    return needed


def _check_sight(spec: AgentSpec, task: Task, env: Mapping[str, Any]) -> None:
    """Raises UserError where a setting hides from an agent what it sees, or names nothing that there is to see."""
    shown = task.observed(env)
    if "observation" in env and shown not in task.observations:
        valid = ", ".join(task.observations)
        raise UserError(f"bad setting of task {task.name}: {ENV}observation = {shown!r}; valid: {valid}")
    if spec.sees not in ("nothing", shown):
        raise UserError(
            f"agent {spec.name} sees {SHOWN[spec.sees]}; with env.observation={shown} task {task.name} shows "
            f"{SHOWN[shown]}: leave that setting out"
        )


def _fields(spec: AgentSpec) -> set[str]:
    return {item.name for item in fields(spec.Config)} - {"base_settings"}


def _of_agent(spec: AgentSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an agent: a plain `key` is for every agent that has it, `agent.key` for that one and overrides it."""
    names, own = _fields(spec), _prefixed(spec, chosen)
    shared = {key: value for key, value in chosen.items() if key in names}
    return shared | {key: value for key, value in own.items() if key in names or not spec.wraps}


def _of_base(spec: AgentSpec, base: AgentSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an agent's base: its own, then `agent.key` of keys that are the base's and not the agent's."""
    theirs = {key: value for key, value in _prefixed(spec, chosen).items() if key not in _fields(spec)}
    return _of_agent(base, chosen) | theirs


def _prefixed(spec: AgentSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for prefix in (f"{agent}." for agent in _addressed(spec)):
        found |= {key.removeprefix(prefix): value for key, value in chosen.items() if key.startswith(prefix)}
    return found


def _addressed(spec: AgentSpec) -> tuple[str, ...]:
    """Whose settings `agent.key` are this agent's; a later one's override an earlier one's."""
    return (spec.follows, spec.name) if spec.follows else (spec.name,)


def _prefixes_any(name: str, keys: Iterable[str]) -> bool:
    return any(key.startswith(f"{name}.") for key in keys)
