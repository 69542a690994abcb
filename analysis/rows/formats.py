"""Readers of others' formats: each turns one file into lines of agent, task, seed, env_steps and return."""

from __future__ import annotations

import gzip
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from analysis.rows.event_files import event_points, one_a_step
from analysis.rows.headers import (
    METRICS,
    OF_OTHERS,
    STEPS,
    TRAINING,
    check_said,
    labels_of,
    ours_among,
    renamed,
    respelled,
)
from analysis.rows.lines import ScoresError, ScoresWarning, csv_lines, json_lines, json_value, whole

Line = dict[str, Any]
_OF_WANDB = (" - _step", " - _runtime", " - _timestamp")  # columns of every run that are no metric of its own
_MONITOR, _EVENTS = re.compile(r"(\d+\.)?monitor\.csv"), re.compile(r".*tfevents.*")
_SEEDS = tuple(re.compile(rf"(?:^|[^a-z]){word}[ _=:-]?(\d+)", re.IGNORECASE) for word in ("seed", "s"))


_SHORT = (
    "a name of a run such as `sac_s1` is taken as agent sac, seed 1; where `s1` is part of an agent's name, as in "
    "`vit-s16`, rename the run to `vit-s16_seed0`, or give --with agent=NAME --with seed=N, a run at a time"
)


@dataclass(frozen=True)
class Settings:
    """What a file does not say.

    Attributes:
        columns: By name of ours (`return`, `env_steps`, ...) the file's name for it.
        constants: By name of ours the value of every line, such as `task` or `agent`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


def _table(path: Path) -> list[Line]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [{**line, "where": where} for where, line in csv_lines(file, path)]


def _csv(path: Path, settings: Settings) -> Iterator[Line]:
    lines = _table(path)
    _check_columns(path, settings, lines[0] if lines else ())
    yield from _under_our_names(path, lines, lines[0] if lines else (), settings)


def _jsonl(path: Path, settings: Settings) -> Iterator[Line]:
    lines = [{**line, "where": where} for where, line in json_lines(path)]
    names = {name: None for line in lines for name in line}
    if lines:
        _check_columns(path, settings, names)
    yield from _under_our_names(path, lines, names, settings)


def _under_our_names(path: Path, lines: Sequence[Line], names: Collection[str], settings: Settings) -> Sequence[Line]:
    """Lines under our names. names: the file's columns. Raises ScoresError if no line has one that is needed."""
    ours = ours_among(names, path, tuple(settings.columns.values()))
    ours_named = renamed([respelled(line, ours) for line in lines], settings.columns, diverged=True)
    check_said(path, ours_named, names, settings.constants)
    return ours_named


def _check_columns(path: Path, settings: Settings, names: Collection[str]) -> None:
    """Raise ScoresError if the user states a column that is not there: another must not count in its place."""
    absent = [theirs for theirs in settings.columns.values() if names and theirs not in names]
    if absent:
        there = ", ".join(name for name in names if name != "where")
        raise ScoresError(f"{path}: no column {', '.join(map(repr, absent))}; there are {there}")


def run_files(path: Path) -> list[Path]:
    """The files of the same run as this one.

    Stable-Baselines3's Monitor writes one for each environment; TensorBoard's begin another where a run goes on.
    """
    for kind in (_MONITOR, _EVENTS):
        if kind.fullmatch(path.name):
            return sorted(each for each in path.parent.iterdir() if kind.fullmatch(each.name))
    return [path]


def _monitor(path: Path, settings: Settings) -> Iterator[Line]:
    """Stable-Baselines3's Monitor: a comment with the environment, then return `r` and length `l` of each episode.

    rl-baselines3-zoo writes `logs/AGENT/ENV_RUN/0.monitor.csv`, and `1.monitor.csv`, ... for more environments of
    the same run. Their episodes count together in the order of their ends, as in Stable-Baselines3's `load_results`.
    """
    ends, tasks = [], set[str]()
    for file in run_files(path):
        with file.open(encoding="utf-8-sig", newline="") as text:
            facts = json_value(text.readline().removeprefix("#"), f"{file}:1")
            tasks.add("" if facts.get("env_id") in (None, "None") else facts["env_id"])  # of what was not made by name
            start = float(facts.get("t_start", 0.0))
            for where, each in csv_lines(text, file, before=1):
                _check_columns(file, settings, each)
                each |= {"where": where}
                ends.append((start + float(each.get("t") or 0.0), each))
    if len(tasks) > 1:
        raise ScoresError(f"the files of {path.parent} are of several tasks, {', '.join(sorted(tasks))}: part them")
    episodes = [episode for _, episode in sorted(ends, key=itemgetter(0))]
    names = _of_zoo(path.parent) | {"labels": TRAINING}
    names |= {"task": task} if (task := "".join(tasks)) else {}
    lengths = [whole(each["l"], "length l", each["where"]) for each in episodes]
    for step, episode in zip(accumulate(lengths), episodes, strict=True):
        value = episode[settings.columns.get("return", "r")]
        yield names | {"env_steps": step, "return": value, "where": episode["where"]}


def _sb3(path: Path, settings: Settings) -> Iterator[Line]:
    """Stable-Baselines3's `evaluations.npz`: arrays timesteps `(n,)` and results `(n, num_episodes)`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:  # a pickle could run anything
            steps, results = (
                np.asarray(arrays[name]) for name in ("timesteps", settings.columns.get("return", "results"))
            )
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ScoresError(f"{path} is damaged: {error}") from error
    shaped = steps.ndim == 1 and results.ndim == 2 and len(steps) == len(results)
    if not shaped or not results.size or results.dtype.kind not in "fiu":
        raise ValueError
    for step, returns in zip(steps.tolist(), results.astype(np.float64), strict=True):
        yield _of_zoo(path.parent) | {"env_steps": step, "return": float(returns.mean())}


def _of_zoo(folder: Path) -> Line:
    """Task, agent and seed of a folder of rl-baselines3-zoo, `AGENT/ENV_RUN`, whose runs count from 1."""
    run = re.fullmatch(r"(.+)_([1-9]\d*)", folder.name)
    return {"task": run[1], "agent": folder.parent.name, "seed": str(int(run[2]) - 1)} if run else {}


def _marl_eval(path: Path, settings: Settings) -> Iterator[Line]:
    """{environment: {task: {algorithm: {seed: {step_N: {step_count, metric: [values]}, absolute_metrics}}}}}."""
    metric = settings.columns.get("return", "return")
    for environment, tasks in read_json(path).items():
        for task, agents in tasks.items():
            for agent, runs in agents.items():
                for seed, steps in runs.items():
                    names = {"suite": environment, "task": task, "agent": agent}
                    names |= {"seed": seed} if re.search(r"\d", seed) else {}
                    for name, step in steps.items():
                        if name != "absolute_metrics":
                            yield names | {"env_steps": step["step_count"], "return": _mean(step, metric, path)}


def _mean(step: Mapping[str, Any], metric: str, path: Path) -> float:
    """The mean of an evaluation's episodes; nan if one of them is null, as JSON writes what is no number."""
    if metric not in step:
        raise ScoresError(f"{path}: which metric is the return? --columns return=NAME; there are {', '.join(step)}")
    values = step[metric] if isinstance(step[metric], list) else [step[metric]]
    if not values:
        raise ValueError
    if None in values:
        return math.nan
    if not all(map(math.isfinite, values)):
        return sum(map(float, values))
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # near the largest number there is
        return math.fsum(value / len(values) for value in values)


def _dreamer(path: Path, settings: Settings) -> Iterator[Line]:
    """A list of {task, method, seed, xs, ys}; returns of training episodes, as DreamerV3's are."""
    for run in read_json(path):
        names = {"task": run["task"], "agent": run["method"], "seed": run["seed"], "labels": TRAINING}
        for step, score in zip(run["xs"], run["ys"], strict=True):
            yield names | {"env_steps": step, "return": math.nan if score is None else score}


def _tdmpc2(path: Path, settings: Settings) -> Iterator[Line]:
    """`results/AGENT/TASK.csv` with step, reward and seed; steps are environment steps."""
    names = {"task": path.stem, "agent": path.parent.name}
    columns = {"return": "reward", "env_steps": "step"} | dict(settings.columns)
    for line in _csv(path, Settings(columns, names | dict(settings.constants))):
        yield names | {"return": math.nan} | line


def _wandb(path: Path, settings: Settings) -> Iterator[Line]:
    """The export of a chart, a column `RUN - METRIC` for each run, or of one run's history, a column per metric."""
    lines = _table(path)
    if not lines:
        return
    step = _step_column(path, settings, lines[0])
    wanted = settings.columns.get("return")
    runs = [name for name in lines[0] if " - " in name and not name.endswith(("__MIN", "__MAX"))]
    if wanted is None:  # beside the metric, a chart over another one has the steps of each run
        runs = [name for name in runs if not name.endswith(_OF_WANDB)]
    if not runs:
        _check_columns(path, settings, lines[0])
        columns = dict(settings.columns) if step in STEPS else {**settings.columns, "env_steps": step}
        yield from renamed(lines, columns, diverged=False)
    metrics = [name.rpartition(" - ")[2] for name in runs]
    there = ", ".join(dict.fromkeys(metrics))
    if runs and wanted not in (None, *metrics):
        raise ScoresError(f"{path}: no metric {wanted!r}; there are {there}")
    if wanted is None and len(set(metrics)) > 1:
        raise ScoresError(f"{path}: which metric is the return? --columns return=NAME; there are {there}")
    for column, metric in zip(runs, metrics, strict=True):
        for line in lines if wanted in (None, metric) else ():
            if line[column]:
                run = _of_run(column.removesuffix(f" - {metric}"))
                run |= labels_of(metric)
                yield {**run, "env_steps": line[step], "return": line[column], "where": line["where"]}


def _step_column(path: Path, settings: Settings, header: Collection[str]) -> str:
    """The column of environment steps: as the user says, else by a usual name, else the first, but no time."""
    given = settings.columns.get("env_steps")
    _check_columns(path, Settings({"env_steps": given} if given else {}), header)
    first = next(iter(header))
    found = given or next((name for name in STEPS if name in header), first)
    if found == first and "time" in first.lower() and not given and first not in STEPS:
        raise ScoresError(f"{path} is over {first!r}: export it over steps, or give --columns env_steps=NAME")
    if found in OF_OTHERS and not given:
        hint = f"taken as env_steps is {found!r}; --columns env_steps=NAME takes another"
        warnings.warn(hint, ScoresWarning, stacklevel=2)
    return found


def _tensorboard(path: Path, settings: Settings) -> Iterator[Line]:
    """An event file, whose folder names the run, or the CSV of one chart, whose file name does."""
    if path.suffix == ".csv":
        downloaded = re.fullmatch(r"run-(.+)-tag-(.+)", path.stem)  # by TensorBoard's own button
        name, tag = downloaded.groups() if downloaded else (path.stem, "")
        run = _of_run(name) | labels_of(tag)
        for line in _table(path):
            yield {**run, "env_steps": line["Step"], "return": line["Value"], "where": line["where"]}
        return
    tag, points = event_points(run_files(path), settings.columns.get("return"), METRICS)
    folders = [path.parent.name, *(folder.name for folder in path.parent.parents[:2])]  # of `sac_seed1/logs` the first
    run = next((run for run in map(_of_run, folders) if "seed" in run), _of_run(folders[0]))
    run |= labels_of(tag)
    for step, value in one_a_step(points, training="labels" in run).items():
        yield {**run, "env_steps": step, "return": value}


def _of_run(name: str) -> Line:
    """Agent and seed that the name of a run states, such as `drq_walker_seed3`, or `drq_walker_s3`."""
    for pattern in _SEEDS:  # `vit-s16_seed1` is seed 1
        if found := list(pattern.finditer(name)):
            last = found[-1]
            if pattern is not _SEEDS[0]:
                warnings.warn(_SHORT, ScoresWarning, stacklevel=2)
            return {"agent": (name[: last.start()] + name[last.end() :]).strip(" _-"), "seed": last[1]}
    return {"agent": name}


def read_json(path: Path) -> Any:
    """The value of a JSON file, packed by gzip or not. Raises ScoresError."""
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ScoresError(f"{path} is damaged: {error}") from error
    return json_value(data, str(path))


READERS: dict[str, Callable[[Path, Settings], Iterator[Line]]] = {
    "csv": _csv, "jsonl": _jsonl, "monitor": _monitor, "marl-eval": _marl_eval, "dreamer": _dreamer, "tdmpc2": _tdmpc2,
    "sb3": _sb3, "wandb": _wandb, "tensorboard": _tensorboard,
}  # fmt: skip
