"""`covr-bench compare A B`: two stores, commits or files of scores, side by side. Imports no torch."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.choice import Choice, frame_of, score_ranges
from covr_bench.cli.options import BootstrapSeed, OneSuite, OnlyAgent, OnlyTask, Reps, ScoreRange, UpTo, console
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.compare.sides import Side
    from analysis.compare.verdicts import Verdicts

FORMATS = ("terminal", "md", "csv", "json")
_COMMIT = re.compile(r"[0-9a-f]{4,40}")


def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help="Folder of results, commit, or file or folder of scores.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same; judged against A.")],
    out: Annotated[Path, typer.Option("--out", help="Results that hold a commit's runs.")] = Path("results"),
    suite: OneSuite = "",
    format_: Annotated[str, typer.Option("--format", help="terminal, md, csv or json.")] = "terminal",
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score_range: ScoreRange = None,
    metric: Annotated[str, typer.Option(help="A measure of the evaluations.")] = "return",
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Low values are good.")] = False,
    margin: Annotated[float, typer.Option(min=0, help="Differences that do not matter, in units of the metric.")] = 0.0,
    fail_on_worse: Annotated[
        bool, typer.Option("--fail-on-worse", help="Exit with 1 if B is worse, or failed where A did not.")
    ] = False,
    reps: Reps = 50_000,
    seed: BootstrapSeed = 0,
) -> None:
    """Two folders of results or commits side by side, with a verdict per task that respects the number of seeds."""
    choice = Choice(out, None, suite, tuple(task or ()), tuple(agent or ()), env_steps, tuple(score_range or ()))
    question = Question(a, b, choice, metric, margin, lower_is_better, reps, seed)
    raise typer.Exit(compare(question, format_, console(), fail_on_worse=fail_on_worse))


@dataclass(frozen=True)
class Question:
    """What is compared, and by which measure. choice: of both sides alike; its `out` is the store of a commit's runs.

    metric, margin, lower_is_better: as for `analysis.compare.verdicts.verdicts`.
    """

    a: str
    b: str
    choice: Choice
    metric: str = "return"
    margin: float = 0.0
    lower_is_better: bool = False
    reps: int = 50_000
    seed: int = 0


def compare(question: Question, format_: str, console: Console, *, fail_on_worse: bool = False) -> int:
    """Print the comparison; returns the exit code, 1 if asked to fail and B is worse or broken.

    Raises UserError for what cannot be read or understood, and when nothing can be compared.
    """
    from analysis import grids
    from analysis.compare import tables as verdict_tables

    if format_ not in FORMATS:
        raise UserError(f"unknown format {format_!r}. Valid: {', '.join(FORMATS)}.")
    made = _verdicts(question)
    if format_ == "terminal":
        console.print(grids.to_terminal(verdict_tables.to_grids(made)))
    elif format_ == "md":
        sys.stdout.write(grids.to_markdown(verdict_tables.to_grids(made)))
    else:
        for note in made.notes if format_ == "csv" else ():
            print(f"note: {note}", file=sys.stderr)
        sys.stdout.write(verdict_tables.to_csv(made) if format_ == "csv" else verdict_tables.to_json(made))
    return _gate(made) if fail_on_worse else 0


def _verdicts(question: Question) -> Verdicts:
    import pandas as pd

    from analysis.compare.verdicts import verdicts
    from analysis.statistics.summary import Bootstrap

    choice = question.choice
    a, b = (_side(name, text, choice) for name, text in (("A", question.a), ("B", question.b)))
    for side in (a, b):
        _check_metric(side, question.metric)
    rows = pd.concat([side.frame[["suite", "task"]].drop_duplicates().astype(str) for side in (a, b)])
    try:
        made = verdicts(
            a,
            b,
            score_ranges(rows, choice.score_ranges),
            metric=question.metric,
            env_steps=choice.env_steps,
            margin=question.margin,
            lower_is_better=question.lower_is_better,
            how=Bootstrap(reps=question.reps, seed=question.seed),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if not made.lines:
        reasons = "".join(f"\n  {note}" for note in made.notes)
        raise UserError(f"nothing in {question.a} can be compared with {question.b}:{reasons}")
    return made


def _side(letter: str, text: str, choice: Choice) -> Side:
    """A folder or file that exists, or else a commit. Raises UserError."""
    from analysis.compare.sides import Side

    path = Path(text)
    try:
        if (path / "runs").is_dir():
            frame = frame_of(replace(choice, out=path, scores=None))
            return Side(text, frame, _records(path, frame["run_id"].unique()))
        if path.exists():
            return Side(text, frame_of(replace(choice, scores=path)), {}, outside=True)
        records = _of_commit(text, choice.out)
        frame = frame_of(choice)
        frame = frame[frame["run_id"].isin(list(records))]
        if frame.empty:
            raise UserError(f"no row of commit {text} in {choice.out} is of the suite, task and agent asked for")
        return Side(text, frame, records)
    except UserError as error:
        raise UserError(f"{letter}: {error}") from error


def _records(out: Path, run_ids: Any) -> dict[str, dict[str, Any]]:
    """The provenance of these runs, of those that have one that can be read."""
    from results import provenance
    from results.layout import PROVENANCE_FILE, StoreError, run_folder

    records: dict[str, dict[str, Any]] = {}
    for run_id in run_ids:
        path = run_folder(out, run_id) / PROVENANCE_FILE
        if path.exists():
            try:
                records[run_id] = provenance.read(path)
            except StoreError as error:
                print(f"note: {error}", file=sys.stderr)
    return records


def _of_commit(text: str, out: Path) -> dict[str, dict[str, Any]]:
    """Records of the runs in `out` all of whose sessions were made with this commit. Raises UserError."""
    from results.provenance import statuses

    records = statuses(out)
    commits = {run: {str(session["git_sha"]) for session in each["sessions"]} for run, each in records.items()}
    counts = Counter(commit for each in commits.values() for commit in each if commit != "None")
    known = ", ".join(f"{commit[:10]} ({count} runs)" for commit, count in counts.most_common()) or "none"
    found = [commit for commit in counts if _COMMIT.fullmatch(text) and commit.startswith(text)]
    if len(found) > 1:
        raise UserError(f"{text!r} is the beginning of several commits: {', '.join(sorted(found))}")
    if not found:
        raise UserError(
            f"{text!r} is neither a folder of results, nor a file or folder of scores, nor a commit of at least 4 "
            f"digits that runs in {out} were made with; those are: {known}"
        )
    pure = {run: records[run] for run, each in commits.items() if each == set(found)}
    mixed = [run for run, each in commits.items() if found[0] in each and run not in pure]
    if mixed:
        print(f"note: left out, since made with several commits: {', '.join(mixed)}", file=sys.stderr)
    if not pure:
        raise UserError(f"no run in {out} was made with commit {text} alone")
    return pure


def _check_metric(side: Side, metric: str) -> None:
    measured = sorted(map(str, side.frame[side.frame["kind"] == "eval"]["metric"].unique()))
    if metric not in measured:
        raise UserError(f"no evaluation in {side.name} has the metric {metric!r}; there are: {', '.join(measured)}")


def _gate(made: Verdicts) -> int:
    """1 if B is worse somewhere, or has runs that failed where A has none."""
    worse = [line for line in made.lines if line.verdict == "worse" or line.broken]
    for line in worse:
        what = "worse" if line.verdict == "worse" else "failed, not evaluated or not finite in B only"
        print(f"covr-bench: {what}: {line.agent} on {line.task}, {line.title}", file=sys.stderr)
    return 1 if worse else 0
