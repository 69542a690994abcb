"""Following a run's rows while another process appends them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MEASURED = ("eval", "episode", "train", "throughput", "vlm")  # what a run that goes on measures again


def by_step(rows: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """What was measured in rows, as values by `kind/metric`, by environment step in the order it was reached."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["kind"] in MEASURED:  # "nan" is stored as text
            found.setdefault(row["env_steps"], {})[f"{row['kind']}/{row['metric']}"] = float(row["value"])
    return found


class Rows:
    """The rows of one run that have not been told yet.

    Made before the run starts or goes on: what stands in the file then counts as told. After a `resume` row, measured
    rows are left out up to the step that had been told of their kind and metric.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read = 0  # bytes
        self._told: dict[tuple[Any, Any], Any] = {}  # the last step of each kind and metric
        self._repeated: dict[tuple[Any, Any], Any] = {}  # the same at the last `resume`
        self.new()

    def new(self) -> list[dict[str, Any]]:
        """Whole lines since the last call; lines that are no rows are left out."""
        try:
            with self.file.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:  # not there yet, or on a disk that fails now: the next look may find it
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [row for line in whole.splitlines() if (row := row_of(line)) and self._is_news(row)]

    def _is_news(self, row: dict[str, Any]) -> bool:
        if row["kind"] == "resume":
            self._repeated = dict(self._told)
        if row["kind"] not in (*MEASURED, "signal"):
            return True
        what, step = (row["kind"], row.get("metric")), row["env_steps"]
        self._told[what] = max(step, self._told.get(what, step))
        return bool(step > self._repeated.get(what, -1))


def row_of(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None for what a killed writer left half-written."""
    try:
        row = json.loads(line)
        return row if isinstance(row["kind"], str) and isinstance(row["env_steps"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
