"""Identity of a run, its folder, and the list of all runs."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = 1  # of a line of rows.jsonl and of provenance.json
RUNS = "runs"
ROWS_FILE = "rows.jsonl"
PROVENANCE_FILE = "provenance.json"
REQUEST_FILE = "request.yaml"
LOCK_FILE = "writer.lock"
FROM = "-from-"  # in the budget of an evaluation: before it that of the training, after it the task trained on
CANCEL_FILE = "cancel"  # its presence asks the run's writer to checkpoint and stop, and launchers not to start it

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_AGENT = r"[A-Za-z0-9_][A-Za-z0-9_.+]*"
_VARIANT = r"[^/\x00-\x1f\x7f\ud800-\udfff]+"
_SEED = r"0|[1-9][0-9]{0,17}"  # 64 bits hold it
_RUN_ID = re.compile(
    rf"(?P<suite>{_NAME})@(?P<budget>{_NAME})/(?P<task>{_NAME})"
    rf"/(?P<agent>{_AGENT})(?:-(?P<variant>{_VARIANT}))?/(?P<seed>{_SEED})"
)
_FORM = "<suite>@<budget>/<task>/<agent>[-<variant>]/<seed>"
_MAX_FOLDER_BYTES = 255  # longest folder name common file systems take
_LONGEST_VARIANT = 60  # characters that still fit a column of a table
HASHED = "set-"  # prefix of a variant whose settings are too long for a name


class StoreWarning(UserWarning):
    """A file of the store cannot be used as a whole, and is left out. The message names it."""


class StoreError(Exception):
    """Results could not be written or read. The message says what failed, where, and how to go on."""


@dataclass(frozen=True, order=True)
class RunId:
    """One reproducible run; as text `<suite>@<budget>/<task>/<agent>[-<variant>]/<seed>`.

    Args:
        suite, budget, task: Letters, digits and `_.+-`.
        agent: The same without `-`, so that the first `-` starts the variant.
        variant: Any text that a folder name can hold; empty for the agent as published.
        seed: 0 or more.

    Raises:
        ValueError: For anything else.
    """

    suite: str
    budget: str
    task: str
    agent: str
    variant: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for field, pattern, valid in (
            ("suite", _NAME, "letters, digits and _.+-"),
            ("budget", _NAME, "letters, digits and _.+-"),
            ("task", _NAME, "letters, digits and _.+-"),
            ("agent", _AGENT, "letters, digits and _.+ (a '-' starts the variant)"),
            ("variant", f"(?:{_VARIANT})?", "any printable text without '/'"),
            ("seed", _SEED, "a whole number, 0 or more, of at most 18 digits"),
        ):
            value = getattr(self, field)
            if not re.fullmatch(pattern, str(value)):
                raise ValueError(f"{field} {value!r} cannot be part of a run id {_FORM}; valid: {valid}")
        longest = max(str(self).split("/"), key=lambda part: len(part.encode()))
        if len(longest.encode()) > _MAX_FOLDER_BYTES:
            raise ValueError(f"{longest!r} is longer than a folder name can be ({_MAX_FOLDER_BYTES} bytes); shorten it")

    def __str__(self) -> str:
        agent = f"{self.agent}-{self.variant}" if self.variant else self.agent
        return f"{self.suite}@{self.budget}/{self.task}/{agent}/{self.seed}"

    @classmethod
    def parse(cls, text: str) -> RunId:
        """The run id that prints as `text`. Raises ValueError if `text` is none."""
        match = _RUN_ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a run id; expected {_FORM}, such as dmc6@paper/cartpole_swingup/drqv2/0")
        part = match.groupdict(default="")
        return cls(part["suite"], part["budget"], part["task"], part["agent"], part["variant"], int(part["seed"]))


def variant_of(settings: Mapping[str, object]) -> str:
    """Name of a variant: its settings, `lr=1e-3,nstep=1`, or their hash if that is long or holds odd characters."""
    text = ",".join(f"{key}={value}" for key, value in sorted(settings.items()))
    if not text or (len(text) <= _LONGEST_VARIANT and re.fullmatch(r"[\w.,=+-]+", text)):
        return text
    return HASHED + hashlib.sha256(text.encode()).hexdigest()[:8]


def run_folder(out: str | os.PathLike[str], run_id: RunId | str) -> Path:
    """The folder of a run: `<out>/runs/<run_id>`."""
    return Path(out) / RUNS / str(run_id)


def store_of(folder: Path) -> Path | None:
    """The folder of results that a run's folder lies in; None of a folder that is no run's."""
    *rest, runs, suite, task, agent, seed = ("",) * 5 + folder.absolute().parts
    run_id = "/".join((suite, task, agent, seed))
    return Path(*filter(None, rest)) if runs == RUNS and _RUN_ID.fullmatch(run_id) else None


def scan(out: str | os.PathLike[str], file: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield `(run_id, stat)` of `file` in every run folder that has one, ordered by suite, task, agent, seed number.

    Folders that are no run ids are skipped, with a warning if they hold that file; so is what cannot be listed, and a
    `file` that is no file.
    """
    root = os.path.join(out, RUNS)
    for run_id in _folders(root):
        try:
            stat = os.stat(f"{root}/{run_id}/{file}")
        except FileNotFoundError:
            continue
        except OSError as error:
            _left_out(f"{root}/{run_id}/{file}", error.strerror or str(error))
            continue
        if not _RUN_ID.fullmatch(run_id):
            warnings.warn(f"{root}/{run_id} is ignored: not of the form {_FORM}", StoreWarning, stacklevel=2)
        elif S_ISREG(stat.st_mode):
            yield run_id, stat
        else:
            _left_out(f"{root}/{run_id}/{file}", "not a file")


def run_ids(out: str | os.PathLike[str]) -> list[str]:
    """Every run that has a folder, whatever is in it, in the order of `scan`."""
    return [run_id for run_id in _folders(os.path.join(out, RUNS)) if _RUN_ID.fullmatch(run_id)]


def recorded(out: str | os.PathLike[str]) -> list[str]:
    """Every run whose folder has a record or rows, be they damaged or no file, in the order of `scan`."""
    return [
        run_id
        for run_id in run_ids(out)
        if any(os.path.lexists(run_folder(out, run_id) / name) for name in (PROVENANCE_FILE, ROWS_FILE))
    ]


def _folders(root: str) -> Iterator[str]:
    """Folders that lie as deep as those of runs do."""
    for suite in _subfolders(root):
        for task in _subfolders(f"{root}/{suite}"):
            for agent in _subfolders(f"{root}/{suite}/{task}"):
                parent = f"{suite}/{task}/{agent}"
                for seed in sorted(_subfolders(f"{root}/{parent}"), key=lambda name: (len(name), name)):
                    yield f"{parent}/{seed}"


def _subfolders(path: str) -> list[str]:
    """Sorted names of the folders in `path`; none if it does not exist."""
    try:
        with os.scandir(path) as entries:
            found = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
    except FileNotFoundError:
        if os.path.islink(path):
            _left_out(path, "a link to nowhere")
        return []
    except OSError as error:
        _left_out(path, error.strerror or str(error))
        return []
    for name in sorted(name for name, is_folder in found.items() if not is_folder):
        _left_out(f"{path}/{name}", "a link to nowhere" if os.path.islink(f"{path}/{name}") else "no folder")
    return sorted(name for name, is_folder in found.items() if is_folder)


def _left_out(path: str, reason: str) -> None:
    warnings.warn(f"{path} is left out: {reason}", StoreWarning, stacklevel=3)
