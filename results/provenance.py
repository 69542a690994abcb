"""Provenance of a run: code, packages, machine, configuration and sessions, in `provenance.json` beside its rows."""

from __future__ import annotations

import datetime
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.code_identity import code_of, is_changed
from results.environment import collect
from results.files import read_bytes, write_bytes
from results.holding import peak_memory, read_lease
from results.layout import HASHED, PROVENANCE_FILE, SCHEMA, RunId, StoreError, StoreWarning, run_folder, scan
from results.line import json_value
from results.lock import writer_pid
from results.shape import completed, fault
from results.states import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from results.lease import Lease


def begin(
    out: str | os.PathLike[str],
    run_id: RunId | str,
    *,
    config: Mapping[str, Any],
    seeds: Mapping[str, int],
    command: str,
    options: Mapping[str, Any] | None = None,
    wall_s: float = 0.0,
    extra: Mapping[str, Any] | None = None,
    lease: Lease | None = None,
) -> dict[str, Any]:
    """Open a session of a run: its status becomes `running`, and `sessions` gets one more entry.

    A resumed run keeps its first configuration; a session whose configuration differs lists the changed keys under
    `config_changes`.

    Args:
        out: Folder of the results.
        run_id: The run.
        config: The resolved configuration, JSON values.
        seeds: The run's seed and all seeds derived from it.
        command: The command that asks for the run, for people to read.
        options: The command's options as data, so that it can be repeated.
        wall_s: Seconds spent on the run before this session (`RunWriter.wall_s` once open). They complete the entry of
            a session that was killed.
        extra: Facts that only the caller knows (`gl_vendor`, `gl_renderer`), added to the environment.
        lease: Of the run, where it has one: without it, nothing is written.

    Returns:
        The record as written.

    Raises:
        StoreError: If the record cannot be read or written; `LeaseLost` if another process has taken the run over.
    """
    path = run_folder(out, run_id) / PROVENANCE_FILE
    record: dict[str, Any] = {"config": dict(config), "sessions": [], "wall_s": 0.0}
    record = read(path) if path.exists() else record
    sessions: list[dict[str, Any]] = record["sessions"]
    closed = record.get("wall_s", 0.0)
    if sessions and sessions[-1].get("wall_s") is None:
        sessions[-1]["wall_s"] = round(max(wall_s - closed, 0.0), 3)
    environment = collect() | dict(extra or {})
    session: dict[str, Any] = {"started": _now(), "ended": None, "wall_s": None, "git_sha": environment["git_sha"]}
    session |= {"command": command, "options": dict(options or {}), "code": dict(config.get("code", {}))}
    if (before := code_of(record)) and is_changed(before, session["code"]):
        session["accepted_changed_code"] = {"from": before, "to": session["code"]}
    if changes := _changes(record["config"], config):
        session["config_changes"] = changes
    record["config"] |= {key: config[key] for key in ("agent", "suite") if key in config}  # a file may have moved
    record |= {"schema": SCHEMA, "run_id": str(run_id), "status": Status.RUNNING.value, "seeds": dict(seeds)}
    record |= {"wall_s": round(max(wall_s, closed), 3), "environment": environment}
    sessions.append(session)
    write(path, record, lease)
    return record


def describe(
    out: str | os.PathLike[str], run_id: RunId | str, facts: Mapping[str, Any], *, lease: Lease | None = None
) -> None:
    """Add facts that only the running agent knows (its model, how it asks).

    Args:
        out: Folder of the results.
        run_id: The run, which has a record.
        facts: JSON values, stored under `agent`.
        lease: As of `begin`.

    Raises:
        StoreError: If the record cannot be read or written.
    """
    path = run_folder(out, run_id) / PROVENANCE_FILE
    write(path, read(path) | {"agent": dict(facts)}, lease)


def finish(
    out: str | os.PathLike[str], run_id: RunId | str, status: str, *, wall_s: float, lease: Lease | None = None
) -> None:
    """Close the open session.

    Args:
        out: Folder of the results.
        run_id: The run, which has a record.
        status: A `Status` or its text.
        wall_s: Seconds spent on the run over all sessions (`RunWriter.wall_s`).
        lease: As of `begin`.

    Raises:
        ValueError: For an unknown status.
        StoreError: If the record cannot be read or written.
    """
    if status not in tuple(Status):
        raise ValueError(f"unknown status {status!r}; valid: {', '.join(Status)}")
    path = run_folder(out, run_id) / PROVENANCE_FILE
    record = read(path)
    session = record["sessions"][-1]
    session |= {"ended": _now(), "wall_s": round(wall_s - record.get("wall_s", 0.0), 3)}
    session |= {"peak_memory_bytes": peak_memory()} if lease else {}
    write(path, record | {"status": status, "wall_s": round(wall_s, 3)}, lease)


def is_finished(out: str | os.PathLike[str], run_id: RunId | str) -> bool:
    """Whether a run is complete. Raises StoreError if its record is damaged or written by a newer version."""
    path = run_folder(out, run_id) / PROVENANCE_FILE
    return path.exists() and read(path).get("status") == Status.FINISHED


def went_on_with_other_code(
    out: str | os.PathLike[str], run_id: RunId | str, code: Mapping[str, str] | None = None
) -> bool:
    """Whether a run went on with changed code, or will if its next session has other code.

    Args:
        out: Folder of the results.
        run_id: The run; without a record the answer is no.
        code: Hashes of the next session's code, by what it is the code of.

    Raises:
        StoreError: If the record is damaged or written by a newer version.
    """
    path = run_folder(out, run_id) / PROVENANCE_FILE
    if not path.exists():
        return False
    record = read(path)
    before = code_of(record)
    accepted = any("accepted_changed_code" in session for session in record["sessions"])
    return accepted or bool(before and is_changed(before, code or {}))


def write(path: str | os.PathLike[str], record: Mapping[str, Any], lease: Lease | None = None) -> None:
    """Write a record as JSON. Readers see the old file or the new one, never a part.

    Args:
        path: The file; its folder is made, but not where a lease says that it was there.
        record: JSON values; others are written as their text.
        lease: Looked at last before the new file replaces the old one.

    Raises:
        StoreError: If the file cannot be written, `LeaseLost` if the run is another process's; the old one remains.
    """
    path = Path(path)
    text = json.dumps(record, indent=2, default=str) + "\n"
    try:
        if lease is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode(), (lambda: lease.check(look=True)) if lease is not None else None)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. Free some space, make the folder writable or choose "
            "another output folder, then run the same command again."
        ) from error


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a record.

    Args:
        path: The file.

    Returns:
        JSON values.

    Raises:
        StoreError: If the file is absent, damaged or written by a newer version.
    """
    try:
        record = json_value(read_bytes(path))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {error}. Restore the file from a copy.") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if not isinstance(schema, int):
        raise StoreError(f"{path} is not a provenance record. Restore the file from a copy.")
    if schema > SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, this version reads up to {SCHEMA}: pip install --upgrade covr-bench"
        )
    if damage := fault(record):
        raise StoreError(f"{path} is damaged: {damage}. Restore the file from a copy.")
    return dict(record)


def statuses(out: str | os.PathLike[str] = "results") -> dict[str, dict[str, Any]]:
    """The records of all runs.

    Args:
        out: Folder of the results; may be absent.

    Returns:
        By run id the record, with empty values for fields it lacks. A record with status `running` but without a living
        writer gets `interrupted`; whether a writer on another machine lives is not known here. A damaged record is left
        out with a warning.
    """
    records: dict[str, dict[str, Any]] = {}
    for run_id, _ in scan(out, PROVENANCE_FILE):
        try:
            record = read(run_folder(out, run_id) / PROVENANCE_FILE)
        except StoreError as error:
            warnings.warn(f"the record of {run_id} is left out: {error}", StoreWarning, stacklevel=2)
            continue
        if record["status"] == Status.RUNNING and not is_written(out, run_id):
            record["status"] = Status.INTERRUPTED.value
        records[run_id] = completed(record)
    return records


def is_written(out: str | os.PathLike[str], run_id: str) -> bool:
    """Whether a process of this machine writes a run, or one of another may."""
    try:
        holding = read_lease(run_folder(out, run_id))
        return writer_pid(out, run_id) is not None or (holding is not None and holding.lives() is None)
    except OSError:  # nobody can tell here
        return True


def hashed_settings(out: str | os.PathLike[str], runs: Mapping[str, str]) -> dict[str, str]:
    """The user's settings behind variants that are named by a hash.

    Args:
        out: Folder of the results.
        runs: By variant the id of one of its runs.

    Returns:
        By variant its settings, such as `lr=1e-3, nstep=1`. Variants that are no hash, or whose run does not record its
        settings, are left out; so is a damaged record, with a warning.
    """
    found = {}
    for variant, run_id in runs.items():
        path = run_folder(out, run_id) / PROVENANCE_FILE
        if HASHED not in variant:
            continue
        try:
            if not path.exists():
                continue
            settings = read(path)["config"].get("overrides")
        except (StoreError, OSError) as error:
            warnings.warn(f"the settings of {run_id} are not shown: {error}", StoreWarning, stacklevel=2)
            continue
        if settings:
            found[variant] = ", ".join(f"{key}={value}" for key, value in settings.items())
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """`{key: [before, after]}` of the top-level keys that differ once written as JSON."""
    old, new = (json.loads(json.dumps(dict(config), default=str)) for config in (before, after))
    return {key: [old.get(key), new.get(key)] for key in old | new if old.get(key) != new.get(key)}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
