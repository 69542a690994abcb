"""MLflow: a run there for each run here, with its rows as metrics by environment step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.track.base import TrackerSpec, lasting_name, needed
from covr_bench.track.follow import by_step

if TYPE_CHECKING:
    from mlflow import MlflowClient

AT_ONCE = 1000  # metrics of a call, MLflow's limit
ENDED = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the MLflow tracker.

    Attributes:
        uri: Of the server or store; by default `MLFLOW_TRACKING_URI`, or `mlflow.db` beside the runs, with its files
            in `mlflow`.
        experiment: Made where it is not there.
    """

    uri: str = ""
    experiment: str = "covr-bench"


class MLflow:
    """An MLflow run for each run. One that goes on is the same run there: it is found by a tag."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._mlflow = needed("mlflow")
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._runs: dict[str, str] = {}

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """See `track.base.Tracker`."""
        client = self._open(Path(config["out"]))
        tag = lasting_name(run_id, facts).replace("'", "")
        found = client.search_runs([self._experiment], f"tags.covr_bench_run = '{tag}'", max_results=1)
        tags = {"covr_bench_run": tag, "mlflow.runName": run_id}
        run = found[0] if found else client.create_run(self._experiment, tags=tags)
        self._runs[run_id] = run.info.run_id
        client.update_run(run.info.run_id, "RUNNING")
        client.log_dict(run.info.run_id, {"config": dict(config), "facts": dict(facts)}, "provenance.json")
        if not found:
            for name in ("suite", "task", "agent", "variant", "budget", "seed", "env_steps"):
                if name in config:
                    client.log_param(run.info.run_id, name, config[name])

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `track.base.Tracker`."""
        times = {row["env_steps"]: int(row["time"] * 1000) for row in rows}
        metrics = [
            self._mlflow.entities.Metric(_allowed(name), value, times[step], step)
            for step, values in by_step(rows).items()
            for name, value in values.items()
        ]
        for first in range(0, len(metrics), AT_ONCE):
            self._told().log_batch(self._runs[run_id], metrics=metrics[first : first + AT_ONCE])

    def video(self, run_id: str, file: str) -> None:
        """See `track.base.Tracker`."""
        self._told().log_artifact(self._runs[run_id], file)

    def end(self, run_id: str, status: str) -> None:
        """See `track.base.Tracker`."""
        self._told().set_terminated(self._runs.pop(run_id), ENDED[status])

    def close(self) -> None:
        """See `track.base.Tracker`."""
        for run in self._runs.values():
            self._told().set_terminated(run, "KILLED")

    def _open(self, out: Path) -> MlflowClient:
        if self._client is None:
            named = self.settings.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
            self._client = self._mlflow.MlflowClient(named or f"sqlite:///{(out / 'mlflow.db').resolve()}")
            files = None if named else (out / "mlflow").resolve().as_uri()  # else MLflow's way: below where we are
            known = self._client.get_experiment_by_name(self.settings.experiment)
            self._experiment = (
                known.experiment_id if known else self._client.create_experiment(self.settings.experiment, files)
            )
        return self._client

    def _told(self) -> MlflowClient:
        assert self._client is not None, "begin comes first"
        return self._client


def _allowed(name: str) -> str:
    """The name with what MLflow takes: letters, digits and `_-./ :`."""
    return "".join(each if each.isalnum() or each in "_-./ :" else "_" for each in name)


TRACKER = TrackerSpec("mlflow", Settings, MLflow, "MLflow: a server, or a database beside the runs.")
