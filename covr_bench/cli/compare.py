"""`covr-bench compare A B`: two stores, commits or files of scores, side by side. Imports no torch."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.choice import Choice, frame_of, is_chosen, score_ranges
from covr_bench.cli.options import (
    BootstrapSeed,
    OneSuite,
    OnlyAgent,
    OnlyTask,
    Reps,
    ScoreRange,
    UpTo,
    WhichScore,
    console,
    path_option,
)
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from rich.console import Console

    from analysis.compare.run_sets import RunSet
    from analysis.compare.verdicts import Verdicts

FORMATS = ("terminal", "md", "csv", "json")
_COMMIT = re.compile(r"[0-9a-f]{4,40}")


def compare_command(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Folder of results, commit, or file or folder of scores; with :AGENT one of its agents."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The same; judged against A.")],
    out: Annotated[Path, path_option("--out", help="Results that hold a commit's runs.")] = Path("results"),
    suite: OneSuite = "",
    format_: Annotated[str, typer.Option("--format", help="terminal, md, csv or json.")] = "terminal",
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score: WhichScore = "last",
    score_range: ScoreRange = None,
    metric: Annotated[str, typer.Option(help="A measure of the evaluations.")] = "return",
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="Low values are good.")] = False,
    margin: Annotated[float, typer.Option(min=0, help="Differences that do not matter, in units of the metric.")] = 0.0,
    fail_on_worse: Annotated[
        bool, typer.Option("--fail-on-worse", help="Exit with 1 if B is worse, 4 if broken, 5 if undecided.")
    ] = False,
    reps: Reps = 50_000,
    seed: BootstrapSeed = 0,
) -> None:
    """Two folders of results or commits side by side, with a verdict per task that respects the number of seeds."""
    only = (suite, tuple(task or ()), tuple(agent or ()))
    choice = Choice(out, None, *only, env_steps, tuple(score_range or ()), score)
    question = Question(a, b, choice, metric, margin, lower_is_better, reps, seed)
    raise typer.Exit(compare(question, format_, console(), fail_on_worse=fail_on_worse))


@dataclass(frozen=True)
class Question:
    """What is compared, and by which metric.

    Attributes:
        a, b: Folder of results, commit, or file or folder of scores.
        choice: Which runs of both; its `out` holds the runs of a commit.
        metric, margin, lower_is_better: As of `analysis.compare.verdicts.verdicts`.
        reps, seed: Bootstrap replicates and seed.
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
    """Print the comparison; returns the exit code: 0, or what `fail_on_worse` finds.

    Raises UserError for input that cannot be read, and if nothing can be compared.
    """
    from analysis import grids
    from analysis.compare.tables import to_csv, to_grids, to_json

    if format_ not in FORMATS:
        raise UserError(f"unknown format {format_!r}. Valid: {', '.join(FORMATS)}.")
    outcome = _verdicts(question)
    if format_ == "terminal":
        console.print(grids.to_terminal(to_grids(outcome)))
    elif format_ == "md":
        sys.stdout.write(grids.to_markdown(to_grids(outcome)))
    else:
        for note in outcome.notes if format_ == "csv" else ():
            print(f"note: {note}", file=sys.stderr)
        sys.stdout.write(to_csv(outcome) if format_ == "csv" else to_json(outcome))
    return _gate(outcome) if fail_on_worse else 0


def _verdicts(question: Question) -> Verdicts:
    import pandas as pd

    from analysis.compare.run_sets import paired
    from analysis.compare.verdicts import verdicts
    from analysis.statistics.summary import Bootstrap

    choice = question.choice
    (text_a, agent_a), (text_b, agent_b) = (_of_agent(text) for text in (question.a, question.b))
    a, b = (
        _run_set(name, text, replace(choice, agents=(agent,)) if agent else choice)
        for name, text, agent in (("A", text_a, agent_a), ("B", text_b, agent_b))
    )
    if agent_a or agent_b:
        try:
            a, b = paired(a, b, agent_a, agent_b)
        except ValueError as error:
            raise UserError(str(error)) from error
    for run_set in (a, b):
        _check_metric(run_set, question.metric)
    rows = pd.concat([run_set.frame[["suite", "task"]].drop_duplicates().astype(str) for run_set in (a, b)])
    try:
        outcome = verdicts(
            a,
            b,
            score_ranges(rows, choice.score_ranges),
            metric=question.metric,
            env_steps=choice.env_steps,
            score=choice.score,
            margin=question.margin,
            lower_is_better=question.lower_is_better,
            bootstrap=Bootstrap(reps=question.reps, seed=question.seed),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if not outcome.lines:
        reasons = "".join(f"\n  {note}" for note in outcome.notes)
        raise UserError(f"nothing in {question.a} can be compared with {question.b}:{reasons}")
    return outcome


def _of_agent(text: str) -> tuple[str, str]:
    """`results:drq` as folder, file or commit, and the agent; without an agent it is empty."""
    if Path(text).exists():
        return text, ""
    for index in [index for index, letter in enumerate(text) if letter == ":" and 0 < index < len(text) - 1]:
        if Path(text[:index]).exists() or _COMMIT.fullmatch(text[:index]):
            return text[:index], text[index + 1 :]
    return text, ""


def _run_set(letter: str, text: str, choice: Choice) -> RunSet:
    """The runs or scores behind an argument: a folder or file that exists, else a commit. Raises UserError."""
    from analysis.compare.run_sets import RunSet
    from results import provenance

    path = Path(text)
    try:
        if (path / "runs").is_dir():
            frame = frame_of(replace(choice, out=path, scores=None))
            return _of_store(text, frame, provenance.statuses(path), choice)
        if path.exists():
            return RunSet(text, frame_of(replace(choice, scores=path)), {}, external=True)
        records = _of_commit(text, choice.out)
        frame = frame_of(choice)
        frame = frame[frame["run_id"].isin(list(records))]
        if frame.empty:
            raise UserError(f"no row of commit {text} in {choice.out} is of the suite, task and agent asked for")
        return _of_store(text, frame, records, choice)
    except UserError as error:
        raise UserError(f"{letter}: {error}") from error


def _of_store(text: str, frame: pd.DataFrame, records: Mapping[str, Any], choice: Choice) -> RunSet:
    """Rows with the records of their runs; of the runs asked for, those without rows are named."""
    from analysis.compare.run_sets import RunSet

    measured = set(frame["run_id"].unique())
    lost = [run for run in records if run not in measured and is_chosen(choice, run)]
    return RunSet(
        text,
        frame,
        {run: record for run, record in records.items() if run in measured},
        unmeasured=tuple(f"run {run}, which is {records[run]['status']} and has no rows" for run in lost),
    )


def _of_commit(text: str, out: Path) -> dict[str, dict[str, Any]]:
    """Records of the runs in `out` all of whose sessions ran this commit. Raises UserError."""
    from results.provenance import statuses

    records = statuses(out)
    commits = {run: {str(session.get("git_sha")) for session in each["sessions"]} for run, each in records.items()}
    counts = Counter(commit for each in commits.values() for commit in each if commit != "None")
    known = ", ".join(f"{commit[:10]} ({count} runs)" for commit, count in counts.most_common()) or "none"
    found = [commit for commit in counts if _COMMIT.fullmatch(text) and commit.startswith(text)]
    if len(found) > 1:
        raise UserError(f"{text!r} is the beginning of several commits: {', '.join(sorted(found))}")
    if not found:
        if any(run.split("/")[2] == text for run in records):
            raise UserError(f"{text!r} is an agent of the runs in {out}; write {out}:{text}")
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


def _check_metric(run_set: RunSet, metric: str) -> None:
    from results.states import RowKind

    measured = sorted(map(str, run_set.frame[run_set.frame["kind"] == RowKind.EVAL.value]["metric"].unique()))
    if metric not in measured:
        raise UserError(f"no evaluation in {run_set.name} has the metric {metric!r}; there are: {', '.join(measured)}")


def _gate(outcome: Verdicts) -> int:
    """4 if B has runs that are missing, failed or unfinished, 1 if it is worse, 5 if that is undecided, else 0."""
    from analysis.compare.verdicts import Verdict

    undecided = (Verdict.TOO_FEW_SEEDS, Verdict.DIFFERENT_STEPS, Verdict.NOT_FINITE, Verdict.NO_SCORE)
    broken = [line for line in outcome.lines if line.broken]
    worse = [line for line in outcome.lines if line.verdict == Verdict.WORSE]
    open_ = [line for line in outcome.lines if line.verdict in undecided and not line.broken]
    for name in outcome.missing:
        print(f"covr-bench: missing in B: {name}", file=sys.stderr)
    for what, lines in (("failed, unfinished, not evaluated or not finite in B", broken), ("worse", worse)):
        for line in lines:
            print(f"covr-bench: {what}: {line.agent} on {line.task}, {line.title}", file=sys.stderr)
    for line in open_:
        print(f"covr-bench: undecided, {line.verdict}: {line.agent} on {line.task}, {line.title}", file=sys.stderr)
    for name in outcome.not_compared:
        print(f"covr-bench: undecided, not compared: {name}", file=sys.stderr)
    return 4 if broken or outcome.missing else 1 if worse else 5 if open_ or outcome.not_compared else 0
