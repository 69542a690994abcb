"""What others call their columns: usual names, ours in another spelling, and what to ask for where one is missing."""

from __future__ import annotations

import math
import re
import shlex
import warnings
from typing import TYPE_CHECKING, Any

from analysis.rows.lines import OPTIONAL, REQUIRED, ScoresError, ScoresWarning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    Line = dict[str, Any]

_OURS = (*REQUIRED, *OPTIONAL)
METRICS = (
    "eval/return", "eval/episode_reward", "eval/mean_reward", "eval_return", "episode_reward", "rollout/ep_rew_mean",
    "return", "reward", "score", "episode/score", "charts/episodic_return",
)  # fmt: skip
TRAINING = "returns=training"  # label of returns of exploring actions, which are no evaluations
OF_TRAINING = ("rollout/ep_rew_mean", "charts/episodic_return", "episode/score")  # metrics of such returns
STEPS = (
    "env_steps", "global_step", "frame", "frames", "_step", "step", "Step", "timesteps", "total_timesteps",
    "time/total_timesteps", "xs",
)  # fmt: skip  # beside frame, of environment steps, DrQ-v2 and DrQ call agent steps step
OF_OTHERS = ("step", "Step", "_step")  # which may count agent steps, or calls of W&B's `log`
_OFTEN = {
    "agent": ("algo", "algorithm", "method", "model", "policy"),
    "task": ("env", "environment", "env_id", "env_name", "game"),
    "seed": ("run", "seed_id", "trial"),
    "env_steps": ("step", "steps", "timesteps", "frames", "timestep", "global_step"),
    "return": ("episode_reward", "reward", "rewards", "score", "mean_reward", "episode_return", "returns"),
}  # what others call them: proposed, never taken unasked


def ours_among(names: Iterable[object], file: Path, taken: Collection[str] = ()) -> dict[str, str]:
    """Columns whose names are ours but for capitals, spaces and signs, such as `Env Steps`: by theirs, ours.

    Args:
        names: The file's columns.
        file: For the warning that says which were taken so.
        taken: Columns that the user has given another meaning.

    Returns:
        None for a column that is there as it is called here, or twice in other spellings.
    """
    texts = [str(name) for name in names]
    spelled: dict[str, list[str]] = {}
    for text in texts:
        if (ours := _form(text)) in _OURS and ours not in texts and text not in taken:
            spelled.setdefault(ours, []).append(text)
    found = {theirs[0]: ours for ours, theirs in spelled.items() if len(theirs) == 1}
    if found:
        pairs = ", ".join(f"{theirs!r} is {ours}" for theirs, ours in found.items())
        warnings.warn(f"{file}: columns are taken in another spelling: {pairs}", ScoresWarning, stacklevel=2)
    return found


def respelled(line: Mapping[str, Any], ours: Mapping[str, str]) -> dict[str, Any]:
    """A line with columns under our names. ours: of `ours_among`."""
    return {ours.get(name, name): value for name, value in line.items()} if ours else dict(line)


def renamed(lines: Sequence[Line], columns: Mapping[str, str], *, diverged: bool) -> list[Line]:
    """Lines under our names.

    Args:
        lines: Of a whole file, each with `where` it is from.
        columns: By name of ours the file's, as the user says.
        diverged: An empty `return` is one that diverged, as pandas writes it; else, and under other names, it was
            not logged on this line.
    """
    theirs = _chosen(lines, columns)
    found = []
    for line in lines:
        values = {ours: line[name] for ours, name in theirs.items() if _filled(line, name)}
        if diverged and theirs.get("return") == "return" in line:
            values.setdefault("return", math.nan)
        found.append({"where": line["where"], **labels_of(theirs.get("return", "")), **values})
    return found


def labels_of(metric: str) -> dict[str, str]:
    """The labels of scores that a file calls so."""
    as_files = [name.replace("/", "_") for name in OF_TRAINING]  # as TensorBoard names what it saves
    return {"labels": TRAINING} if metric in (*OF_TRAINING, *as_files) else {}


def _chosen(lines: Sequence[Line], columns: Mapping[str, str]) -> dict[str, str]:
    """By name of ours the column that has it on all lines: as the user says, else as we call it, else a usual name.

    One column for all: another in the place of an empty value would be training returns among evaluations.
    """
    chosen: dict[str, str] = {}
    for name in dict.fromkeys(("return", *REQUIRED, *OPTIONAL)):
        usual = {"env_steps": STEPS, "return": METRICS}.get(name, ())
        names = [columns[name]] if name in columns else dict.fromkeys([name, *usual])
        scored = [line for line in lines if _filled(line, chosen.get("return", ""))] or lines
        found = [each for each in names if any(_filled(line, each) for line in scored)]
        if not found and name == "return" in names and any(name in line for line in lines):
            found = [name]  # nothing but runs that diverged
        if found:
            chosen[name] = found[0]
        if name not in (*columns, *found[:1]) and (len(found) > 1 or set(found) & set(OF_OTHERS)):
            others = f", and not {', '.join(found[1:])}" if found[1:] else ""
            hint = f"taken as {name} is {found[0]!r}{others}; --columns {name}=NAME takes another"
            warnings.warn(hint, ScoresWarning, stacklevel=2)
    return chosen


def _filled(line: Line, name: str) -> bool:
    return line.get(name) not in (None, "")


def check_said(path: Path, lines: Sequence[Mapping[str, Any]], names: Iterable[object], said: Collection[str]) -> None:
    """Raise ScoresError if no line has a column that is needed, with the options that would name it.

    Args:
        path: The file.
        lines: With our names.
        names: The file's own columns.
        said: What the user states for all lines.
    """
    there = {name for line in lines for name in line}
    missing = [name for name in REQUIRED if name not in there and name not in said]
    if not missing or not lines:
        return
    texts = [str(name) for name in names if name != "where"]
    forms = {_form(text): text for text in texts}
    near = {name: next((forms[each] for each in _OFTEN[name] if each in forms), "NAME") for name in missing}
    paste = " ".join(f"--columns {shlex.quote(f'{name}={theirs}')}" for name, theirs in near.items())
    first = f"which column is the {missing[0]}" if len(missing) == 1 else f"which columns are {', '.join(missing)}"
    raise ScoresError(
        f"{path}: {first}? {paste} (or --with {missing[0]}=VALUE for all lines); there are {', '.join(texts)}"
    )


def _form(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
