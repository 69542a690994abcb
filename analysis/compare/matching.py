"""Which runs of two sets can be compared, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.compare.records import code_differences, missing_records, setting_differences, version_differences
from analysis.compare.run_sets import Match, agent_of
from analysis.rows.final import LAST
from analysis.rows.lines import OPTIONAL
from analysis.rows.remarks import merged_remarks
from analysis.rows.scores import CELL, PROTOCOL, final_scores, protocol_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from analysis.compare.run_sets import Key, RunSet


ONLY_IN_A = "only in A"
NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Matches:
    """Which runs can be compared.

    matches: those that can. remarks: what differs between their settings. excluded: the rest, with reasons. missing:
    agents on tasks that A alone has. not_compared: those that both have, under protocols that differ.
    """

    matches: list[Match]
    remarks: list[str]
    excluded: list[str]
    missing: list[str]
    not_compared: list[str]


def match_runs(
    a: RunSet, b: RunSet, *, env_steps: int | None = None, metric: str = "return", score: str = LAST
) -> Matches:
    """Pair the runs of A and B under equal suites, budgets, labels, tasks, action repeats and suite versions.

    Args:
        a, b: The two sets.
        env_steps: Score what was measured up to this environment step; everything if None.
        metric: What the evaluations measured.
        score: One of `analysis.rows.final.SCORES`.
    """
    protocol_remarks: list[str] = []
    a, b = _with_protocol(a, b, protocol_remarks), _with_protocol(b, a, protocol_remarks)
    cells_a, cells_b = (_cells(each, env_steps, metric, score) for each in (a, b))
    matches: list[Match] = []
    excluded: dict[tuple[str, str], list[str]] = {}
    differing: dict[tuple[str, str], list[str]] = {}
    for match in (Match(key, runs, cells_b[key]) for key, runs in cells_a.items() if key in cells_b):
        records = a.records_of([match.a]), b.records_of([match.b])
        protocol, settings = setting_differences(*records)
        if protocol:
            excluded.setdefault((match.name, f"{NOT_COMPARED}: {protocol}"), []).append(match.task)
            continue
        for what, difference in (("settings differ", settings), ("code differs", code_differences(*records))):
            if difference:
                differing.setdefault((match.name, f"{what}: {difference}"), []).append(match.task)
        matches.append(match)
    for name, task, reason in _unmatched(list(cells_a), list(cells_b)):
        excluded.setdefault((name, reason), []).append(task)
    missing, not_compared = (
        [f"{name} on {task}" for (name, reason), tasks in excluded.items() if reason.startswith(why) for task in tasks]
        for why in (ONLY_IN_A, NOT_COMPARED)
    )
    remarks = [*protocol_remarks, *missing_records(a, b, matches), *merged_remarks(differing)]
    remarks += version_differences(a, b, matches)
    return Matches(matches, remarks, merged_remarks(excluded), missing, not_compared)


def _cells(run_set: RunSet, env_steps: int | None, metric: str, score: str) -> dict[Key, pd.DataFrame]:
    scores = final_scores(run_set.frame, env_steps=env_steps, metric=metric, score=score)
    return {tuple(key): runs for key, runs in scores.groupby(CELL, sort=True)}


def _with_protocol(run_set: RunSet, other: RunSet, remarks: list[str]) -> RunSet:
    """External scores that state neither suite nor budget get those of the other set, if it has one of each."""
    frame, protocols = run_set.frame, other.frame[["suite", "budget"]].drop_duplicates().astype(str)
    unstated = [OPTIONAL["suite"], OPTIONAL["budget"]]
    stated = frame[["suite", "budget"]].drop_duplicates().astype(str).to_numpy().tolist()
    if not run_set.external or other.external or stated != [unstated]:
        return run_set
    if len(protocols) > 1:
        titles = ", ".join(f"{suite}@{budget}" for suite, budget in protocols.to_numpy())
        remarks.append(
            f"{run_set.name} states no suite and budget, and there are {titles}: choose with --suite, or state it"
        )
        return run_set
    suite, budget = protocols.to_numpy()[0]
    frame, missing = frame.assign(suite=suite, budget=budget), "suite or budget"
    if (frame["action_repeat"] == OPTIONAL["action_repeat"]).all():
        frame, missing = _with_action_repeats(frame, other.frame), "suite, budget or action repeat"
    remarks.append(f"{run_set.name} states no {missing}: taken to be {other.name}'s, {suite}@{budget}")
    return replace(run_set, frame=frame)


def _with_action_repeats(frame: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Tasks that the other set has at one action repeat get that one."""
    repeats = other.groupby("task", observed=True)["action_repeat"].agg(["min", "max"])
    single = {str(task): int(low) for task, low, high in repeats.itertuples() if low == high}
    return frame.assign(action_repeat=[single.get(str(task), OPTIONAL["action_repeat"]) for task in frame["task"]])


def _unmatched(a: Sequence[Key], b: Sequence[Key]) -> Iterator[tuple[str, str, str]]:
    """Yield agent, task and reason for what one set lacks, or has under another protocol."""
    only_a, only_b = [key for key in a if key not in b], [key for key in b if key not in a]
    agent, task = CELL.index("agent"), CELL.index("task")
    explained = set()
    for key in only_a:
        similar = [other for other in only_b if (other[agent], other[task]) == (key[agent], key[task])]
        if similar:
            closest = min(similar, key=lambda other: sum(x != y for x, y in zip(key, other, strict=True)))
            explained.add(closest)
            yield str(key[agent]), str(key[task]), f"{NOT_COMPARED}: {_key_difference(key, closest)}"
        else:
            yield agent_of(key), _task(key, [*a, *b]), ONLY_IN_A
    for key in only_b:
        if key not in explained:
            yield agent_of(key), _task(key, [*a, *b]), "only in B"


def _task(key: Key, known: Sequence[Key]) -> str:
    """The task, and the protocol where the same agent was run on it under another."""
    part = dict(zip(CELL, key, strict=True))
    protocols = {
        other[: len(PROTOCOL)]
        for other in known
        if agent_of(other) == agent_of(key) and other[CELL.index("task")] == part["task"]
    }
    title = protocol_name(part["suite"], part["budget"], part["setting"])
    return f"{part['task']} of {title}" if len(protocols) > 1 else str(part["task"])


def _key_difference(a: Key, b: Key) -> str:
    return "; ".join(
        f"{field} {x or 'none'} in A, {y or 'none'} in B"
        for field, x, y in zip(CELL, a, b, strict=True)
        if x != y and field != "setting"
    )
