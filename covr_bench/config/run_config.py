"""What one run is: a value that can be printed, stored as JSON and handed to a process."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class RunConfig:
    """One reproducible run. Lengths are environment steps.

    Attributes:
        suite, agent: Registry names, or paths of files.
        agent_config: Every setting of the agent, resolved. env: Options given to the task's `make`.
        threads: Torch threads; sums in another order round differently.
        conv_kernel: What convolves on a CPU, `torch` or `winograd`.
        variant: The suite's, by name. overrides: What the user set that concerns this run, as typed.
        code: Hashes of the source of the agent, of the base that it wraps, and of the suite and the VLM where these are
            files, of the VLM also a model's folder, see `kit.code`: by `agent`, `base`, `suite`, `vlm`.
        checkpoint_every_s: Seconds between checkpoints.
        options: The request that asks for this run alone, see `config.request`.
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
    code: dict[str, str] = field(default_factory=dict)
    checkpoint_every_s: float = 300.0
    options: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> RunConfig:
        """The inverse of `as_dict`; keys of other versions are passed over. Raises UserError if one is missing."""
        needed = [item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING]
        if missing := [name for name in needed if name not in record]:
            raise UserError(
                f"the record of run {record.get('run_id', 'unknown')} is damaged: its config has no "
                f"{', '.join(missing)}. Restore its provenance.json from a copy, or delete its folder to train it anew"
            )
        return cls(**{item.name: record[item.name] for item in fields(cls) if item.name in record})


ASIDE_FIELDS = (
    *("device", "threads", "conv_kernel", "out", "variant", "overrides", "checkpoint_every_s", "options"),
    *("suite", "agent", "code"),  # their names are in the run's id, and code is compared by itself
)
"""What may differ when a stored run is continued: where it runs and how it was asked for, not what it computes."""

HANDFUL = 8  # frames of replay for an agent that reads none


def replay_slots(config: RunConfig, replay_frames: int | None) -> int:
    """Replay slots a run needs: its frames and one more per episode, at most as many as the agent reads.

    Of episodes shorter than eight decisions, which take more, the run's oldest frames go.

    Args:
        config: The run.
        replay_frames: `AgentSpec.replay_frames`.
    """
    agent_steps = config.env_steps // config.action_repeat
    needed = agent_steps + agent_steps // 8 + 64
    wanted = setting(config.agent_config, "replay_capacity", needed) if replay_frames is None else replay_frames
    return int(min(max(wanted, HANDFUL), needed))


def setting(agent_config: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A setting of an agent, or of the base it wraps."""
    return agent_config.get(name, agent_config.get("base_settings", {}).get(name, default))


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line per setting that differs, `agent_config.lr: 0.0001 there, 0.001 here`."""
    there, here = ({key: value for key, value in each.items() if key not in ASIDE_FIELDS} for each in (stored, wanted))
    there, here = _flat(there), _flat(here)
    keys = [key for key in {**here, **there} if json.dumps(there.get(key)) != json.dumps(here.get(key))]  # NaN is NaN
    return [f"{key}: {there.get(key, 'not set')} there, {here.get(key, 'not set')} here" for key in keys]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": item for name, item in _flat(value).items()}
        else:
            flat[key] = value
    return flat
