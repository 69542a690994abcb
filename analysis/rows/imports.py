"""Others' logs as lines of scores: each reader turns one file into agent, task, seed, env_steps and return.

Formats are those of the programs that write them: rl-baselines3-zoo's monitor files (Stable-Baselines3's `Monitor`) and
`evaluations.npz` (its `EvalCallback`), marl-eval's JSON, the `scores/*.json` of DreamerV3, the `results/*/TASK.csv` of
TD-MPC2, exports of Weights & Biases (wide CSV of a chart, or the history of a run), TensorBoard's event files and CSV.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from analysis.rows.formats import READERS, Line, Settings, read_json
from analysis.rows.lines import REQUIRED, ScoresError, not_utf8

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

_STATED = {"dreamer": (), "monitor": ("return",), "sb3": ("return",), "marl-eval": ("return",),
           "tensorboard": ("return",)}  # fmt: skip  # columns that can be chosen, where not all can
_RUN_NUMBER = re.compile(r"(?:[a-z]+[ _=:-]?)?(\d+)", re.IGNORECASE)  # `3`, `seed_3`, but not `-3`


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
        _check_stated(path, format_, settings)
        lines = [{"where": str(path), **line, **settings.constants} for line in READERS[format_](path, settings)]
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except (OSError, csv.Error) as error:
        raise ScoresError(f"cannot read {path} as {format_}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ScoresError(f"{path} is not of the format {format_}, which is {_SHAPES[format_]}") from error
    scored = [line for line in lines if line.get("return") not in (None, "")]  # logs have other lines between
    if lines and not scored:
        raise ScoresError(f"{path} ({format_}): which column is the return? --columns return=NAME")
    for name in REQUIRED:
        without = [line for line in scored if line.get(name) in (None, "")]
        if without and len(without) < len(scored):
            raise ScoresError(f"{without[0]['where']}: no {name}, which other lines have; fill it, or remove the line")
        if without:
            columns = "" if name not in _STATED.get(format_, (name,)) else f", or --columns {name}=COLUMN"
            raise ScoresError(f"{path} ({format_}) does not say the {name}: give --with {name}=VALUE{columns}")
    return [_with_seed_number(line) for line in scored]


def _check_stated(path: Path, format_: str, settings: Settings) -> None:
    """Raise ScoresError if the user states a column that the format does not let one choose."""
    fixed = [name for name in settings.columns if name not in _STATED.get(format_, settings.columns)]
    if fixed:
        raise ScoresError(f"{path} ({format_}): this format fixes where {', '.join(fixed)} stands: not by --columns")


def _with_seed_number(line: Line) -> Line:
    """A line whose seed is the number in it, if it is written as `seed_3`."""
    number = _RUN_NUMBER.fullmatch(line["seed"]) if isinstance(line["seed"], str) else None
    return {**line, "seed": number[1]} if number else line


def detected(path: Path) -> str:
    """The format of a file, by its name and first bytes. Raises ScoresError if it is none of `READERS`."""
    name = path.name
    if name.endswith(".npz"):
        return "sb3"
    if "tfevents" in name:
        return "tensorboard"
    if name.endswith(".jsonl"):
        return "jsonl"
    if name.endswith((".json", ".json.gz")):
        return "dreamer" if isinstance(read_json(path), list) else "marl-eval"
    if not name.endswith(".csv"):
        raise ScoresError(
            f"{path}: its name does not tell its format. If it is one of {', '.join(READERS)}, say which by --from; if "
            "not (.tsv, .parquet, .xlsx, packed), save it as CSV, with ',' between columns"
        )
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        if first.startswith("#{"):
            return "monitor"
        header = [each.strip() for each in next(csv.reader([first], skipinitialspace=True), [])]
    if {"Wall time", "Step", "Value"} <= set(header):
        return "tensorboard"
    if set(header) - {""} == {"step", "reward", "seed"}:  # pandas' index has no name
        return "tdmpc2"
    if set(REQUIRED) <= set(header):
        return "csv"
    return "wandb" if "_step" in header or any(" - " in each for each in header) else "csv"
