"""What a tracker is: it hears of runs while they go on, and cannot stop them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from covr_bench.kit.errors import UserError


class Tracker(Protocol):
    """Hears of runs, in the process that launched them.

    It is called from one thread of its own, so that it may take its time. After an exception it is not called again:
    the user is told once, the runs go on. `close` alone is called in any case.

    A tracker may have one hook more, `video(run_id, file)`: before `end` it is told of each film in the run's folder.
    """

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """A run begins, or goes on.

        Args:
            run_id: `<suite>@<budget>/<task>/<agent>[-<variant>]/<seed>`.
            config: Its configuration, JSON values.
            facts: Of the code, packages and machine, as in its `provenance.json`, and `began`, when its first session
                did (ISO 8601); empty if it failed before its first step.
        """

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """New rows of a run that has begun, as in its `rows.jsonl`, in order.

        A run that goes on from a checkpoint repeats some steps; their rows are not told again.
        """

    def end(self, run_id: str, status: str) -> None:
        """A run has ended: `finished`, `interrupted` (the same command goes on with it) or `failed`."""

    def close(self) -> None:
        """Nothing follows."""


@dataclass(frozen=True)
class TrackerSpec:
    """A tracker as it is found by name, file or entry point (`covr_bench.trackers`); a file ends in `TRACKER = ...`.

    Attributes:
        name: What `--track` calls it.
        Settings: A frozen dataclass (pydantic's, if types are to be checked) of its options, each with a default.
        make: Makes the tracker from its settings; raises UserError if the machine lacks something.
        doc: What it is, in a sentence.
    """

    name: str
    Settings: type[Any]
    make: Callable[[Any], Tracker]
    doc: str


def facts_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `Tracker.begin` is told of a run by its `provenance.json`, as `results.provenance.read` returns it."""
    began = [session["started"] for session in record["sessions"][:1]]
    return {**record["environment"], **({"began": began[0]} if began and began[0] else {})}


def lasting_name(run_id: str, facts: Mapping[str, Any]) -> str:
    """A run's name in a service: the same when it goes on, another when it begins anew, here or elsewhere."""
    began = re.sub("[^0-9]", "", str(facts.get("began", "")))[:14]
    return f"{run_id}/{began[:8]}-{began[8:]}" if began else run_id


def needed(package: str, module: str = "") -> Any:
    """A module of a tracker's package, whose name is also that of our extra. Raises UserError if it is missing."""
    try:
        return importlib.import_module(module or package)
    except ImportError as error:
        raise UserError(
            f"--track {package} needs the package {package} ({error}): pip install 'covr-bench[{package}]'"
        ) from error
