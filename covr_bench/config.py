"""What one run is: a value that can be printed, stored as JSON and handed to a process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from covr_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from covr_bench.api import AgentSpec
    from suites.base import Budget, Task


@dataclass(frozen=True)
class RunConfig:
    """One reproducible run. `suite`, `agent`: registry names or paths of files. Lengths in environment steps.

    agent_config: every setting of the agent, resolved. env: options given to the task's `make`.
    threads: torch threads; part of the run because sums in another order round differently.
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
    out: str = "results"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunConfig:
        return cls(**{name: record[name] for name in (item.name for item in fields(cls))})


MACHINE_FIELDS = ("device", "threads", "out")
"""What may differ when a stored run is continued: where it runs, not what it computes."""


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A 31-bit seed for one source of randomness of a run: `(seed, purpose, index)` hashed by SHA-256."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def parse_overrides(items: Sequence[str]) -> dict[str, str]:
    """`["lr=1e-3", "env.render=fast"]` as a mapping. Raises UserError for anything else."""
    overrides: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UserError(f"--set takes key=value, got {item!r}")
        overrides[key.strip()] = value.strip()
    return overrides


def resolve_agent(spec: AgentSpec, task: Task, budget: Budget, overrides: Mapping[str, str]) -> dict[str, Any]:
    """The agent's settings: published defaults, then the task's, the budget's, the user's. Raises UserError.

    An override of the form `agent.key` is for that agent only; a plain `key` for every agent that has it.
    """
    from pydantic import TypeAdapter, ValidationError

    names = [item.name for item in fields(spec.Config)]
    mine = {key: value for key, value in overrides.items() if key in names}
    for key, value in overrides.items():
        owner, dot, name = key.rpartition(".")
        if dot and owner == spec.name:
            if name not in names:
                raise unknown(f"setting of {spec.name}", name, names)
            mine[name] = value
    budgeted = {key: value for key, value in budget.overrides.items() if key in names}
    adapter = TypeAdapter(spec.Config)
    try:
        config = adapter.validate_python({**spec.task_defaults.get(task.name, {}), **budgeted, **mine})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise UserError(f"bad setting of {spec.name}: " + "; ".join(lines)) from error
    return adapter.dump_python(config, mode="json")  # type: ignore[no-any-return]


def check_overrides(specs: Sequence[AgentSpec], overrides: Mapping[str, str]) -> None:
    """Every key belongs to some agent or to the environment. Raises UserError naming the nearest valid ones."""
    valid = {item.name for spec in specs for item in fields(spec.Config)}
    valid |= {f"{spec.name}.{item.name}" for spec in specs for item in fields(spec.Config)}
    for key in overrides:
        if key not in valid and not key.startswith("env."):
            raise unknown("setting", key, valid | {"env.render"})


def variant_name(overrides: Mapping[str, str], spec: AgentSpec) -> str:
    """What sets a run with these overrides apart from the agent as published, fit for a folder's name."""
    names = {item.name for item in fields(spec.Config)}
    mine = {}
    for key, value in overrides.items():
        short = key.removeprefix(f"{spec.name}.")
        if short in names or key.startswith("env."):
            mine[short] = value
    text = ",".join(f"{key}={value}" for key, value in sorted(mine.items()))
    if not text or (len(text) <= 60 and re.fullmatch(r"[\w.,=+-]+", text)):
        return text
    return "set-" + hashlib.sha256(text.encode()).hexdigest()[:8]
