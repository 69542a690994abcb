"""Writing the rows of one run: append-only, one writer, nothing written is ever changed or lost."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from results.files import AWAY, read_bytes
from results.layout import ROWS_FILE, SCHEMA, RunId, StoreError, run_folder
from results.lease import Lease
from results.line import checked_labels, measured
from results.lock import acquire, replace_lock
from results.states import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

KINDS = tuple(RowKind)
_DURABLE = frozenset({RowKind.EVAL, RowKind.VLM, RowKind.ERROR, RowKind.END})  # on the disk before write() returns


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
        StoreError: On entering, `RunHeld` if another process writes this run (which may take a lease's length to see),
            or if the folder cannot be written.
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
        self.out = os.path.abspath(out)  # an agent may change the working directory
        self.folder = run_folder(self.out, self.run_id)
        if action_repeat < 1:
            raise ValueError(f"action_repeat must be 1 or more, got {action_repeat}")
        self._action_repeat = action_repeat
        self._labels = checked_labels(labels or {})
        self._lease: Lease | None = None
        self._lock = self._rows = -1
        self._size = 0  # of the file, as far as this process knows
        self._torn = False  # the file ends in a half-written line
        self._unsynced = bytearray()  # rows that are not known to be on the disk
        self._env_steps = self._agent_steps = 0
        self._earlier_wall_s = 0.0
        self._opened = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds spent on this run so far, earlier sessions included."""
        return self._earlier_wall_s + time.monotonic() - self._opened

    @property
    def lease(self) -> Lease:
        """The right to write this run, while it is open."""
        if self._lease is None:
            raise StoreError(f"run {self.run_id} is not open for writing; use `with RunWriter(...) as writer:`")
        return self._lease

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take()
            path = self.folder / ROWS_FILE
            if self.lease.inherited and path.exists():
                renew_file(path)
            self._continue_from(read_bytes(path) if path.exists() else b"")  # fails for a pipe, which would wait
            self._rows = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            self.close()
            raise self._failure(error) from error
        except BaseException:
            self.close()
            raise
        self._opened = time.monotonic()
        return self

    def _take(self) -> None:
        """Become the run's writer: its lock, where this machine can give it, and its lease. Raises RunHeld, OSError."""
        lock = acquire(self.folder)
        self._lock = lock if isinstance(lock, int) else -1
        self._lease = Lease.take(self.folder, self.run_id, lock_holder="" if isinstance(lock, int) else lock)
        if isinstance(lock, str):
            lock = replace_lock(self.folder)
            self._lock = lock if isinstance(lock, int) else -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release the run to other writers; may be called twice."""
        if self._rows >= 0:
            os.close(self._rows)
        if self._lease is not None:
            self._lease.release()
        if self._lock >= 0:
            os.close(self._lock)  # releases it
        self._lock = self._rows = -1
        self._lease = None

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
            StoreError: If the rows cannot be written; `LeaseLost` if another process has taken the run over.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of row {kind!r}; valid: {', '.join(KINDS)}")
        common: dict[str, Any] = {"schema": SCHEMA, "kind": str(kind)}
        common |= {"env_steps": int(env_steps), "agent_steps": int(agent_steps), "action_repeat": self._action_repeat}
        common |= {"wall_s": round(self.wall_s, 3), "time": round(time.time(), 3)}
        common |= {"labels": self._labels} if self._labels else {}
        common |= {"text": text} if text else {}
        common |= {"token": self.lease.token} if kind == RowKind.RESUME else {}
        lines = [json.dumps(common | measured(metric, value), allow_nan=False) for metric, value in metrics.items()]
        self._append(("\n".join(lines) + "\n").encode() if lines else b"", durable=kind in _DURABLE)
        self._env_steps, self._agent_steps = int(env_steps), int(agent_steps)

    def error(self, text: str) -> None:
        """Append an `error` row at the steps of the last row."""
        self.write(RowKind.ERROR, self._env_steps, self._agent_steps, {"error": 1.0}, text=text)

    def resume(self, env_steps: int, agent_steps: int) -> None:
        """Mark that the run goes on from these steps: rows written for later ones become void."""
        self.write(RowKind.RESUME, env_steps, agent_steps, {"resume": 1.0})

    def end(self) -> None:
        """Append the `end` row of a completed run at the steps of the last row."""
        self.write(RowKind.END, self._env_steps, self._agent_steps, {"end": 1.0})

    def sync(self) -> None:
        """Return when all rows are on the disk. Raises StoreError."""
        try:
            self._sync()
        except OSError as error:
            raise self._failure(error) from error

    def _sync(self) -> None:
        """Raises OSError."""
        try:
            os.fsync(self._rows)
        except OSError as error:
            if error.errno not in AWAY:
                raise
            self.lease.patiently(self._write_again)
        self._unsynced.clear()

    def _write_again(self) -> None:
        """What a failed fsync may have lost, though the file seems to hold it: the next would say that all is well."""
        descriptor = os.open(self.folder / ROWS_FILE, os.O_WRONLY)
        try:
            os.pwrite(descriptor, self._unsynced, self._size - len(self._unsynced))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _append(self, data: bytes, durable: bool) -> None:
        """Raises StoreError; LeaseLost if the run is another's."""
        lease = self.lease
        if self._torn:
            data = b"\n" + data
        try:
            lease.check()
            self._torn = True  # until all of it is written
            try:
                append(self._rows, data)
            except OSError as error:
                if error.errno not in AWAY:
                    self._stored(data[: os.fstat(self._rows).st_size - self._size])
                    raise
                lease.patiently(lambda: self._append_rest(data))
            self._torn = False
            self._stored(data)
            if durable:
                self._sync()
        except OSError as error:
            raise self._failure(error) from error

    def _stored(self, data: bytes) -> None:
        """The file has got longer by these bytes, which no fsync has covered yet."""
        self._size += len(data)
        self._unsynced += data

    def _append_rest(self, data: bytes) -> None:
        """After a failure that left open how much of `data` was written: open the file anew and write what is missing.

        Raises LeaseLost, OSError.
        """
        self.lease.check(look=True)
        path = self.folder / ROWS_FILE
        rows = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(rows, self._rows)
        os.close(rows)
        if self._unsynced:
            self._write_again()  # first: a server that has dropped them would have the new ones in their place
        written = path.read_bytes()[self._size :]
        append(self._rows, data[len(written) :] if data.startswith(written) else b"\n" + data)

    def _continue_from(self, data: bytes) -> None:
        """Restore wall time and steps from the last whole row of an earlier session."""
        self._torn, self._size = bool(data) and not data.endswith(b"\n"), len(data)
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
            f"cannot write run {self.run_id} in {error.filename or self.folder}: {error.strerror or error}. Rows "
            "already written are kept; free some space, make the folder writable (and remove from it what is no file) "
            "or choose another output folder, then run the same command again to go on."
        )


def append(descriptor: int, data: bytes) -> None:
    """Write all of `data` to a descriptor opened with O_APPEND, in one call unless the disk is full. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]


def renew_file(path: Path) -> None:
    """Put a copy in a file's place: who has it open for appending then appends to a file without a name."""
    part = path.with_name(f"{path.name}.copy.tmp")
    with part.open("wb") as file:
        file.write(read_bytes(path))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
