"""External scores as rows of the store, and rows of the store as the JSON that marl-eval reads.

A file of scores is CSV or JSON lines with at least `agent, task, seed, env_steps, return`. Optional: `suite`, `budget`,
`variant`, `labels` (`k=v,k=v`, as in the store) and `action_repeat`.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.rows.scores import agent_name, protocol_name, returns
from results.states import RowKind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

REQUIRED = ("agent", "task", "seed", "env_steps", "return")
OPTIONAL = {"suite": "scores", "budget": "given", "variant": "", "labels": "", "action_repeat": 1}
_SUFFIXES = (".csv", ".jsonl")
MAX_NAMED = 10  # conflicts; the others are counted
_RUN = ["suite", "budget", "labels", "task", "agent", "variant", "seed"]
_SCORE = [*_RUN, "env_steps"]  # identifies one score


class ScoresError(Exception):
    """A file of scores cannot be read. The message names the file and line, and what is expected."""


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
    frame = pd.DataFrame(lines)
    remarks = []
    ignored = sorted(set(frame.columns) - {*REQUIRED, *OPTIONAL, "where"})
    if ignored:
        remarks.append(f"columns not used: {', '.join(map(str, ignored))}")
    frame["value"] = frame.pop("return")
    repeated = frame.duplicated([*_SCORE, "action_repeat", "value"])
    if repeated.any():
        where = frame["where"][repeated].iloc[0]
        remarks.append(f"lines given twice count once: {int(repeated.sum())}, the first of them at {where}")
    frame = frame[~repeated]
    _check_conflicts(frame)
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
    rows = returns(frame, env_steps)
    finite = rows["value"].map(math.isfinite)
    if not finite.all():
        remarks.append(f"{int((~finite).sum())} evaluations are not finite numbers and left out")
    result: dict[str, Any] = {}
    shapes = set()
    for _, run in rows[finite].sort_values("env_steps", kind="stable").groupby("run_id", observed=True, sort=False):
        first = run.iloc[0]
        name = agent_name(str(first["agent"]), str(first["variant"]), str(first["labels"])).replace(",", ";")
        steps: dict[str, Any] = {}
        for number, row in enumerate(run.itertuples(index=False), start=1):
            episodes = [float(row.value)] if _absent(row.episodes) else [float(each) for each in row.episodes]
            steps[f"step_{number}"] = {"step_count": int(row.env_steps), "return": episodes}
        shapes.add(len(steps))
        steps["absolute_metrics"] = {"return": episodes}
        protocol = protocol_name(*(str(first[column]) for column in ("suite", "budget", "setting")))
        algorithms = result.setdefault(protocol, {}).setdefault(str(first["task"]), {})
        algorithms.setdefault(name, {})[f"seed_{first['seed']}"] = steps
    for protocol, tasks in result.items():
        sizes = {len(runs) for task in tasks.values() for runs in task.values()}
        same = len({tuple(sorted(task)) for task in tasks.values()}) == 1
        if len(sizes) > 1 or not same or len(shapes) > 1:
            remarks.append(f"{protocol}: marl-eval wants the same agents, seeds and evaluations on every task")
    return result, remarks


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ScoresError(f"there is no file or folder {path}")
    if path.is_file() and path.suffix in _SUFFIXES:
        return [path]
    if path.is_file():
        raise ScoresError(f"{path} ends in neither {' nor '.join(_SUFFIXES)}; `covr-bench import` reads other formats")
    found = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise ScoresError(f"no {' or '.join(_SUFFIXES)} file in {path}")
    return found


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            if file.suffix == ".csv":
                reader = csv.DictReader(text)
                twice = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
                if twice:
                    raise ScoresError(f"{file}: the header has two columns {', '.join(map(repr, twice))}; rename one")
                for line in reader:
                    if None in line or None in line.values():
                        raise ScoresError(f"{file}:{reader.line_num}: not as many values as the header has columns")
                    yield _checked(line, f"{file}:{reader.line_num}")
                return
            for number, entry in enumerate(text, start=1):
                if entry.strip():
                    yield _checked(json.loads(entry, object_pairs_hook=_distinct), f"{file}:{number}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(f"{file} is not a table in UTF-8 text: {error}") from error
    except json.JSONDecodeError as error:
        raise ScoresError(f"{file} has a line that is not JSON: {error}") from error
    except OSError as error:
        raise ScoresError(f"cannot read {file}: {error.strerror or error}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose last of two equal names would win unseen."""
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ScoresError(f"an object has two entries {', '.join(map(repr, twice))}; rename one")
    return dict(pairs)


def _checked(line: Any, where: str) -> dict[str, Any]:
    """One line with every column, each value of its type."""
    if not isinstance(line, dict):
        raise ScoresError(f"{where}: not an object with {', '.join(REQUIRED)}")
    missing = [name for name in REQUIRED if name not in line]
    if missing:
        raise ScoresError(
            f"{where}: no {', '.join(missing)}; needed are {', '.join(REQUIRED)}, there are {', '.join(map(str, line))}"
        )
    checked = {name: default if line.get(name) in (None, "") else line[name] for name, default in OPTIONAL.items()}
    checked |= line | {name: checked[name] for name in OPTIONAL} | {"where": where}
    for name in ("suite", "budget", "labels", "task", "agent", "variant"):
        checked[name] = _name(checked[name], name, where)
    for name in ("seed", "env_steps", "action_repeat"):
        checked[name] = _whole(checked[name], name, where)
    checked["return"] = _number(checked["return"], where)
    return checked


def _name(value: Any, column: str, where: str) -> str:
    text = "" if value is None else str(value).strip()
    if isinstance(value, (dict, list)) or not text.isprintable() or not (text or column in ("labels", "variant")):
        raise ScoresError(f"{where}: {column} is {value!r}; a name of printable characters is needed")
    if column == "labels" and not all(part.count("=") == 1 for part in text.split(",") if text):
        raise ScoresError(f"{where}: labels are {value!r}; expected k=v,k=v")
    return ",".join(sorted(text.split(","))) if column == "labels" else text


def _whole(value: Any, column: str, where: str) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number >= 0 and number == int(number)):
        raise ScoresError(f"{where}: {column} is {value!r}; a whole number, 0 or more, is needed")
    return int(number)


def _number(value: Any, where: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        raise ScoresError(f"{where}: return is {value!r}; a number or nan is needed") from None


def _as_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of the store, and a row that ends each run: an external run counts as finished."""
    ids = []
    for suite, budget, labels, task, agent, variant, seed in zip(*(frame[name] for name in _RUN), strict=True):
        name = f"{agent}[{variant}]" if variant else agent
        ids.append(f"{protocol_name(suite, budget, labels)}/{task}/{name}/{seed}")
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
