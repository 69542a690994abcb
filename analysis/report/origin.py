"""Provenance of runs for the page: what was run, when, with what code, on what machines, and what failed."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.rows.remarks import seeds_text
from analysis.rows.scores import RunState, agent_name, protocol_name
from results.code_identity import code_changes, code_of, is_mixed, own_code, project_code
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pandas as pd

    Record = Mapping[str, Any]

_NONE = "none recorded"
_UNREADABLE, _LOST = "unreadable", "It finished, but none of its rows can be read."
_YEAR_10000 = 253_402_300_800  # in Unix time; no calendar has later days


@dataclass(frozen=True)
class Machine:
    """One kind of machine and software that runs were made with. facts: name and text."""

    facts: tuple[tuple[str, str], ...]
    runs: int


@dataclass(frozen=True)
class RunEntry:
    """One run: state, return and environment step of its last evaluation, record. facts, settings: name, text."""

    run_id: str
    status: str
    env_steps: int
    score: float
    error: str
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]

    @property
    def score_text(self) -> str:
        """`731.2 at 100,000`; `-` in place of a number that is none."""
        return f"{'-' if math.isnan(self.score) else format(self.score, ',.1f')} at {self.env_steps:,}"


def machines(records: Iterable[Record]) -> list[Machine]:
    """Every combination of machine and versions, the most frequent first."""
    counts = Counter(tuple(_environment(record["environment"])) for record in records)
    return [Machine(facts, runs) for facts, runs in counts.most_common()]


def period(records: Iterable[Record], frame: pd.DataFrame) -> str:
    """From the first session's start to the last row."""
    starts = [session["started"] for record in records for session in record["sessions"] if session["started"]]
    last = float(frame["time"][frame["time"] < _YEAR_10000].max())  # a clock may be wrong
    texts = [min(starts)[:16].replace("T", " ")] if starts else []
    if last > 0:  # external scores have no times
        texts.append(datetime.datetime.fromtimestamp(last, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"))
    return f"{' to '.join(dict.fromkeys(texts))} UTC" if texts else _NONE


def wall_time(records: Collection[Record]) -> str:
    """Wall time of all runs together, in words."""
    return f"{_span(sum(record['wall_s'] for record in records))}, of all runs together" if records else _NONE


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def entries(scores: pd.DataFrame, frame: pd.DataFrame, records: Mapping[str, Record]) -> list[RunEntry]:
    """Every run, also those without rows.

    Args:
        scores: Lines of `analysis.rows.scores.final_scores`.
        frame: The rows behind them.
        records: Provenance by run id.
    """
    errors = frame[frame["kind"] == RowKind.ERROR.value].drop_duplicates("run_id", keep="last")
    texts = dict(zip(errors["run_id"].astype(str), errors["text"].astype(str), strict=True))
    found = []
    for run in scores.itertuples(index=False):
        record = records.get(run.run_id)
        status = record["status"] if record else str(run.status)
        error = texts.get(run.run_id, "") if status == RunState.FAILED else ""
        facts, settings = _facts(record), _settings(record)
        labels = [("labels", run.labels)] if run.labels else []
        found.append(RunEntry(run.run_id, status, run.evaluated_at, run.last, error, (*labels, *facts), settings))
    for run_id in sorted(set(records) - {entry.run_id for entry in found}):
        record = records[run_id]
        lost = record["status"] == RunState.FINISHED
        status, error = (_UNREADABLE, _LOST) if lost else (record["status"], "")
        found.append(RunEntry(run_id, status, 0, math.nan, error, _facts(record), _settings(record)))
    return found


def mixed_code(scores: pd.DataFrame, records: Mapping[str, Record]) -> list[str]:
    """In words, an agent each, on which tasks its seeds were made by different code: the hashes of the sources differ.

    Args:
        scores: Lines of `analysis.rows.scores.final_scores` of one protocol.
        records: Provenance by run id.
    """
    mixed: dict[str, dict[str, list[str]]] = {}
    for key, runs in scores.groupby(["agent", "variant", "labels", "task"], sort=False, observed=True):
        *triple, task = map(str, key)
        made_by = [records[run] for run in runs["run_id"] if run in records]
        if is_mixed([code_of(record) for record in made_by]):
            counts = Counter(map(own_code, made_by)).most_common()
            by = " and ".join(f"{count} by {code}" for code, count in counts)
            mixed.setdefault(agent_name(*triple), {}).setdefault(by, []).append(task)
    return [
        f"{name}: the sources of the code that made its seeds differ, if only in a comment: "
        + "; ".join(f"{by} on {', '.join(tasks)}" for by, tasks in found.items())
        for name, found in mixed.items()
    ]


def run_label(run: Any, seeds: Sequence[int]) -> str:
    """Agent, task, seeds and protocol in words. run: a line of `final_scores`, one of the runs of these seeds."""
    protocol = protocol_name(run.suite, run.budget, run.setting)
    return f"{agent_name(run.agent, run.variant, run.labels)} on {run.task}, {seeds_text(seeds)}, {protocol}"


def _facts(record: Record | None) -> tuple[tuple[str, str], ...]:
    if record is None:
        return ()
    sessions: Sequence[Record] = record["sessions"]
    facts = [("wall time", f"{_span(record['wall_s'])} in {len(sessions)} session{'s' if len(sessions) > 1 else ''}")]
    for session in sessions:
        facts.append(("session", f"{session['started']} to {session['ended'] or 'unknown'}"))
        facts.append(("command", session["command"]))
        if changes := session.get("config_changes"):
            changed = {key: " → ".join(map(str, pair)) for key, pair in changes.items() if isinstance(pair, list)}
            facts.append(("changed settings", _pairs(changed)))
    facts.append(("own code", own_code(record)))
    facts += [("went on with changed code", change) for change in code_changes(record)]
    facts.append(("seeds", _pairs(record["seeds"])))
    if "agent" in record:
        facts.append(("agent", _pairs(_flat(record["agent"]))))
    return (*facts, *_environment(record["environment"]))


def _settings(record: Record | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(value)) for key, value in _flat(record["config"]).items()) if record else ()


def _environment(environment: Record) -> list[tuple[str, str]]:
    facts = [
        ("code", project_code(environment)),
        ("processor", processor(environment)),
        ("GPU", ", ".join(environment["gpus"]) or "none"),
        ("system", environment.get("platform") or "unknown"),
    ]
    if environment.get("gl_backend"):
        facts.append(("rendering", rendering(environment)))
    packages = {"python": environment.get("python", "unknown"), **environment["packages"]}
    return [*facts, ("packages", ", ".join(f"{name} {version}" for name, version in packages.items()))]


def processor(environment: Record) -> str:
    """Cores, their name and the memory, in words."""
    memory = f"{environment['ram_bytes'] / 1e9:.0f} GB" if "ram_bytes" in environment else "unknown memory"
    return f"{environment.get('cpu_cores') or '?'} cores of {environment.get('cpu') or 'an unknown kind'}, {memory}"


def rendering(environment: Record) -> str:
    """The backend of OpenGL and who made it."""
    return f"{environment['gl_backend']} ({environment.get('gl_vendor')}, {environment.get('gl_renderer')})"


def _pairs(values: Record) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _flat(values: Record, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
