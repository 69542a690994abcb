"""Writing the rows of one run: append-only, one writer, nothing written is ever changed or lost."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from typing import TYPE_CHECKING, Any

from results.layout import LOCK_FILE, ROWS_FILE, SCHEMA, RunId, StoreError, run_folder
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

KINDS = tuple(RowKind)
_DURABLE = frozenset({RowKind.EVAL, RowKind.VLM, RowKind.ERROR, RowKind.END})  # on the disk before write() returns
_LOCK_TRIES, _LOCK_WAIT_S = 5, 0.1  # outlasts a reader that tests whether the run is alive


class RunWriter:
    """Appends rows to `<out>/runs/<run_id>/rows.jsonl`; a context manager.

    Args:
        out: Folder of the results.
        run_id: The run.
        action_repeat: Environment steps per agent step, 1 or more.
        labels: How the run departs from the suite's protocol (`{"rendering": "fast"}`), written in every row. Runs with
            different labels are never averaged.

    Raises:
        ValueError: For an action repeat below 1, or a label that holds `,` or `=`.
        StoreError: On entering, if another process writes this run or the folder cannot be written.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        run_id: RunId | str,
        *,
        action_repeat: int,
        labels: Mapping[str, object] | None = None,
    ) -> None:
        self.run_id = run_id if isinstance(run_id, RunId) else RunId.parse(run_id)
        self.folder = run_folder(out, self.run_id)
        if action_repeat < 1:
            raise ValueError(f"action_repeat must be 1 or more, got {action_repeat}")
        self._action_repeat = action_repeat
        self._labels = checked_labels(labels or {})
        self._lock = self._rows = -1
        self._torn = False  # the file ends in a half-written line
        self._env_steps = self._agent_steps = 0
        self._earlier_wall_s = 0.0
        self._opened = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds spent on this run so far, earlier sessions included."""
        return self._earlier_wall_s + time.monotonic() - self._opened

    def __enter__(self) -> Self:
        path = self.folder / ROWS_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _acquire(self.folder / LOCK_FILE, self.run_id)
            self._rows = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._continue_from(path.read_bytes())
        except OSError as error:
            self.close()
            raise self._failure(error) from error
        self._opened = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release the run to other writers; may be called twice."""
        for descriptor in (self._rows, self._lock):  # closing the lock file releases the lock
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._rows = -1

    def write(
        self,
        kind: str,
        env_steps: int,
        agent_steps: int,
        metrics: Mapping[str, float | Sequence[float]],
        *,
        text: str = "",
    ) -> None:
        """Append one row per metric, in one system call.

        Example: `write("eval", 4000, 1000, {"return": returns, "success_rate": 0.4})`.

        Args:
            kind: A `RowKind` or its text.
            env_steps: Environment steps of training so far, action repeat counted.
            agent_steps: Actions chosen in training so far.
            metrics: A number, stored as it is, or a sequence with one number per episode, stored whole with its mean
                as the value. NaN and infinities are kept.
            text: A message, such as that of an error.

        Raises:
            ValueError: For an unknown kind or an empty sequence.
            StoreError: If the rows cannot be written.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of row {kind!r}; valid: {', '.join(KINDS)}")
        common: dict[str, Any] = {"schema": SCHEMA, "kind": str(kind)}
        common |= {"env_steps": int(env_steps), "agent_steps": int(agent_steps), "action_repeat": self._action_repeat}
        common |= {"wall_s": round(self.wall_s, 3), "time": round(time.time(), 3)}
        common |= {"labels": self._labels} if self._labels else {}
        common |= {"text": text} if text else {}
        lines = [json.dumps(common | _measured(metric, value), allow_nan=False) for metric, value in metrics.items()]
        self._append(("\n".join(lines) + "\n").encode() if lines else b"", durable=kind in _DURABLE)
        self._env_steps, self._agent_steps = int(env_steps), int(agent_steps)

    def error(self, text: str) -> None:
        """Append an `error` row at the steps of the last row."""
        self.write(RowKind.ERROR, self._env_steps, self._agent_steps, {"error": 1.0}, text=text)

    def resume(self, env_steps: int) -> None:
        """Mark that the run goes on from `env_steps`: rows written for later steps become void."""
        self.write(RowKind.RESUME, env_steps, env_steps // self._action_repeat, {"resume": 1.0})

    def end(self) -> None:
        """Append the `end` row of a completed run at the steps of the last row."""
        self.write(RowKind.END, self._env_steps, self._agent_steps, {"end": 1.0})

    def _append(self, data: bytes, durable: bool) -> None:
        if self._rows < 0:
            raise StoreError(f"run {self.run_id} is not open for writing; use `with RunWriter(...) as writer:`")
        try:
            if self._torn:
                data = b"\n" + data
            self._torn = True  # until all of it is written
            append(self._rows, data)
            self._torn = False
            if durable:
                os.fsync(self._rows)
        except OSError as error:
            raise self._failure(error) from error

    def _continue_from(self, data: bytes) -> None:
        """Restore wall time and steps from the last whole row of an earlier session."""
        self._torn = bool(data) and not data.endswith(b"\n")
        for line in reversed(data.splitlines()):
            try:
                row = json.loads(line)
                wall_s, env_steps, agent_steps = float(row["wall_s"]), int(row["env_steps"]), int(row["agent_steps"])
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                continue  # half-written: the row before it counts; readers of the store warn of it
            self._earlier_wall_s, self._env_steps, self._agent_steps = wall_s, env_steps, agent_steps
            return

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write run {self.run_id} in {self.folder}: {error.strerror or error}. Rows already written are "
            "kept; free some space, make the folder writable or choose another output folder, "
            "then run the same command again to go on."
        )


def append(descriptor: int, data: bytes) -> None:
    """Write all of `data` to a descriptor opened with O_APPEND, in one call unless the disk is full. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def checked_labels(labels: Mapping[str, object]) -> dict[str, str]:
    """Labels as text, sorted by key. Raises ValueError for a `,` or `=`, which `label_text` needs as separators."""
    text = {str(key): str(value) for key, value in sorted(labels.items())}
    for part in (*text, *text.values()):
        if not part or "," in part or "=" in part:
            raise ValueError(f"label {part!r} must be non-empty and without ',' and '='; labels were {dict(labels)}")
    return text


def label_text(labels: Mapping[str, object]) -> str:
    """Labels as one canonical string, `k=v,k=v` sorted by key; empty when there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def writer_pid(out: str | os.PathLike[str], run_id: RunId | str) -> int | None:
    """The process that holds a run.

    Args:
        out: Folder of the results.
        run_id: The run.

    Returns:
        Its process number, or None if nobody writes the run.
    """
    try:
        descriptor = os.open(run_folder(out, run_id) / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0) or b"0")
    finally:
        os.close(descriptor)
    return None


def _acquire(path: Path, run_id: RunId) -> int:
    """Open and lock `path` for this process. Raises StoreError naming the process that holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _LOCK_TRIES:
                time.sleep(_LOCK_WAIT_S)
        except OSError:
            os.close(descriptor)
            raise
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
    holder = os.pread(descriptor, 32, 0).decode() or "unknown"
    os.close(descriptor)
    raise StoreError(
        f"run {run_id} is being written by process {holder} (lock {path}). Wait for it or stop it, "
        "then run the same command again; or choose another output folder."
    )


def _measured(metric: str, value: float | Sequence[float]) -> dict[str, Any]:
    """The part of a row that differs between the metrics of one call."""
    import numpy as np  # not before there is something to write: the command line starts without it

    array = np.asarray(value, dtype=np.float64)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"metric {metric!r} must be a number or a non-empty list of numbers, got {value!r}")
    if array.ndim == 0:
        return {"metric": metric, "value": _json_number(float(array))}
    episodes = array.tolist()
    return {
        "metric": metric,
        "value": _json_number(sum(episodes) / len(episodes)),
        "episodes": [_json_number(episode) for episode in episodes],
    }


def _json_number(value: float) -> float | str:
    """JSON has no NaN and no infinities: they are written as text."""
    return value if math.isfinite(value) else str(value)
