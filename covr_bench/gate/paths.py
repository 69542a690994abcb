"""Files that were named, as each side of the gate finds them in its own folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from covr_bench.gate.request import GateRequest


def located(asked: GateRequest, folder: Path, root: Path, *, revision: bool) -> GateRequest:
    """The request with files inside the root by their path from there, which both sides have; others by their whole.

    Args:
        asked: What names agents, a suite, and settings such as `base`.
        folder: Where the command was given.
        root: Of the repository, or `folder` where there is none.
        revision: Whether the other side is a revision, which has a state of its own of no file outside the root.

    Raises:
        UserError: A file outside the root, which a revision would hold against itself.
    """
    root = root.resolve()

    def place(ref: str) -> str:
        if not is_path(ref):
            return ref
        file = (folder / Path(ref).expanduser()).resolve()
        if file.is_relative_to(root):
            return str(file.relative_to(root))
        if revision:
            raise UserError(
                f"{ref} is not in the repository {root}, so that --against {asked.against} would hold it against "
                "itself: move it there and commit it, or hold it against a folder of references"
            )
        return str(file)

    settings = {name: place(value) for name, value in asked.set.items()}
    return replace(asked, agent=tuple(map(place, asked.agent)), suite=place(asked.suite), set=settings)
