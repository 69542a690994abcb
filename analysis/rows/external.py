"""External scores as rows of the store, and rows of the store as the JSON that marl-eval reads.

A file of scores is CSV or JSON lines with at least `agent, task, seed, env_steps, return`. Optional: `suite`, `budget`,
`variant`, `labels` (`k=v,k=v`, as in the store) and `action_repeat`.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.rows.headers import ours_among, respelled
from analysis.rows.lines import OPTIONAL, REQUIRED, ScoresError, checked_line, csv_lines, json_lines, not_utf8
from analysis.rows.scores import agent_name, counted, parted, protocol_name, returns
from results.states import RowKind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SUFFIXES = (".csv", ".jsonl")
MAX_NAMED = 10  # conflicts; the others are counted
_RUN = ["suite", "budget", "labels", "task", "agent", "variant", "seed"]
_SCORE = [*_RUN, "action_repeat", "env_steps"]  # identifies one score
_MARKS = {ord(mark): f"%{ord(mark):02X}" for mark in "%/@[]("}  # of a run's id: in a name they could make another's


def read_scores(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, list[str]]:
    """Read external scores.

    Args:
        path: A .csv or .jsonl file, or a folder that is searched for them. An empty return or `nan` is NaN.

    Returns:
        Rows with the columns that `results.store.read` returns, and remarks on ignored columns and repeated lines.

    Raises:
        ScoresError: For a missing column, a value of the wrong kind, or two different returns of one run at one step.
    """
    lines = [line for file in _files(Path(path)) for line in _lines(file)]
    if not lines:
        raise ScoresError(f"{path} has no scores; a line states {', '.join(REQUIRED)}")
    return rows_of(lines)


def rows_of(lines: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, list[str]]:
    """The rows of lines from `checked_line`, and remarks, as `read_scores`. Raises ScoresError for conflicts."""
    frame = pd.DataFrame(lines)
    remarks = []
    ignored = sorted(set(frame.columns) - {*REQUIRED, *OPTIONAL, "where"})
    if ignored:
        remarks.append(f"columns not used: {', '.join(str(name) or 'one without a name' for name in ignored)}")
    frame["value"] = frame.pop("return")
    repeated = frame.duplicated([*_SCORE, "value"])
    if repeated.any():
        where = frame["where"][repeated].iloc[0]
        remarks.append(f"lines given twice count once: {int(repeated.sum())}, the first of them at {where}")
    frame = frame[~repeated]
    _check_conflicts(frame)
    _check_names(frame)
    return _as_rows(frame), remarks


def _check_conflicts(frame: pd.DataFrame) -> None:
    """Raise ScoresError if two lines differ on one score."""
    conflicts = frame[frame.duplicated(_SCORE, keep=False)]
    if conflicts.empty:
        return
    texts = []
    for _, lines in conflicts.groupby(_SCORE, sort=False):
        first, places = lines.iloc[0], " and ".join(lines["where"].tolist())
        texts.append(
            f"{places} differ on one and the same score: {agent_name(first['agent'], first['variant'])} "
            f"on {first['task']}, seed {first['seed']}, at {first['env_steps']:,} env steps"
        )
    shown = "; ".join(texts[:MAX_NAMED])
    rest = f"; and {len(texts) - MAX_NAMED:,} more" if len(texts) > MAX_NAMED else ""
    count = f"{len(texts):,} scores are given twice with different returns: " if len(texts) > 1 else ""
    raise ScoresError(f"{count}{shown}{rest}. If they are two runs, distinguish them by seed, agent, budget or labels.")


def _check_names(frame: pd.DataFrame) -> None:
    """Raise ScoresError if two agents would be shown under one name: tables and statistics would take them for one."""
    shown: dict[tuple[str, ...], tuple[str, str, str]] = {}
    whose = ["suite", "budget", "agent", "variant", "labels"]
    for suite, budget, agent, variant, labels in frame[whose].drop_duplicates().itertuples(index=False):
        setting, own = parted(labels)
        this = (agent, variant, own)
        name = agent_name(agent, variant, labels)
        other = shown.setdefault((suite, budget, setting, name), this)
        if other != this:
            raise ScoresError(f"{_told(*other)} and {_told(*this)} are both shown as {name}: give one another name")


def _told(agent: str, variant: str, labels: str) -> str:
    parts = {"variant": variant, "labels": labels}
    return " with ".join([f"agent {agent!r}", *(f"{name} {text!r}" for name, text in parts.items() if text)])


def to_marl_eval(frame: pd.DataFrame, env_steps: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """Evaluation returns as the nested JSON that marl-eval reads.

    Its `absolute_metrics` are meant for ten times as many episodes by the best policy; they hold the last evaluation.
    Evaluations that are not finite are left out, since JSON has no number for them.

    Args:
        frame: Rows as `results.store.read` returns them.
        env_steps: Leave out what was measured after this environment step; nothing if None.

    Returns:
        JSON values by protocol, task, agent and seed, and remarks on what marl-eval may refuse.
    """
    remarks = ["absolute_metrics hold the last evaluation of each run, not a longer one of its best policy"]
    rows = counted(returns(frame, env_steps))
    finite = rows["value"].map(math.isfinite)
    if not finite.all():
        count = int((~finite).sum())
        what = "1 evaluation is no finite number" if count == 1 else f"{count} evaluations are not finite numbers"
        remarks.append(f"{what} and left out")
    result: dict[str, Any] = {}
    shapes = set()
    diverged, again = [], []
    for run_id, run in rows.sort_values("env_steps", kind="stable").groupby("run_id", observed=True, sort=False):
        if not math.isfinite(run["value"].iloc[-1]):
            diverged.append(str(run_id))
            continue
        run = run[run["value"].map(math.isfinite)]
        first = run.iloc[0]
        name = agent_name(str(first["agent"]), str(first["variant"]), str(first["labels"])).replace(",", ";")
        protocol = protocol_name(*(str(first[column]) for column in ("suite", "budget", "setting")))
        algorithms = result.setdefault(protocol, {}).setdefault(str(first["task"]), {})
        seeds = algorithms.setdefault(name, {})
        if f"seed_{first['seed']}" in seeds:
            again.append(str(run_id))
            continue
        steps: dict[str, Any] = {}
        for number, row in enumerate(run.itertuples(index=False), start=1):
            episodes = [float(row.value)] if _absent(row.episodes) else [float(each) for each in row.episodes]
            steps[f"step_{number}"] = {"step_count": int(row.env_steps), "return": episodes}
        shapes.add(len(steps))
        steps["absolute_metrics"] = {"return": episodes}
        seeds[f"seed_{first['seed']}"] = steps
    if again:
        remarks.append(f"left out, since marl-eval takes one run of a seed on a task: {', '.join(again)}")
    if diverged:
        remarks.append(f"left out, since their last evaluation is no finite number: {', '.join(diverged)}")
    for protocol, tasks in result.items():
        sizes = {len(runs) for task in tasks.values() for runs in task.values()}
        same = len({tuple(sorted(task)) for task in tasks.values()}) == 1
        if len(sizes) > 1 or not same or len(shapes) > 1:
            remarks.append(f"{protocol}: marl-eval wants the same agents, seeds and evaluations on every task")
    return result, remarks


def _files(path: Path) -> list[Path]:
    try:
        file, folder = path.is_file(), path.is_dir()
        exists = path.exists()
    except OSError as error:  # such as a name that is too long
        raise ScoresError(f"cannot read {str(path)[:100]}: {error.strerror}") from error
    if not exists:
        raise ScoresError(f"there is no file or folder {path}")
    if file and path.suffix.lower() in _SUFFIXES:
        return [path]
    if file:
        raise ScoresError(
            f"{path} ends in neither {' nor '.join(_SUFFIXES)}; save it as one of them; logs of "
            "other programs are read by `covr-bench import`"
        )
    if not folder:
        raise ScoresError(f"{path} is neither a file nor a folder; write the scores to a {_SUFFIXES[0]} file first")
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and not file.is_dir())
    if no_files := [str(each) for each in found if not each.is_file()]:
        raise ScoresError(f"{', '.join(no_files)}: no file, such as a link to nowhere; remove it, or name the others")
    if not found:
        raise ScoresError(f"no {' or '.join(_SUFFIXES)} file in {path}")
    return found


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        if file.suffix.lower() == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as text:
                yield from _checked(csv_lines(text, file), file)
        else:
            yield from _checked(json_lines(file), file)
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error
    except csv.Error as error:
        raise ScoresError(f"{file} is not a table: {error}") from error
    except OSError as error:
        raise ScoresError(f"cannot read {file}: {error.strerror or error}") from error


def _checked(lines: Iterable[tuple[str, Any]], file: Path) -> Iterator[dict[str, Any]]:
    """Each line under our names, which the first line may spell in another way."""
    ours: dict[str, str] | None = None
    for where, line in lines:
        if ours is None and isinstance(line, dict):
            ours = ours_among(line, file)
        yield checked_line(respelled(line, ours) if ours and isinstance(line, dict) else line, where)


def _as_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of the store, and a row that ends each run: an external run counts as finished."""
    ids = []
    several = frame.groupby(_RUN, sort=False)["action_repeat"].transform("nunique") > 1  # then they are several runs
    repeats = frame["action_repeat"].where(several, 0)
    for *names, seed, repeat in zip(*(frame[name] for name in _RUN), repeats, strict=True):
        suite, budget, labels, task, agent, variant = (name.translate(_MARKS) for name in names)
        name = f"{agent}[{variant}]" if variant else agent
        at = f" (action repeat {repeat})" if repeat else ""
        ids.append(f"{protocol_name(suite, budget, labels)}/{task}{at}/{name}/{seed}")
    columns = [*_RUN, "env_steps", "action_repeat", "value"]
    rows = frame[columns].assign(run_id=ids, kind=RowKind.EVAL.value, metric="return", text="", wall_s=0.0, time=0.0)
    rows["episodes"] = pd.Series([None] * len(rows), index=rows.index, dtype=object)
    rows["agent_steps"] = rows["env_steps"] // rows["action_repeat"].clip(lower=1)
    ends = rows.drop_duplicates("run_id", keep="last").assign(kind=RowKind.END.value, metric="end", value=1.0)
    rows = pd.concat([rows, ends], ignore_index=True)
    texts = ["run_id", "suite", "budget", "task", "agent", "variant", "kind", "metric", "labels"]
    return rows.astype(dict.fromkeys(texts, "category"))


def _absent(episodes: Any) -> bool:
    return episodes is None or episodes is pd.NA or (isinstance(episodes, float) and math.isnan(episodes))
