"""The two sides of a comparison: which of their runs can be compared, and what keeps the others apart."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.rows.external import OPTIONAL
from analysis.rows.remarks import gathered
from analysis.rows.scores import CELL, agent_name, final_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Key = tuple[Any, ...]  # values of CELL
PROTOCOL_KEYS = ("suite_version", "env_steps", "eval_every", "eval_episodes")  # a difference forbids to compare
_NOT_SETTINGS = ("run_id", "suite", "task", "agent", "seed", "action_repeat", "out")  # said by the key, or by none
_MAX_COMMITS = 3  # named before the rest are only counted


@dataclass(frozen=True)
class Side:
    """name: as the user gave it. frame: rows as of `results.store.read`. records: the provenance of its runs by run id,
    of those that have one. outside: whether the scores are from elsewhere, where none has.
    """

    name: str
    frame: pd.DataFrame
    records: Mapping[str, Mapping[str, Any]]
    outside: bool = False


@dataclass(frozen=True)
class Match:
    """The runs of one agent on one task in A and B, lines of `analysis.rows.scores.final_scores`."""

    key: Key
    a: pd.DataFrame
    b: pd.DataFrame

    @property
    def name(self) -> str:
        return name_of(self.key)

    @property
    def task(self) -> str:
        return str(self.key[CELL.index("task")])


def matches(
    a: Side, b: Side, *, env_steps: int | None = None, metric: str = "return"
) -> tuple[list[Match], list[str], list[str]]:
    """What can be compared, under equal suites, budgets, labels, action repeats and suite versions; what differs
    between the settings of those; and what is not compared, with its reason.
    """
    noted: list[str] = []
    a, b = _stated(a, b, noted), _stated(b, a, noted)
    scores = [final_scores(side.frame, env_steps=env_steps, metric=metric) for side in (a, b)]
    left, right = ({tuple(key): runs for key, runs in each.groupby(CELL, sort=True)} for each in scores)
    found, refused = [], dict[tuple[str, str], list[str]]()
    settings: dict[tuple[str, str], list[str]] = {}
    for key in (key for key in left if key in right):
        match = Match(key, left[key], right[key])
        protocol, other = _differing(_configs(a, match.a), _configs(b, match.b))
        if protocol:
            refused.setdefault((match.name, f"not compared: {protocol}"), []).append(match.task)
            continue
        if other:
            settings.setdefault((match.name, f"settings differ: {other}"), []).append(match.task)
        found.append(match)
    alone = _alone([key for key in left if key not in right], [key for key in right if key not in left])
    for name, task, reason in alone:
        refused.setdefault((name, reason), []).append(task)
    said = [*noted, *_unrecorded(a, b, found), *gathered(settings), *_environments(a, b, found)]
    return found, said, gathered(refused)


def name_of(key: Key) -> str:
    """The agent of a cell as it is shown."""
    part = dict(zip(CELL, key, strict=True))
    return agent_name(part["agent"], part["variant"], part["labels"])


def described(side: Side, run_ids: Iterable[str]) -> str:
    """A side by name, and the commits its runs were made with."""
    facts = [side.records[run]["environment"] for run in run_ids if run in side.records]
    commits = Counter(str(each.get("git_sha") or "")[:7] or "unknown" for each in facts)
    dirty = sum(bool(each.get("git_dirty")) for each in facts)
    shown = ", ".join(commit for commit, _ in commits.most_common(_MAX_COMMITS))
    more = f" and {len(commits) - _MAX_COMMITS} more" if len(commits) > _MAX_COMMITS else ""
    changed = f", {dirty} of {len(facts)} runs with uncommitted changes" if dirty else ""
    return f"{side.name} (commit {shown}{more}{changed})" if commits else side.name


def _stated(side: Side, other: Side, noted: list[str]) -> Side:
    """Scores from elsewhere that state neither suite nor budget are taken to be of the other side's only ones."""
    frame, suites = side.frame, other.frame[["suite", "budget"]].drop_duplicates().astype(str)
    unstated = [OPTIONAL["suite"], OPTIONAL["budget"]]
    mine = frame[["suite", "budget"]].drop_duplicates().astype(str).to_numpy().tolist()
    if not side.outside or other.outside or mine != [unstated]:
        return side
    if len(suites) > 1:
        titles = ", ".join(f"{suite}@{budget}" for suite, budget in suites.to_numpy())
        noted.append(
            f"{side.name} states no suite and budget, and there are {titles}: choose with --suite, or state it"
        )
        return side
    (suite, budget), unsaid = suites.to_numpy()[0], "suite or budget"
    frame = frame.assign(suite=suite, budget=budget)
    repeats = other.frame.groupby("task", observed=True)["action_repeat"].agg(["min", "max"])
    single = {str(task): int(low) for task, low, high in repeats.itertuples() if low == high}
    if (frame["action_repeat"] == OPTIONAL["action_repeat"]).all():
        frame = frame.assign(action_repeat=[single.get(str(task), OPTIONAL["action_repeat"]) for task in frame["task"]])
        unsaid = "suite, budget or action repeat"
    noted.append(f"{side.name} states no {unsaid}: taken to be {other.name}'s, {suite}@{budget}")
    return Side(side.name, frame, side.records, side.outside)


def _configs(side: Side, runs: pd.DataFrame) -> list[dict[str, str]]:
    return [_flat(side.records[run]["config"]) for run in runs["run_id"] if run in side.records]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix or name not in _NOT_SETTINGS:
            flat[prefix + name] = json.dumps(value)
    return flat


def _differing(a: Sequence[Mapping[str, str]], b: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """In words, the differing settings that forbid to compare, and the others; none where a side has no record."""
    protocol, other = [], []
    for name in sorted({name for each in (*a, *b) for name in each}) if a and b else ():
        ours, theirs = (sorted({each.get(name, "not set") for each in side}) for side in (a, b))
        if name in PROTOCOL_KEYS and (ours != theirs or len(ours) > 1):
            protocol.append(f"{name}: {' and '.join(ours)} in A, {' and '.join(theirs)} in B")
        elif ours != theirs:
            other.append(f"{name}: {' and '.join(ours)} in A, {' and '.join(theirs)} in B")
    return "; ".join(protocol), "; ".join(other)


def _alone(a: Sequence[Key], b: Sequence[Key]) -> Iterator[tuple[str, str, str]]:
    """Agent, task and why it is not compared, of what one side has and the other has not, or has otherwise."""
    agent, task = CELL.index("agent"), CELL.index("task")
    taken = set()
    for key in a:
        near = [other for other in b if (other[agent], other[task]) == (key[agent], key[task])]
        if near:
            other = min(near, key=lambda other: sum(x != y for x, y in zip(key, other, strict=True)))
            taken.add(other)
            parts = [
                f"{field} {x or 'none'} in A, {y or 'none'} in B"
                for field, x, y in zip(CELL, key, other, strict=True)
                if x != y and field != "setting"
            ]
            yield str(key[agent]), str(key[task]), f"not compared: {'; '.join(parts)}"
        else:
            yield name_of(key), str(key[task]), "only in A"
    for key in b:
        if key not in taken:
            yield name_of(key), str(key[task]), "only in B"


def _unrecorded(a: Side, b: Side, found: Sequence[Match]) -> list[str]:
    said = []
    for letter, side, runs in (("A", a, [m.a for m in found]), ("B", b, [m.b for m in found])):
        ids = [run for each in runs for run in each["run_id"]]
        if missing := sum(run not in side.records for run in ids):
            part = "has no provenance" if missing == len(ids) else f"has no provenance of {missing} of {len(ids)} runs"
            said.append(f"{letter} {part}: suite version, lengths of evaluations and settings are not checked there")
    return said


def _environments(a: Side, b: Side, found: Sequence[Match]) -> list[str]:
    """The packages whose versions differ."""
    versions: list[dict[str, set[str]]] = []
    for side, runs in ((a, [m.a for m in found]), (b, [m.b for m in found])):
        seen: dict[str, set[str]] = {}
        for run in (run for each in runs for run in each["run_id"] if run in side.records):
            facts = side.records[run]["environment"]
            for package, version in {"python": facts["python"], **facts["packages"]}.items():
                seen.setdefault(package, set()).add(version)
        versions.append(seen)
    ours, theirs = versions
    differing = [
        f"{name} {' and '.join(sorted(ours.get(name, {'none'})))} in A, "
        f"{' and '.join(sorted(theirs.get(name, {'none'})))} in B"
        for name in sorted(ours | theirs)
        if ours.get(name) != theirs.get(name)
    ]
    return [f"versions differ: {'; '.join(differing)}"] if ours and theirs and differing else []
