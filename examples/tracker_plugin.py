"""A tracker of your own: covr-bench run --suite catch --budget smoke --track examples/tracker_plugin.py

It appends every evaluation to one file, a line each.
"""

import json
from dataclasses import dataclass

from covr_bench.track.base import TrackerSpec


@dataclass(frozen=True)
class Settings:
    file: str = "evaluations.jsonl"  # try --set-track evaluations.file=mine.jsonl


class Evaluations:
    def __init__(self, settings):
        self.file = open(settings.file, "a")  # noqa: SIM115 (closed by `close`)

    def begin(self, run_id, config, facts):
        self.write(run=run_id, begins=config["env_steps"], cpu=facts.get("cpu"))

    def rows(self, run_id, rows):
        for row in rows:
            if row["kind"] == "eval":
                self.write(run=run_id, env_steps=row["env_steps"], **{row["metric"]: row["value"]})

    def end(self, run_id, status):
        self.write(run=run_id, ends=status)

    def close(self):
        self.file.close()

    def write(self, **values):
        print(json.dumps(values), file=self.file, flush=True)


TRACKER = TrackerSpec("evaluations", Settings, Evaluations, "Evaluations of all runs in one file.")
