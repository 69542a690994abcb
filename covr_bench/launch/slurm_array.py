"""An array of Slurm: a folder in the store with the script, an order for each run, and what became of each.

`<out>/slurm/<name>/{script.sh, 0.json, 0.log, 0.told.json, ...}`. An order is what a worker reads, `{"config": ...,
"session": ...}`. The array's name is its job's name, so that Slurm's queue says which folders are at work.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError
from covr_bench.run import child
from results import provenance
from results.layout import StoreError
from results.lock import flock

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from covr_bench.run.session import Session

PREFIX = "covr-"
FOLDER = "slurm"
SCRIPT, ORDERS = "script.sh", "orders.json"


@dataclass(frozen=True)
class Told:
    """What a task tells of its run.

    Attributes:
        outcome: `running`, `finished`, `failed` or `interrupted`.
        error: Why it failed or was interrupted.
        warnings: What the run told the user.
        restarts: How often its process was killed and started again, and the task was given another turn.
        fruitless: Turns in a row in which the run did not come to its first step.
        memory: Bytes that it needs, if it failed for want of memory.
        progress: The run's last, once it has an outcome.
    """

    outcome: str = "running"
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    restarts: int = 0
    fruitless: int = 0
    memory: int = 0
    progress: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Readers see what was told before, or this. Raises OSError."""
        part = path.with_suffix(".tmp")
        part.write_text(json.dumps(asdict(self)))
        os.replace(part, path)

    @classmethod
    def read(cls, path: Path) -> Told | None:
        """None if nothing was told yet."""
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return cls(**{key: values[key] for key in cls.__dataclass_fields__ if key in values})


@dataclass(frozen=True)
class Array:
    """An array by its folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def run_ids(self) -> list[str]:
        """Of its tasks, in their order; empty if its folder is gone or was never complete."""
        try:
            return list(json.loads((self.folder / ORDERS).read_text()))
        except (OSError, ValueError):
            return []

    def order(self, index: int) -> Path:
        return self.folder / f"{index}.json"

    def log(self, index: int) -> Path:
        """What Slurm itself and the script's own lines print; a run's output is in its folder."""
        return self.folder / f"{index}.log"

    def told(self, index: int) -> Path:
        return self.folder / f"{index}.told.json"

    @classmethod
    def make(cls, store: Path, configs: Sequence[RunConfig], session: Session) -> Array:
        """The folder of a new array, with its orders. Raises UserError if it cannot be written."""
        name = f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        array = cls((store / FOLDER / name).resolve())
        try:
            array.folder.mkdir(parents=True)
            for index, config in enumerate(configs):
                order: dict[str, Any] = {"config": config.as_dict(), "session": asdict(session)}
                array.order(index).write_text(json.dumps(order | {"told": str(array.told(index))}))
            (array.folder / ORDERS).write_text(json.dumps([config.run_id for config in configs]))
        except OSError as error:
            raise UserError(
                f"cannot write {array.folder}: {error.strerror or error}. Mend that folder, or give another --out"
            ) from error
        return array

    def remove(self) -> None:
        """Delete the folder of an array that Slurm has no task of."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write_script(self, options: Mapping[str, str | int | None], extra: Sequence[str], setup: str) -> Path:
        """The script that Slurm executes for each task. Raises OSError.

        Args:
            options: Of sbatch, by their long names; None for one without a value.
            extra: Words for sbatch as the user gave them; they override.
            setup: Lines of the user that come before the run.
        """
        path = self.folder / SCRIPT
        path.write_text(script(self.folder, options, extra, setup))
        return path


def script(folder: Path, options: Mapping[str, str | int | None], extra: Sequence[str], setup: str) -> str:
    """The text of an array's script; see `Array.write_script`."""
    fixed: dict[str, str | int | None] = {
        "job-name": folder.name,
        "output": f"{folder}/%a.log".replace("%", "%%").replace("%%a.log", "%a.log"),
        "chdir": os.getcwd(),
        "export": "ALL",
        "requeue": None,
        "open-mode": "append",
    }
    words = [f"--{name}" if value is None else f"--{name}={value}" for name, value in (fixed | dict(options)).items()]
    run = shlex.join([sys.executable, child.__file__, "covr_bench.launch.slurm_task"])
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {shlex.quote(word)}" for word in words),
            *([f"#SBATCH {shlex.join(extra)}"] if extra else []),
            *([setup.rstrip()] if setup.strip() else []),
            "export COVR_BENCH_LAUNCHER=slurm",
            'export COVR_BENCH_JOB="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
            # In the shell's place, so that Slurm's signals find it; and it ends with the step whose child it is.
            f'exec {run} "$PPID" < {shlex.quote(str(folder))}/"$SLURM_ARRAY_TASK_ID.json"',
            "",
        ]
    )


@contextmanager
def handing_in(store: Path) -> Iterator[None]:
    """While one command looks at the queue and hands in what is missing, others wait. Raises UserError."""
    folder = store / FOLDER
    try:
        for each in (folder, store / "runs"):  # whoever reads meanwhile finds a store, though an empty one
            each.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}. Mend that folder, or give another --out"
        ) from error
    with file:
        flock(file, fcntl.LOCK_EX)
        yield


def memory_needed(store: Path) -> dict[str, int]:
    """Bytes of memory, by the ids of runs that were killed for want of it and have not finished since."""
    needed: dict[str, int] = {}
    for array in map(Array, (store / FOLDER).glob(f"{PREFIX}*")):
        for index, run_id in enumerate(array.run_ids):
            if (told := Told.read(array.told(index))) and told.memory:
                needed[run_id] = max(told.memory, needed.get(run_id, 0))
    return needed


def sweep(store: Path, at_work: Collection[str]) -> None:
    """Remove the folders of arrays that Slurm has no more of, and whose runs have all finished.

    Args:
        store: Folder of the results.
        at_work: Names of the arrays in Slurm's queue.
    """
    for folder in (store / FOLDER).glob(f"{PREFIX}*"):
        array = Array(folder)
        if folder.name not in at_work and all(_is_finished(store, run_id) for run_id in array.run_ids):
            array.remove()


def _is_finished(store: Path, run_id: str) -> bool:
    try:
        return provenance.is_finished(store, run_id)
    except StoreError:  # a damaged record
        return False
