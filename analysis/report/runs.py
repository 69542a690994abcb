"""The runs of a page as data: thousands of records that differ in little take little room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.origin import RunEntry

ON_A_PAGE = 100  # runs that are shown at a time, and without a script


def packed(entries: Sequence[RunEntry]) -> dict[str, Any] | None:
    """Every run as its difference from the run before it, JSON values; None if all of them are shown at a time.

    Returns:
        `texts`, and `runs`: of each its id, status and score, how many lines its facts and its lines altogether have,
        and what differs: position of the line, then the places of its name and its text in `texts`, and so on.
    """
    if len(entries) <= ON_A_PAGE:
        return None
    texts: dict[str, int] = {}
    runs = []
    before: tuple[tuple[str, str], ...] = ()
    for entry in entries:
        lines = (*entry.facts, *entry.settings)
        changes = [
            number
            for position, line in enumerate(lines)
            if before[position : position + 1] != (line,)
            for number in (position, *(texts.setdefault(text, len(texts)) for text in line))
        ]
        runs.append([entry.run_id, entry.status, entry.score_text, len(entry.facts), len(lines), changes])
        before = lines
    return {"texts": list(texts), "runs": runs}
