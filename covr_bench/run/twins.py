"""Agents that the store has under another name: `lr=1e-3` and `lr=0.001` are one setting, and two agents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from covr_bench.config.run_config import ASIDE_FIELDS
from results import provenance
from results.layout import PROVENANCE_FILE, StoreError, run_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from covr_bench.config.run_config import RunConfig


def twins(configs: Iterable[RunConfig]) -> list[str]:
    """In words, the agents that are new to their store by their names, and not by their settings."""
    found: dict[str, str] = {}
    names_by_task: dict[Path, dict[str, str]] = {}
    for config in configs:
        agent = run_folder(config.out, config.run_id).parent
        if agent.name in found or agent.exists():
            continue
        if agent.parent not in names_by_task:
            names_by_task[agent.parent] = _names_by_settings(agent.parent)
        if there := names_by_task[agent.parent].get(_settings(agent, config.as_dict())):
            found[agent.name] = there
    return [
        f"{name} has the settings of {there}, which the store has: tables will show two agents. To go on with that "
        "one, write its settings as they were written there"
        for name, there in found.items()
    ]


def _names_by_settings(task: Path) -> dict[str, str]:
    """By settings, the name of an agent that was run on a task with them. One without a record to read has none."""
    names: dict[str, str] = {}
    for agent in sorted(task.glob("*")) if task.is_dir() else ():
        for file in sorted(agent.glob(f"*/{PROVENANCE_FILE}"))[:1]:
            try:
                record = provenance.read(file)
            except (StoreError, OSError):
                continue
            names.setdefault(_settings(agent, record["config"]), agent.name)
    return names


def _settings(agent: Path, config: Mapping[str, Any]) -> str:
    """All that sets an agent's runs on a task apart from another's, as text. agent: its folder."""
    own = {key: value for key, value in config.items() if key not in (*ASIDE_FIELDS, "run_id", "seed")}
    return json.dumps([agent.name.partition("-")[0], own], sort_keys=True, default=str)
