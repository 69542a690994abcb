"""A git revision as a side of the gate: checked out beside the working tree, for as long as it is needed."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGITS = 12


def top(folder: Path) -> Path | None:
    """The root of the git repository that a folder is in; None if it is in none."""
    done = _git(folder, "rev-parse", "--show-toplevel")
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def exists(repository: Path, revision: str) -> bool:
    """Whether a revision names a commit."""
    return _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").returncode == 0


def commit(repository: Path, revision: str) -> str:
    """The commit that a revision names. Raises UserError if it names none."""
    if not exists(repository, revision):
        raise UserError(
            f"--against {revision} is neither `reference`, nor a folder, nor a git revision of {repository}; in a "
            "shallow clone, fetch it first: git fetch origin main"
        )
    return _git(repository, "rev-parse", f"{revision}^{{commit}}").stdout.strip()


@contextmanager
def checked_out(repository: Path, sha: str, folder: Path) -> Iterator[Path]:
    """A working tree of a commit, gone afterwards. Raises UserError if git cannot make one."""
    _git(repository, "worktree", "remove", "--force", str(folder))  # of a gate that was killed
    _git(repository, "worktree", "prune")
    done = _git(repository, "worktree", "add", "--detach", "--force", str(folder), sha)
    if done.returncode:
        raise UserError(f"git cannot check out {sha[:DIGITS]} into {folder}: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        _git(repository, "worktree", "remove", "--force", str(folder))


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError("git is not installed; hold against a folder of references instead") from error
