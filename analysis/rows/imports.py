"""Others' logs as lines of scores: each reader turns one file into agent, task, seed, env_steps and return.

Formats are those of the programs that write them: rl-baselines3-zoo's monitor files (Stable-Baselines3's `Monitor`) and
`evaluations.npz` (its `EvalCallback`), marl-eval's JSON, the `scores/*.json` of DreamerV3, the `results/*/TASK.csv` of
TD-MPC2, exports of Weights & Biases (wide CSV of a chart, or the history of a run), TensorBoard's event files and CSV.
"""

from __future__ import annotations

import csv
from pathlib import Path

from analysis.rows.formats import READERS, Line, Settings, read_json
from analysis.rows.lines import REQUIRED, ScoresError

_SHAPES = {
    "csv": "a header and lines of as many values",
    "jsonl": "an object on each line",
    "monitor": "a line `#{...}` of JSON and then columns r and l, return and length of each episode",
    "sb3": "arrays timesteps (n,) and results (n, num_episodes), without pickles",
    "marl-eval": "{environment: {task: {algorithm: {seed: {step_1: {step_count, return: [...]}}}}}}",
    "dreamer": "a list of {task, method, seed, xs, ys}, xs as long as ys",
    "tdmpc2": "columns step, reward and seed",
    "wandb": "a column of steps, and a column `RUN - METRIC` for each run or one for each metric",
    "tensorboard": "an event file, or columns Wall time, Step and Value",
}


def read_file(path: Path, format_: str, settings: Settings) -> list[Line]:
    """The scores of one file.

    Args:
        path: The file.
        format_: A key of `READERS`, or `auto`.
        settings: What the file does not say.

    Returns:
        Lines with the names that `analysis.rows.lines.checked_line` wants, and `where` each is from.

    Raises:
        ScoresError: If the file cannot be read as that format, or lacks something; the message says what to give.
    """
    try:
        format_ = detected(path) if format_ == "auto" else format_
        lines = [{"where": str(path), **line, **settings.constants} for line in READERS[format_](path, settings)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(f"cannot read {path} as {format_}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ScoresError(f"{path} is not of the format {format_}, which is {_SHAPES[format_]}") from error
    scored = [line for line in lines if line.get("return") not in (None, "")]  # logs have other lines between
    if lines and not scored:
        raise ScoresError(f"{path} ({format_}): which column is the return? --columns return=NAME")
    for name in REQUIRED:
        if any(line.get(name) in (None, "") for line in scored):
            raise ScoresError(f"{path} ({format_}) does not say the {name}: give --with {name}=VALUE, or --columns")
    return scored


def detected(path: Path) -> str:
    """The format of a file, by its name and first bytes. Raises ScoresError if it is none of `READERS`."""
    name = path.name
    if name.endswith("monitor.csv"):
        return "monitor"
    if name.endswith(".npz"):
        return "sb3"
    if "tfevents" in name:
        return "tensorboard"
    if name.endswith(".jsonl"):
        return "jsonl"
    if name.endswith((".json", ".json.gz")):
        return "dreamer" if isinstance(read_json(path), list) else "marl-eval"
    if not name.endswith(".csv"):
        raise ScoresError(f"{path}: unknown format; --from takes {', '.join(READERS)}")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader(file), [])
    if header[:3] == ["Wall time", "Step", "Value"]:
        return "tensorboard"
    if header == ["step", "reward", "seed"]:
        return "tdmpc2"
    if set(REQUIRED) <= set(header):
        return "csv"
    return "wandb" if "_step" in header or any(" - " in each for each in header) else "csv"
