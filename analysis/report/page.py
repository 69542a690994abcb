"""The page: its contents, in the order of the template beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.papers.layouts import to_grid as paper_grid
from analysis.papers.published import PAPERS, published
from analysis.papers.tables import paper_tables
from analysis.report import answers, curves, origin, runs
from analysis.report.drawings import Drawings
from analysis.rows import vlm_rounds
from analysis.rows.final import LAST
from analysis.rows.scores import PROTOCOL, RunState, agent_name, final_scores, up_to
from analysis.rows.stand_ins import stand_ins
from analysis.statistics import output
from analysis.tables.scores import rates_grid, scores_grid, tables, to_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from markupsafe import Markup

    from analysis.grids import Grid
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap
    from analysis.tables.scores import Table

_HERE = Path(__file__).parent
_MAX_UNKNOWN = 20  # commands that are not known, each with a line of its own


@dataclass(frozen=True)
class Command:
    """A command and its outcome: runs, by their ids, or numbers. text: empty if the command is not known."""

    text: str
    run_ids: tuple[str, ...] = ()
    outcome: str = ""


@dataclass(frozen=True)
class Video:
    """An example episode. data: an MP4 file."""

    run_id: str
    data: bytes


@dataclass(frozen=True)
class Inputs:
    """The contents of a page.

    Attributes:
        title: Title of the page.
        frame: Rows as `results.store.read` returns them.
        comparisons: Of the same rows, up to the same `env_steps`.
        bootstrap: Replicates and seed.
        over: Second agent of every pair of the probability of improvement; every pair if empty.
        env_steps: Score what was measured up to this environment step; everything if None.
        score: The score of the comparisons, one of `analysis.rows.final.SCORES`.
        records: Provenance by run id, from `results.provenance.statuses`; None for external scores.
        runs: The commands that make the runs.
        analyses: The commands that print the numbers.
        tasks: By suite its tasks, in the order to show.
        videos: Example episodes.
        gate: Verdicts of `covr-bench gate`.
        remarks: What was left out when the rows were read.
    """

    title: str
    frame: pd.DataFrame
    comparisons: Sequence[Comparison]
    bootstrap: Bootstrap
    over: str = ""
    env_steps: int | None = None
    score: str = LAST
    records: Mapping[str, Mapping[str, Any]] | None = None
    runs: Sequence[Command] = ()
    analyses: Sequence[Command] = ()
    tasks: Mapping[str, Sequence[str]] | None = None
    videos: Sequence[Video] = ()
    gate: Grid | None = None
    remarks: Sequence[str] = ()


def to_html(inputs: Inputs) -> str:
    """The whole page as HTML. It loads nothing from outside and runs no script but its own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html.j2").render(_context(inputs), **_assets())


def _context(inputs: Inputs) -> dict[str, Any]:
    frame, records = inputs.frame, inputs.records or {}
    shown = up_to(frame, inputs.env_steps)
    scores = final_scores(frame, env_steps=inputs.env_steps)
    drawings = Drawings()
    protocols = _protocols(inputs, shown, scores, drawings)
    entries = origin.entries(scores, frame, records)
    return {
        "title": inputs.title,
        "protocols": protocols,
        "data": _json([each["curves"] for each in protocols]),
        "period": origin.period(records.values(), frame),
        "wall": origin.wall_time(records.values()),
        "machines": origin.machines(records.values()),
        "stand_ins": sorted({found for labels in scores["labels"].unique() for found in stand_ins(labels)}),
        "remarks": list(inputs.remarks),
        "papers": _papers(shown),
        "rounds": _rounds(shown, drawings),
        "answers": answers.to_grids(shown),
        "gate": inputs.gate,
        "videos": [_video(video, scores) for video in inputs.videos],
        "entries": entries,
        "unfinished": [(number, entry) for number, entry in enumerate(entries) if entry.status != RunState.FINISHED],
        "runs": _json(packed) if (packed := runs.packed(entries)) else "",
        "on_a_page": runs.ON_A_PAGE,
        "commands": _commands(inputs.runs, scores),
        "analyses": inputs.analyses,
        "bootstrap": inputs.bootstrap,
    }


def _protocols(inputs: Inputs, frame: pd.DataFrame, scores: pd.DataFrame, drawings: Drawings) -> list[dict[str, Any]]:
    expected = inputs.tasks or {}
    place = {run_id: index for index, command in enumerate(inputs.runs) for run_id in command.run_ids if command.text}
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    for each in inputs.comparisons:
        ranges.setdefault(each.suite, {}).update(zip(each.plain_tasks.values(), each.ranges, strict=True))
    score_tables = tables(inputs.frame, tasks=expected, env_steps=inputs.env_steps, score=inputs.score, ranges=ranges)
    protocols = []
    for comparison, table in zip(inputs.comparisons, score_tables, strict=True):
        own = [comparison.suite, comparison.budget, comparison.setting]
        runs = scores[(scores[PROTOCOL] == own).all(axis=1)]
        protocols.append(
            _overview(comparison, runs)
            | _returns(inputs, comparison, table, runs, place)
            | _statistics(inputs, comparison, frame, drawings, several=len(runs) > 1)
        )
    return protocols


def _overview(comparison: Comparison, runs: pd.DataFrame) -> dict[str, Any]:
    states = runs["status"].value_counts()
    triples = runs[["agent", "variant", "labels"]].drop_duplicates().itertuples(index=False, name=None)
    return {
        "title": comparison.title,
        "stand_ins": stand_ins(comparison.setting),
        "badges": {agent_name(*triple): stand_ins(triple[2]) for triple in triples},
        "tasks": runs["task"].nunique(),
        "runs": ", ".join(f"{count} {status}" for status, count in states.items()),
    }


def _returns(
    inputs: Inputs, comparison: Comparison, table: Table, runs: pd.DataFrame, place: Mapping[str, int]
) -> dict[str, Any]:
    errors = rates_grid(table) if table.driving else None
    all_scores = scores_grid(table)
    return {
        "agents": len(table.agents),
        "table": replace(to_grid(table), notes=()),
        "scores": replace(all_scores, notes=()) if all_scores else None,
        "links": _links(table, runs, place),
        "errors": replace(errors, notes=()) if errors else None,
        "notes": _notes(
            *(each.notes for each in (table, all_scores, errors) if each),
            comparison.remarks,
            origin.mixed_code(runs, inputs.records or {}),
        ),
    }


def _statistics(
    inputs: Inputs, comparison: Comparison, frame: pd.DataFrame, drawings: Drawings, *, several: bool
) -> dict[str, Any]:
    """several: whether there are several runs; of one there are no statistics."""
    bootstrap, over = inputs.bootstrap, inputs.over
    several = several and comparison.has_scores
    statistics = output.to_grids(comparison, bootstrap, over) if several else []
    panels = curves.panels(frame, comparison, bootstrap)
    return {
        "normalisation": comparison.normalisation,
        "curves": {"agents": curves.agents(comparison), "panels": panels},
        "figures": drawings.of_comparison(comparison, bootstrap, over) if several else [],
        "statistics": [replace(grid, notes=()) for grid in statistics],
    }


def _links(table: Table, scores: pd.DataFrame, place: Mapping[str, int]) -> dict[tuple[int, int], int]:
    """By row and column of the table's grid, the index of the command that makes the cell's runs."""
    commands: dict[tuple[str, str, int], int] = {}
    for run in scores.itertuples(index=False):
        if run.run_id in place:
            name = agent_name(run.agent, run.variant, run.labels)
            commands.setdefault((name, run.task, int(run.action_repeat)), place[run.run_id])
    return {
        (row, column): commands[name, task, repeat]
        for row, name in enumerate(table.agents)
        for column, (task, repeat) in enumerate(table.columns, start=1)
        if (name, task, repeat) in commands and (name, (task, repeat)) in table.cells
    }


def _notes(*lists: Sequence[str]) -> list[str]:
    """All notes, without those that are the beginning of another."""
    every = list(dict.fromkeys(note for notes in lists for note in notes))
    return [note for note in every if not any(other != note and other.startswith(note) for other in every)]


def _papers(frame: pd.DataFrame) -> list[Grid]:
    """The papers' tables with at least one cell that was run."""
    suites, agents = (set(frame[column].astype(str).unique()) for column in ("suite", "agent"))
    papers_with_runs = [
        paper
        for paper in PAPERS
        if any(suites.intersection(number.suites) and number.agent in agents for number in published(paper))
    ]
    every = [table for paper in papers_with_runs for table in paper_tables(frame, paper)]
    with_runs = [table for table in every if any(cell.ours for line in table.lines for cell in line.cells.values())]
    return [paper_grid(table) for table in with_runs]


def _rounds(frame: pd.DataFrame, drawings: Drawings) -> list[tuple[Markup, list[Grid]]]:
    """Per suite, budget and setting the drawing and the tables of the VLM's rounds."""
    every = vlm_rounds.rounds(frame)
    protocols = dict.fromkeys(each.protocol for each in every)
    groups = [[each for each in every if each.protocol == protocol] for protocol in protocols]
    return [(drawings.of_rounds(group), [vlm_rounds.to_grid(each) for each in group]) for group in groups]


def _video(video: Video, scores: pd.DataFrame) -> dict[str, str]:
    its_run = scores[scores["run_id"] == video.run_id].itertuples(index=False)
    name = next((origin.run_label(run, [run.seed]) for run in its_run), video.run_id)
    return {"name": name, "data": base64.b64encode(video.data).decode()}


def _commands(commands: Sequence[Command], scores: pd.DataFrame) -> list[tuple[str, Command]]:
    """Each command with what it makes, in words."""
    by_id = {run.run_id: run for run in scores.itertuples(index=False)}
    found = []
    unknown = [command for command in commands if not command.text]
    if len(unknown) > _MAX_UNKNOWN:  # of thousands, one line: those with a text come first and keep their places
        commands = [command for command in commands if command.text]
    for command in commands:
        runs = [by_id[run_id] for run_id in command.run_ids if run_id in by_id]
        made = origin.run_label(runs[0], sorted(run.seed for run in runs)) if runs else ", ".join(command.run_ids)
        found.append((made, command))
    return found + ([(f"{len(unknown):,} others", Command(""))] if len(unknown) > _MAX_UNKNOWN else [])


def _breakable(text: str) -> Markup:
    """Text that may break after punctuation: agents' names list settings without a space."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.findall(r"[^,=/@_]*[,=/@_]*", text))


def _json(value: Any) -> Markup:
    """JSON that is safe inside a script element, whatever names it holds."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _assets() -> dict[str, Any]:
    """Style and scripts as text, and the policy that lets a browser run these scripts and load nothing else."""
    from markupsafe import Markup

    def text(*names: str) -> str:
        return "\n".join((_HERE / name).read_text(encoding="utf-8").strip() for name in names)

    licence = (_HERE / "vendor/uPlot.LICENSE").read_text(encoding="utf-8").strip()
    scripts = {
        "theme_script": text("theme.js"),
        "library": f"/*\n{licence}\n*/\n{text('vendor/uPlot.iife.min.js')}",
        "script": text("page.js", "tables.js"),
    }
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()}'" for js in scripts.values()]
    policy = (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    assets = {name: Markup(js) for name, js in scripts.items()}
    return assets | {"style": Markup(text("vendor/uPlot.min.css", "page.css")), "policy": policy}
