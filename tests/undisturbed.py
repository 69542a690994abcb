"""Runs that were disturbed, held to the same runs in this process, which nobody disturbs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from test_train import go, trained

from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig
from results import provenance
from results.store import run_folder

_KNOWN: dict[str, tuple[list[dict[str, Any]], list[Any]]] = {}  # rows and weights, by all that a run depends on


def assert_as_undisturbed(out: Path, other: Path, runs: int) -> None:
    """Every run finished with the rows, in their order, and the final weights of an undisturbed one, bit for bit.

    None is lost or doubled, and nothing is left of whoever wrote them.

    Args:
        out: The store.
        other: Folder for the undisturbed runs.
        runs: How many there should be.
    """
    records = provenance.statuses(out)
    assert [record["status"] for record in records.values()] == ["finished"] * runs
    for run_id, record in records.items():
        *rows, end = counting_rows(out, run_id)
        assert end["kind"] == "end"
        expected, weights = undisturbed(record["config"], other)
        assert rows == expected
        assert trained(RunConfig.from_dict(record["config"])) == weights
    assert leftovers(out) == []


def undisturbed(config: dict[str, Any], folder: Path) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows and final weights of a run; executed once, however often they are asked for."""
    key = json.dumps(config | {"out": ""}, sort_keys=True)
    if key not in _KNOWN:
        one = RunConfig.from_dict(config | {"out": str(folder)})
        go(one, registry.agent(one.agent))
        _KNOWN[key] = counting_rows(folder, one.run_id), trained(one)
    return _KNOWN[key]


def counting_rows(out: Path, run_id: str) -> list[dict[str, Any]]:
    """Rows in the order in which they were last written; times are left out.

    A later `resume` makes rows of later steps void. A session that goes on may write those of its first step again, the
    same; no session writes a row twice.
    """
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    session: set[tuple[Any, ...]] = set()
    for line in (run_folder(out, run_id) / "rows.jsonl").read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # cut short by a kill
            continue
        key = row["kind"], row["env_steps"], row["metric"]
        if row["kind"] == "resume":
            kept = {key: before for key, before in kept.items() if before["env_steps"] <= row["env_steps"]}
            session.clear()
        elif row["kind"] not in ("throughput", "error"):
            row = {key: value for key, value in row.items() if key not in ("wall_s", "time")}
            assert key not in session and kept.pop(key, row) == row
            session.add(key)
            kept[key] = row
    return list(kept.values())


def leftovers(out: Path) -> list[str]:
    """Leases, probes and half-written files."""
    names = (os.path.join(folder, name) for folder, _, files in os.walk(out) for name in files)
    return [name for name in names if os.path.basename(name) == "lease.json" or name.endswith((".tmp", ".part"))]
