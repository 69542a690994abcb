"""Trackers by name, file and entry point, and what tells them of a launcher's jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from covr_bench.config import problems
from covr_bench.config.extension import settings_of
from covr_bench.kit import extensions
from covr_bench.kit.built import built
from covr_bench.kit.errors import UserError, unknown
from covr_bench.kit.extensions import Kind
from covr_bench.launch.base import State
from covr_bench.track.base import Tracker, TrackerSpec, facts_of
from covr_bench.track.follow import Rows
from covr_bench.track.line import Line
from results import provenance
from results.layout import PROVENANCE_FILE, ROWS_FILE, StoreError, run_folder
from results.shape import completed

if TYPE_CHECKING:
    from pathlib import Path

    from covr_bench.launch.base import Job

TRACKERS = Kind("tracker", TrackerSpec, problems.of_settings)
LOOK_EVERY_S = 1.0
CLOSE_PATIENCE_S = 15.0  # a slow network; the runs have ended and are stored


def tracker_names() -> list[str]:
    """Every tracker known here, ours first, without importing any. Raises UserError if two share a name."""
    return extensions.names(TRACKERS, _ours())


def tracker(ref: str) -> TrackerSpec:
    """The tracker of that name, or the one in that file. Raises UserError."""
    return extensions.find(TRACKERS, ref, _ours())


def make_trackers(refs: Sequence[str], settings: Mapping[str, str], say: Callable[[str], None]) -> Trackers:
    """Trackers, ready to watch a launcher's jobs.

    Args:
        refs: A name or the path of a file for each; none for no tracker.
        settings: Those of their settings that the user gave, as typed, by `tracker.setting`.
        say: Tells the user what went wrong.

    Raises:
        UserError: What `chosen` complains about, or something that a tracker needs is missing.
    """
    return Trackers([Line(name, each) for name, each in made(refs, settings)], say)


def made(refs: Sequence[str], settings: Mapping[str, str]) -> list[tuple[str, Tracker]]:
    """The trackers that were asked for, ready to be told. Arguments and errors as of `make_trackers`."""
    wanted = chosen(refs, settings)
    return [(spec.name, built(f"tracker {spec.name}", Tracker, spec.make, own)) for spec, own in wanted]  # type: ignore[type-abstract]


def chosen(refs: Sequence[str], settings: Mapping[str, str]) -> list[tuple[TrackerSpec, Any]]:
    """The trackers that were asked for, each with its settings. Arguments are those of `make_trackers`.

    Raises:
        UserError: No such tracker, one named twice, or a setting that none of them has or that cannot be read.
    """
    specs: dict[str, TrackerSpec] = {}
    for spec in map(tracker, refs):
        if spec.name in specs:
            raise UserError(f"the tracker {spec.name!r} is named twice")
        specs[spec.name] = spec
    given: dict[str, dict[str, str]] = {name: {} for name in specs}
    for key, value in settings.items():
        name, dot, setting = key.partition(".")
        if name not in specs or not dot:
            valid = [f"{each}.{item}" for each in specs for item in specs[each].Settings.__dataclass_fields__]
            raise unknown("setting of a tracker", key, valid)
        given[name][setting] = value
    return [(spec, settings_of(f"tracker {name}", spec.Settings, given[name])) for name, spec in specs.items()]


class Trackers:
    """Tells trackers of jobs; a context manager that closes them.

    Works with every launcher whose runs write to a folder that this process can read.
    """

    def __init__(self, lines: Sequence[Line], say: Callable[[str], None]) -> None:
        self._lines, self._say = lines, say
        self._followed: dict[str, Rows] = {}
        self._begun: set[str] = set()
        self._ended: set[str] = set()
        self._failed: set[str] = set()
        self._looked = float("-inf")

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *of_error: object) -> None:
        self.close()

    def watch(self, jobs: Sequence[Job]) -> None:
        """Look at the jobs; to be called once before they start, then a few times a second, and at the end."""
        if not self._lines:
            return
        for job in jobs:
            if job.config.run_id not in self._followed:
                self._followed[job.config.run_id] = Rows(_folder(job) / ROWS_FILE)
        due = time.monotonic() - self._looked > LOOK_EVERY_S
        if due:
            self._looked = time.monotonic()
        for job in jobs:
            if job.config.run_id not in self._ended and (_has_ended(job) or (due and job.state is not State.WAITING)):
                self._follow(job)
        self._tell_failures()

    def close(self) -> None:
        """Let every tracker hear what is left, and close it."""
        for line in self._lines:
            if not line.close(CLOSE_PATIENCE_S):
                self._say(f"tracker {line.name} is left behind: it had not heard all after {CLOSE_PATIENCE_S:g} s")
        self._tell_failures()

    def _follow(self, job: Job) -> None:
        run_id, ended = job.config.run_id, _has_ended(job)  # asked before the rows are read: none can follow
        rows = self._followed[run_id].new()
        if run_id not in self._begun and (rows or ended):
            self._begun.add(run_id)
            self._tell("begin", run_id, job.config.as_dict(), _facts(job))
        if rows:
            self._tell("rows", run_id, rows)
        if ended:
            self._ended.add(run_id)
            for film in films(_folder(job)):
                self._tell("video", run_id, str(film))
            self._tell("end", run_id, str(job.state))

    def _tell(self, hook: str, *arguments: Any) -> None:
        for line in self._lines:
            line.tell(hook, *arguments)

    def _tell_failures(self) -> None:
        for line in self._lines:
            if line.failure and line.name not in self._failed:
                self._failed.add(line.name)
                self._say(f"tracker {line.name} failed and is silent from now on; the runs go on: {line.failure}")


def films(folder: Path) -> list[Path]:
    """The videos in a run's folder."""
    return sorted(folder.glob("*.mp4"))


def _has_ended(job: Job) -> bool:
    """Whether no more rows will come."""
    return job.state.ended and job.state is not State.SUBMITTED


def _folder(job: Job) -> Any:
    return run_folder(job.config.out, job.config.run_id)


def _facts(job: Job) -> Mapping[str, Any]:
    """What its process has recorded of the code and the machine."""
    try:
        return facts_of(completed(provenance.read(_folder(job) / PROVENANCE_FILE)))
    except (StoreError, KeyError):
        return {}


def _ours() -> dict[str, str]:
    return extensions.modules_with("covr_bench.track", TRACKERS.constant)
