"""Differences between two sets of runs that their provenance tells: settings, code, packages."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from analysis.compare.run_sets import runs_of_sets
from analysis.rows.scores import same_steps
from results.code_identity import agent_code, code_changes, content_hash, suite_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from analysis.compare.run_sets import Match, Record, RunSet

PROTOCOL_KEYS = ("suite_version", "env_steps", "eval_every", "eval_episodes")  # a difference forbids to compare
# Not settings: the key states them, or no result depends on them; the code is compared by itself.
_NOT_SETTINGS = ("run_id", "suite", "task", "agent", "seed", "action_repeat", "out", "code", "options")
_MAX_NAMES = 3  # commits or agents that are named; the rest is counted


def description(run_set: RunSet, runs: Sequence[pd.DataFrame]) -> str:
    """Name of a set, the commits (or packages) its runs were made with, and the hashes of its agents' code."""
    records = run_set.records_of(runs)
    return f"{run_set.name} ({_projects(records)}; {_agents(records)})" if records else run_set.name


def _projects(records: Sequence[Record]) -> str:
    environments = [record.get("environment") or {} for record in records]
    packages = Counter(_package(each) for each in environments if content_hash(each))
    commits = Counter(
        str(each.get("git_sha") or "")[:7] or "unknown" for each in environments if not content_hash(each)
    )
    dirty = sum(bool(each.get("git_dirty")) for each in environments)
    parts = [f"commit {_counted(commits)}"] if commits else []
    parts += [_counted(packages)] if packages else []
    parts += [f"{dirty} of {len(environments)} runs with uncommitted changes"] if dirty else []
    return ", ".join(parts)


def _package(environment: Record) -> str:
    return f"covr-bench {environment.get('version') or 'of unknown version'}, content {content_hash(environment)}"


def _agents(records: Sequence[Record]) -> str:
    """`agent code sac 1f2e3d4c5b6a, drq 0a1b2c3d4e5f`."""
    known = Counter(
        f"{(record.get('config') or {}).get('agent', 'agent')} {agent_code(record)}"
        for record in records
        if agent_code(record)
    )
    missing = sum(not agent_code(record) for record in records)
    if not known:
        return "agent code not recorded"
    rest = f", not recorded for {missing} of {len(records)} runs" if missing else ""
    return f"agent code {_counted(known)}{rest}"


def _counted(names: Counter[str]) -> str:
    """The most frequent names, and how many more there are."""
    shown = ", ".join(name for name, _ in names.most_common(_MAX_NAMES))
    return shown + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")


def setting_differences(a: Sequence[Record], b: Sequence[Record]) -> tuple[str, str]:
    """In words, the differing settings that forbid to compare, and the others; empty if a set has no record."""
    protocol, other = [], []
    settings_a, settings_b = ([_flat(record.get("config") or {}) for record in records] for records in (a, b))
    for name in sorted({name for each in (*settings_a, *settings_b) for name in each}) if a and b else ():
        ours, theirs = (sorted({each.get(name, "not set") for each in side}) for side in (settings_a, settings_b))
        if name == "env_steps" and same_steps(*_span([*ours, *theirs])):  # of a policy, when its episode ended
            continue
        if name in PROTOCOL_KEYS and (ours != theirs or len(ours) > 1):
            protocol.append(_difference(f"{name}:", ours, theirs))
        elif ours != theirs:
            other.append(_difference(f"{name}:", ours, theirs))
    return "; ".join(protocol), "; ".join(other)


def _span(steps: Sequence[str]) -> tuple[float, float]:
    """The fewest and the most of `env_steps` as JSON; endlessly far apart where one is no number."""
    known = [int(each) for each in steps if each.isdecimal()]
    return (min(known), max(known)) if len(known) == len(steps) else (0.0, float("inf"))


def code_differences(a: Sequence[Record], b: Sequence[Record]) -> str:
    """In words, where the code of the agent or of the suite's file differs; empty if a set has no record of it."""
    parts = []
    for name, hash_of in (("agent", agent_code), ("suite", suite_code)):
        ours, theirs = (sorted({hash_of(record) for record in records} - {""}) for records in (a, b))
        if ours and theirs and ours != theirs:
            parts.append(_difference(name, ours, theirs))
    return "; ".join(parts)


def changed_code(run_set: RunSet, runs: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """Yield seed and change (see `code_changes`) of runs that went on with changed code."""
    for seed, run in zip(runs["seed"], runs["run_id"], strict=True):
        for change in code_changes(run_set.records.get(run, {})):
            yield int(seed), change


def missing_records(a: RunSet, b: RunSet, matches: Sequence[Match]) -> list[str]:
    """Remarks on sets whose runs have no provenance."""
    remarks = []
    for letter, run_set, runs in runs_of_sets(a, b, matches):
        count = sum(map(len, runs))
        if missing := count - len(run_set.records_of(runs)):
            part = "has no provenance" if missing == count else f"has no provenance of {missing} of {count} runs"
            remarks.append(f"{letter} {part}: suite version, lengths of evaluations and settings are not checked there")
    return remarks


def version_differences(a: RunSet, b: RunSet, matches: Sequence[Match]) -> list[str]:
    """A remark on the packages whose versions differ."""
    ours, theirs = (_versions(run_set.records_of(runs)) for _, run_set, runs in runs_of_sets(a, b, matches))
    differing = [
        _difference(name, sorted(ours.get(name, {"none"})), sorted(theirs.get(name, {"none"})))
        for name in sorted(ours | theirs)
        if ours.get(name) != theirs.get(name)
    ]
    return [f"versions differ: {'; '.join(differing)}"] if ours and theirs and differing else []


def _versions(records: Iterable[Record]) -> dict[str, set[str]]:
    """By package its versions."""
    versions: dict[str, set[str]] = {}
    for environment in (record.get("environment") or {} for record in records):
        python = {"python": environment["python"]} if "python" in environment else {}
        for package, version in (python | (environment.get("packages") or {})).items():
            versions.setdefault(package, set()).add(version)
    return versions


def _difference(name: str, ours: Sequence[str], theirs: Sequence[str]) -> str:
    return f"{name} {' and '.join(ours)} in A, {' and '.join(theirs)} in B"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if not prefix and name in _NOT_SETTINGS:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value)
    return flat
