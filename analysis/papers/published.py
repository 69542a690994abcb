"""The papers' numbers that ship with the project, and which of our runs each is compared with."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

import results
from analysis.statistics.intervals import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

PAPERS = {
    "T1": "COVR, table 1: driving, highway",
    "T2": "COVR, table 2: driving, ghost pedestrian",
    "T3": "COVR, table 3: three base agents with and without COVR",
    "T4": "COVR, table 4: six DMControl tasks",
    "T5": "COVR, table 5: ablations",
    "hard": "COVR, appendix: hard tasks, with MR.Q and DR.Q",
    "vlm": "COVR, appendix: three VLMs",
    "drqv2": "DrQ-v2, official seeds",
    "dmc-vision": "dmc_vision: twenty DMControl tasks, seven methods",
}
SETS = {
    "several": ("T1", "T2", "T3", "T4", "hard"),  # several methods side by side; T5 and vlm vary COVR alone
    "all": ("T1", "T2", "T3", "T4", "T5", "hard", "vlm"),  # the tables of COVR's paper
}
_FOLDER = Path(results.__file__).parent / "published"


class Published(NamedTuple):
    """One number of a paper: a line of results/published/paper_tables.csv, described in the README beside it."""

    table: str
    suites: tuple[str, ...]
    task: str
    method: str
    agent: str
    variants: tuple[str, ...]
    labels: str
    metric: str
    summary: Summary
    env_steps: int
    source: str


def published(table: str) -> list[Published]:
    """The numbers of a paper's table.

    Args:
        table: A key of `PAPERS`.

    Returns:
        The numbers in the order of the table; returns in the task's unit, distances in metres.

    Raises:
        ValueError: For an unknown table.
    """
    if table not in PAPERS:
        raise ValueError(f"no published table {table!r}; valid: {', '.join(PAPERS)}")
    return [_published(line) for line in _lines("paper_tables.csv", table)]


def paper_notes(table: str) -> list[str]:
    """What must be known of a paper's numbers, such as `PSRL: published only, ...`; lines of paper_notes.csv."""
    return [f"{line['methods'].replace('|', ', ')}: {line['note']}" for line in _lines("paper_notes.csv", table)]


def _lines(name: str, table: str) -> list[dict[str, str]]:
    with (_FOLDER / name).open(encoding="utf-8", newline="") as file:
        return [line for line in csv.DictReader(file) if line["table"] == table]


def _published(line: Mapping[str, str]) -> Published:
    return Published(
        line["table"],
        tuple(line["suite"].split("|")),
        line["task"],
        line["method"],
        line["agent"],
        tuple(line["variants"].split("|")),
        line["labels"],
        line["metric"],
        Summary(float(line["mean"]), float(line["std"]), int(line["n"])),
        int(line["env_steps"]),
        line["source"],
    )


def is_run_of(scores: pd.DataFrame, number: Published) -> pd.Series[bool]:
    """Whether each line of `analysis.rows.scores.final_scores` is a run of the method behind a number; bool."""
    columns = (scores["agent"], scores["variant"], scores["labels"])
    found = [
        agent == number.agent != ""
        and (not number.labels or number.labels in labels.split(","))
        and any(variant in _spellings(wanted, labels) for wanted in number.variants)
        for agent, variant, labels in zip(*columns, strict=True)
    ]
    return pd.Series(found, index=scores.index, dtype=bool)


def _spellings(variant: str, labels: str) -> set[str]:
    """The names that a run of this variant may have, since some of its labels may have been settings of the command.

    A long or unusual list of settings is named by its hash: `results.layout.variant_of`.
    """
    texts = {variant}
    if "=" in variant or not variant:
        settings = [part for part in variant.split(",") if part]
        texts |= {",".join(sorted([*settings, label])) for label in labels.split(",") if label}
    return texts | {f"set-{hashlib.sha256(text.encode()).hexdigest()[:8]}" for text in texts if text}
