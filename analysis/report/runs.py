"""The runs of a page as data: thousands of records that differ in little take little room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.origin import RunEntry

    Lines = tuple[tuple[str, str], ...]

ON_A_PAGE = 100  # runs that are shown at a time, and without a script


def packed(entries: Sequence[RunEntry]) -> dict[str, Any] | None:
    """Every run as its difference from the run before it, JSON values; None if all of them are shown at a time.

    Returns:
        `texts`, and `runs`: of each its id, status and score, then of its facts and of its settings how many lines they
        have and what differs: position of the line, places of its name and its text in `texts`, and so on.
    """
    if len(entries) <= ON_A_PAGE:
        return None
    texts: dict[str, int] = {}
    runs = []
    facts: Lines = ()
    settings: Lines = ()
    for entry in entries:
        of_facts = [len(entry.facts), _changes(facts, entry.facts, texts)]
        of_settings = [len(entry.settings), _changes(settings, entry.settings, texts)]
        runs.append([entry.run_id, entry.status, entry.score_text, *of_facts, *of_settings])
        facts, settings = entry.facts, entry.settings
    return {"texts": list(texts), "runs": runs}


def _changes(before: Lines, lines: Lines, texts: dict[str, int]) -> list[int]:
    """texts: place of each text; new ones are added."""
    return [
        number
        for position, line in enumerate(lines)
        if before[position : position + 1] != (line,)
        for number in (position, *(texts.setdefault(text, len(texts)) for text in line))
    ]
