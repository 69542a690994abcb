"""Others' logs as lines of scores: each reader turns one file into agent, task, seed, env_steps and return.

Formats are those of the programs that write them: rl-baselines3-zoo's monitor files (Stable-Baselines3's `Monitor`),
marl-eval's JSON, the `scores/*.json` of DreamerV3, the `results/*/TASK.csv` of TD-MPC2, exports of Weights & Biases
(wide CSV of a chart, or the history of a run) and TensorBoard's event files and CSV.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from analysis.rows.external import OPTIONAL, REQUIRED, ScoresError

Line = dict[str, Any]
TRAINING = "returns=training"  # label of returns of exploring actions, which are no evaluations
_METRICS = (
    "eval/return", "eval/episode_reward", "eval/mean_reward", "eval_return", "episode_reward", "rollout/ep_rew_mean",
    "return", "reward", "score", "episode/score", "charts/episodic_return",
)  # fmt: skip
_STEPS = ("env_steps", "global_step", "_step", "step", "Step", "timesteps", "total_timesteps", "xs")
_SEED = re.compile(r"(?:^|[^a-z])(?:seed|s)[ _=:-]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """What a file does not say.

    Attributes:
        columns: By name of ours (`return`, `env_steps`, ...) the file's name for it.
        constants: By name of ours the value of every line, such as `task` or `agent`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


def read_file(path: Path, format_: str, settings: Settings) -> list[Line]:
    """The scores of one file.

    Args:
        path: The file.
        format_: A key of `READERS`, or `auto`.
        settings: What the file does not say.

    Returns:
        Lines with the names that `analysis.rows.external.read_scores` wants.

    Raises:
        ScoresError: If the file cannot be read as that format, or lacks something; the message says what to give.
    """
    try:
        format_ = detected(path) if format_ == "auto" else format_
        lines = [{**line, **settings.constants} for line in READERS[format_](path, settings)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(f"cannot read {path} as {format_}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ScoresError(f"{path} is not of the format {format_}: {error!r}") from error
    for name in REQUIRED:
        if any(line.get(name) in (None, "") for line in lines) and name != "return":
            raise ScoresError(f"{path} ({format_}) does not say the {name}: give --with {name}=VALUE, or --columns")
    return lines


def detected(path: Path) -> str:
    """The format of a file, by its name and first bytes. Raises ScoresError if it is none of `READERS`."""
    name = path.name
    if name.endswith("monitor.csv"):
        return "monitor"
    if "tfevents" in name:
        return "tensorboard"
    if name.endswith(".jsonl"):
        return "jsonl"
    if name.endswith((".json", ".json.gz")):
        return "dreamer" if isinstance(_json(path), list) else "marl-eval"
    if not name.endswith(".csv"):
        raise ScoresError(f"{path}: unknown format; --from takes {', '.join(READERS)}")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader(file), [])
    if header[:3] == ["Wall time", "Step", "Value"]:
        return "tensorboard"
    if header == ["step", "reward", "seed"]:
        return "tdmpc2"
    return "wandb" if "_step" in header or any(" - " in each for each in header) else "csv"


def _csv(path: Path, settings: Settings) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in csv.DictReader(file):
            yield _renamed(line, settings)


def _jsonl(path: Path, settings: Settings) -> Iterator[Line]:
    for text in path.read_text(encoding="utf-8").splitlines():
        if text.strip():
            yield _renamed(json.loads(text), settings)


def _renamed(line: Mapping[str, Any], settings: Settings) -> Line:
    """A line under our names: as the user says, else as it is, else the usual names of steps and returns."""
    chosen = {}
    for name in (*REQUIRED, *OPTIONAL):
        usual = {"env_steps": _STEPS, "return": _METRICS}.get(name, ())
        found = [each for each in (settings.columns.get(name, name), *usual) if line.get(each) not in (None, "")]
        if found:
            chosen[name] = line[found[0]]
    return chosen


def _monitor(path: Path, settings: Settings) -> Iterator[Line]:
    """Stable-Baselines3's Monitor: a comment with the environment, then return `r` and length `l` of each episode.

    rl-baselines3-zoo writes `logs/AGENT/ENV_RUN/0.monitor.csv`.
    """
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    facts = json.loads(first.removeprefix("#"))
    run = re.fullmatch(r"(.+)_(\d+)", path.parent.name)
    names = {"task": facts.get("env_id") or (run[1] if run else ""), "agent": path.parent.parent.name if run else ""}
    names |= {"seed": str(int(run[2]) - 1) if run else "", "labels": TRAINING}
    episodes = list(csv.DictReader(rest))
    for step, episode in zip(accumulate(int(each["l"]) for each in episodes), episodes, strict=True):
        yield names | {"env_steps": step, "return": float(episode[settings.columns.get("return", "r")])}


def _marl_eval(path: Path, settings: Settings) -> Iterator[Line]:
    """{environment: {task: {algorithm: {seed: {step_N: {step_count, metric: [values]}, absolute_metrics}}}}}."""
    metric = settings.columns.get("return", "return")
    for environment, tasks in _json(path).items():
        for task, agents in tasks.items():
            for agent, runs in agents.items():
                for seed, steps in runs.items():
                    names = {"suite": environment, "task": task, "agent": agent, "seed": re.sub(r"\D", "", seed)}
                    for name, step in steps.items():
                        if name != "absolute_metrics":
                            values = step[metric] if isinstance(step[metric], list) else [step[metric]]
                            yield names | {"env_steps": step["step_count"], "return": math.fsum(values) / len(values)}


def _dreamer(path: Path, settings: Settings) -> Iterator[Line]:
    """A list of {task, method, seed, xs, ys}; returns of training episodes, as DreamerV3's are."""
    for run in _json(path):
        names = {"task": run["task"], "agent": run["method"], "seed": run["seed"], "labels": TRAINING}
        for step, score in zip(run["xs"], run["ys"], strict=True):
            yield names | {"env_steps": int(step), "return": score}


def _tdmpc2(path: Path, settings: Settings) -> Iterator[Line]:
    """`results/AGENT/TASK.csv` with step, reward and seed; steps are environment steps."""
    for line in _csv(path, Settings({"return": "reward", "env_steps": "step"} | dict(settings.columns))):
        yield {"task": path.stem, "agent": path.parent.name} | line


def _wandb(path: Path, settings: Settings) -> Iterator[Line]:
    """The export of a chart, a column `RUN - METRIC` for each run, or of one run's history, a column per metric."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header, lines = list(reader.fieldnames or ()), list(reader)
    step = next((name for name in (settings.columns.get("env_steps", ""), *_STEPS) if name in header), header[0])
    runs = [name for name in header if " - " in name and not name.endswith(("__MIN", "__MAX"))]
    if not runs:
        for line in lines:
            found = _renamed({**line, "env_steps": line[step]}, settings)
            if "return" in found:
                yield found
    wanted = settings.columns.get("return")
    for column in runs:
        run, _, metric = column.rpartition(" - ")
        if wanted in (None, metric):
            for line in lines:
                if line[column]:
                    yield {**_of_run(run), "env_steps": int(float(line[step])), "return": float(line[column])}


def _tensorboard(path: Path, settings: Settings) -> Iterator[Line]:
    """An event file, whose folder names the run, or the CSV of one chart, whose file name does."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file):
                yield {**_of_run(path.stem), "env_steps": int(float(line["Step"])), "return": float(line["Value"])}
        return
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise ScoresError(f"{path} is an event file: pip install tensorboard, or export the chart as CSV") from None
    events = EventAccumulator(str(path), {"scalars": 0, "tensors": 0})
    events.Reload()
    tags = [*events.Tags()["scalars"], *events.Tags()["tensors"]]  # of torch's writer, and of TensorFlow's
    tag = next((each for each in (settings.columns.get("return", ""), *_METRICS) if each in tags), None)
    if tag is None:
        raise ScoresError(
            f"{path}: which scalar is the return? --columns return=TAG; there are: {', '.join(sorted(tags))}"
        )
    if tag in events.Tags()["scalars"]:
        points = [(event.step, event.value) for event in events.Scalars(tag)]
    else:
        points = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
    for step, value in points:
        yield {**_of_run(path.parent.name), "env_steps": step, "return": value}


def _of_run(name: str) -> Line:
    """Agent and seed that the name of a run states, such as `drq_walker_seed3`."""
    seed = _SEED.search(name)
    rest = _SEED.sub("", name).strip(" _-") if seed else name
    return {"agent": rest} | ({"seed": seed[1]} if seed else {})


def _json(path: Path) -> Any:
    data = path.read_bytes()
    try:
        return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (ValueError, EOFError, RecursionError) as error:
        raise ScoresError(f"{path} is not JSON: {error}") from error


READERS: dict[str, Callable[[Path, Settings], Iterator[Line]]] = {
    "csv": _csv, "jsonl": _jsonl, "monitor": _monitor, "marl-eval": _marl_eval, "dreamer": _dreamer, "tdmpc2": _tdmpc2,
    "wandb": _wandb, "tensorboard": _tensorboard,
}  # fmt: skip
