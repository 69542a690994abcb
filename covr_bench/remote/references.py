"""References of `covr-bench gate` in a remote store: `<URL>/references/<agent>/`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError
from covr_bench.remote.manifest import of_folder
from covr_bench.remote.transfer import Outcome, State, download, each, stored, upload
from covr_bench.run.cost.memory import costs_file
from results.lock import flock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from covr_bench.remote.filesystem import Remote

REFERENCES, FACTS = "references", "reference.json"
STAGED = "."  # begins the name of what is not whole yet


def push(remote: Remote, folder: Path, parallel: int, *, anew: bool = False) -> Iterator[Outcome]:
    """Copy a folder of references to a remote store; those of the same agents there are replaced.

    Raises:
        UserError: There are none.
    """
    agents = sorted(path.parent.name for path in folder.glob(f"*/{FACTS}"))
    if not agents:
        raise UserError(f"no references in {folder}; `covr-bench gate --bless REASON --against {folder}` makes them")

    def copy(agent: str) -> Outcome:
        place = f"{REFERENCES}/{agent}"
        sizes, ours = remote.sizes(place), of_folder(folder / agent, agent)
        theirs = stored(remote, place, agent, sizes)
        if not anew and theirs and theirs.files == ours.files:
            return Outcome(agent, State.SAME)
        return Outcome(agent, State.COPIED, bytes=upload(remote, folder / agent, place, ours, sizes, anew=anew))

    yield from each(agents, copy, parallel)


def pull(remote: Remote) -> Path:
    """A folder of this user's cache with the references of a remote store, as they are there now.

    Raises:
        UserError: There are none, or one is not whole.
    """
    here = costs_file().parent / REFERENCES / hashlib.sha256(remote.url.encode()).hexdigest()[:16]
    with remote.asked_to("list"):
        agents = sorted({path.split("/")[0] for path in remote.sizes(REFERENCES) if "/" in path})
    if not agents:
        raise UserError(
            f"no references in {remote}/{REFERENCES}; `covr-bench push --references FOLDER {remote}` adds them"
        )
    try:
        here.mkdir(parents=True, exist_ok=True)
        lock = here.with_suffix(".lock").open("a")
    except OSError as error:
        raise UserError(
            f"cannot write {here}: {error.strerror or error}. Set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    with lock:
        flock(lock, fcntl.LOCK_EX)  # two gates of one user may begin at the same time
        for gone in {path.name for path in here.iterdir() if not path.name.startswith(STAGED)} - set(agents):
            shutil.rmtree(here / gone)
        for agent in agents:
            with remote.asked_to("read"):
                _pulled(remote, here, agent)
    return here


def _pulled(remote: Remote, here: Path, agent: str) -> None:
    place = f"{REFERENCES}/{agent}"
    theirs = stored(remote, place, agent, remote.sizes(place))
    if theirs is None:
        raise UserError(f"the reference of {agent} in {remote} is only partly pushed: push it again")
    if of_folder(here / agent, agent).files == theirs.files:
        return
    staged = here / f"{STAGED}{agent}"
    download(remote, place, theirs, staged, here / agent)
    shutil.rmtree(here / agent, ignore_errors=True)
    os.replace(staged, here / agent)
