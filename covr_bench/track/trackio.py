"""Trackio: a run there for each run here, with its rows by environment step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.track.base import TrackerSpec, lasting_name, needed
from covr_bench.track.follow import by_step

if TYPE_CHECKING:
    import trackio


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the Trackio tracker.

    Attributes:
        project: Where runs go.
        space: A space of the hub that shows them, such as `me/my-space`; by default they stay on this machine.
    """

    project: str = "covr-bench"
    space: str = ""


class Trackio:
    """A Trackio run for each run: `trackio show` opens them. One that goes on is the same run there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._trackio = needed("trackio")
        self._runs: dict[str, trackio.Run] = {}

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """See `track.base.Tracker`."""
        self._runs[run_id] = self._trackio.init(
            project=self.settings.project,
            name=lasting_name(run_id, facts),
            group=run_id.rpartition("/")[0],
            space_id=self.settings.space or None,
            config={"run": dict(config), "facts": dict(facts)},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `track.base.Tracker`."""
        for step, values in by_step(rows).items():
            self._runs[run_id].log(values, step=step)

    def video(self, run_id: str, file: str) -> None:
        """See `track.base.Tracker`."""
        self._runs[run_id].log({"video": self._trackio.Video(file)})

    def end(self, run_id: str, status: str) -> None:
        """See `track.base.Tracker`."""
        self._runs.pop(run_id).finish()

    def close(self) -> None:
        """See `track.base.Tracker`."""
        for run in self._runs.values():
            run.finish()


TRACKER = TrackerSpec("trackio", Settings, Trackio, "Trackio: a database on this machine, or a space of the hub.")
