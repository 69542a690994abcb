"""What runs of earlier versions are called today.

The budget `paper` of the DeepMind Control suites once had the batch of the official scripts for RAD, CURL and DrQ, 128.
That budget is called `scripts` now, and `paper` has the batch of the papers' tables, 512. A run of the former is read
as one of `scripts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from results.line import json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

SUITES = ("dmc6", "dmc6-ar2", "dmc-hard")
AGENTS = ("rad", "curl", "drq")
SCRIPTS_BATCH = 128


def stored_budget(run_id: str, record: bytes) -> str:
    """What the budget of a stored run is called today. record: Content of its provenance; empty if there is none."""
    own = _protocol(run_id)[1]
    if not may_be_earlier(run_id) or not record:
        return own
    try:
        return budget(run_id, json_value(record)["config"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return own  # `show` and the report tell of a damaged record


def budget(run_id: str, config: Mapping[str, Any]) -> str:
    """What the budget of a run is called today. config: of its provenance."""
    own = _protocol(run_id)[1]
    try:
        earlier = may_be_earlier(run_id) and _has_the_scripts_batch(config)
    except (KeyError, TypeError, AttributeError):  # not recorded, or damaged
        return own
    return own.replace("paper", "scripts", 1) if earlier else own


def may_be_earlier(run_id: str) -> bool:
    """Whether a run could be one of an earlier version, by its id alone."""
    suite, budget = _protocol(run_id)
    return suite in SUITES and (budget == "paper" or budget.startswith("paper-"))


def _protocol(run_id: str) -> tuple[str, str]:
    suite, _, budget = run_id.partition("/")[0].partition("@")
    return suite, budget


def _has_the_scripts_batch(config: Mapping[str, Any]) -> bool:
    """Whether the agent, or the one it wraps, has it without having been set to it."""
    settings = config["agent_config"]
    learner, mine = (settings["base"], settings["base_settings"]) if "base" in settings else (config["agent"], settings)
    chosen = {key.rpartition(".")[2] for key in config["overrides"]}
    return learner in AGENTS and mine["batch_size"] == SCRIPTS_BATCH and "batch_size" not in chosen
