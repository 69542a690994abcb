"""TensorBoard: every measured row as a scalar at its environment step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.track.base import TrackerSpec, lasting_name, needed
from covr_bench.track.follow import MEASURED

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the TensorBoard tracker.

    Attributes:
        folder: Where its files go, one folder a run; by default `tensorboard` beside the runs.
    """

    folder: str = ""


class TensorBoard:
    """Writes event files: `tensorboard --logdir results/tensorboard`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open = needed("tensorboard", "torch.utils.tensorboard").SummaryWriter
        self._writers: dict[str, SummaryWriter] = {}

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """See `track.base.Tracker`."""
        folder = Path(self.settings.folder) if self.settings.folder else Path(config["out"]) / "tensorboard"
        writer = self._writers[run_id] = self._open(str(folder / lasting_name(run_id, facts)))
        for name, values in (("config", config), ("facts", facts)):
            writer.add_text(name, f"```\n{json.dumps(values, indent=2)}\n```")
        writer.flush()

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `track.base.Tracker`."""
        writer = self._writers[run_id]
        for row in rows:
            if row["kind"] in MEASURED:
                tag, value = f"{row['kind']}/{row['metric']}", float(row["value"])  # "nan" is stored as text
                writer.add_scalar(tag, value, row["env_steps"], walltime=row["time"])
        writer.flush()

    def end(self, run_id: str, status: str) -> None:
        """See `track.base.Tracker`."""
        writer = self._writers.pop(run_id)
        writer.add_text("status", status)
        writer.close()

    def close(self) -> None:
        """See `track.base.Tracker`."""
        for writer in self._writers.values():
            writer.close()


TRACKER = TrackerSpec("tensorboard", Settings, TensorBoard, "Event files for TensorBoard.")
