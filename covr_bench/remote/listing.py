"""The runs of a remote store, by listing it, and a choice of runs by name."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError, unknown
from results.layout import RunId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from covr_bench.remote.filesystem import Remote

RUNS = "runs"


@dataclass(frozen=True)
class Listing:
    """The files of each run. sizes: by run those of its files; unread: by run why its files are not known."""

    sizes: Mapping[str, Mapping[str, int]]
    unread: Mapping[str, Exception]

    @property
    def runs(self) -> list[str]:
        """All ids, in order."""
        return sorted(self.sizes.keys() | self.unread.keys())

    def of(self, run_id: str) -> Mapping[str, int]:
        """Sizes of a run's files; none of a run that is not there. Raises what listing it raised."""
        if error := self.unread.get(run_id):
            raise error
        return self.sizes.get(run_id, {})


def listed(remote: Remote) -> Listing:
    """What a remote store has. Raises UserError, also where folders above the runs cannot be listed."""
    failed: dict[str, Exception] = {}
    unread: dict[str, Exception] = {}
    found: dict[str, dict[str, int]] = {}
    with remote.asked_to("list"):
        sizes = remote.sizes(RUNS, failed)
        for path, error in failed.items():
            run_id = "/".join(path.split("/")[:4])
            if not _is_run(run_id):
                raise error
            unread[run_id] = error
    for path, size in sizes.items():
        parts = path.split("/")
        run_id, name = "/".join(parts[:4]), "/".join(parts[4:])
        if name and _is_run(run_id):
            found.setdefault(run_id, {})[name] = size
    return Listing(found, unread)


def _is_run(text: str) -> bool:
    try:
        return str(RunId.parse(text)) == text
    except ValueError:
        return False


def _is_part(name: str, run_id: str) -> bool:
    """Whether it is a part of the id; a number at its end is a whole seed: `random/1` is no part of `random/10`."""
    return f"/{name}/" in f"/{run_id}/" if name.rpartition("/")[2].isdigit() else name in run_id


def chosen(runs: Sequence[str], wanted: Iterable[str], where: str) -> list[str]:
    """Runs by name. Raises UserError for a name of none, or if there are none.

    Args:
        runs: All.
        wanted: Ids, parts of ids, or patterns with `*`; all if empty.
        where: They are, for errors.
    """
    if not runs:
        raise UserError(f"there are no runs in {where}")
    found: set[str] = set()
    wanted = list(wanted)
    for text in wanted:
        name = text.removeprefix(f"{where}/").removeprefix("runs/").strip("/")
        like = [run for run in runs if _is_part(name, run) or fnmatch.fnmatch(f"/{run}", f"*/{name}")]
        exact = [name] if name in runs else like
        if not exact:
            raise unknown(f"run in {where}", text, runs)
        found |= set(exact)
    return [run for run in runs if run in found or not wanted]
