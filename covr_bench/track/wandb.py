"""Weights & Biases: a run there for each run here, with its rows by environment step."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.track.base import TrackerSpec, lasting_name, needed
from covr_bench.track.follow import by_step

if TYPE_CHECKING:
    import wandb

STEP = "env_steps"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the W&B tracker.

    Attributes:
        project, entity: Where runs go; the entity is that of the key by default.
        mode: `online` or `offline`; by default online where `WANDB_API_KEY` is set, or `WANDB_MODE` says so. What was
            written offline goes up by `wandb sync`.
        folder: Where its files go; by default the results folder.
    """

    project: str = "covr-bench"
    entity: str = ""
    mode: Literal["", "online", "offline"] = ""
    folder: str = ""


class Wandb:
    """A W&B run for each run. One that goes on is the same run there: its id comes from the run's and its beginning."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wandb = needed("wandb")
        self._runs: dict[str, wandb.Run] = {}

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """See `track.base.Tracker`."""
        run = self._runs[run_id] = self._wandb.init(
            project=self.settings.project,
            entity=self.settings.entity or None,
            id=hashlib.sha256(lasting_name(run_id, facts).encode()).hexdigest()[:16],
            name=run_id,
            group=run_id.rpartition("/")[0],
            config={"run": dict(config), "facts": dict(facts)},
            dir=self.settings.folder or config["out"],
            mode=self.settings.mode or _mode(),
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(console="off", silent=True),
        )
        run.define_metric("*", step_metric=STEP)

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `track.base.Tracker`."""
        for step, values in by_step(rows).items():
            self._runs[run_id].log({STEP: step} | values)

    def video(self, run_id: str, file: str) -> None:
        """See `track.base.Tracker`."""
        self._runs[run_id].log({"video": self._wandb.Video(file)})

    def end(self, run_id: str, status: str) -> None:
        """See `track.base.Tracker`."""
        run = self._runs.pop(run_id)
        run.summary["status"] = status
        run.finish(exit_code=int(status == "failed"))

    def close(self) -> None:
        """See `track.base.Tracker`."""
        for run in self._runs.values():
            run.finish(exit_code=1)
        self._wandb.teardown()  # `finish` may return before its files are written


def _mode() -> Literal["online", "offline"]:
    said = os.environ.get("WANDB_MODE", "")
    return "online" if said == "online" or (not said and os.environ.get("WANDB_API_KEY")) else "offline"


TRACKER = TrackerSpec("wandb", Settings, Wandb, "Weights & Biases; offline unless there is a key.")
