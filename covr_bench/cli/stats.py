"""`covr-bench stats`: statistics of scores with intervals. Imports neither torch nor a simulator."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from covr_bench.cli.choice import Choice, check_format, comparisons_of, frame_of, show_grids, warn
from covr_bench.cli.options import (
    BootstrapSeed,
    Format,
    OneSuite,
    OnlyAgent,
    OnlyTask,
    Out,
    Over,
    Reps,
    ScoreRange,
    Scores,
    UpTo,
    WhichScore,
    console,
    path_option,
)
from covr_bench.cli.show import writing
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def stats_command(
    out: Out = Path("results"),
    suite: OneSuite = "",
    format_: Format = "terminal",
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score: WhichScore = "last",
    score_range: ScoreRange = None,
    over: Over = "",
    reps: Reps = 50_000,
    seed: BootstrapSeed = 0,
    marl_eval: Annotated[Path | None, path_option(help="Also write the returns as marl-eval's JSON.")] = None,
) -> None:
    """IQM, median, mean and optimality gap with intervals, probability of improvement, profiles, sample efficiency."""
    only = (suite, tuple(task or ()), tuple(agent or ()))
    choice = Choice(out, scores, *only, env_steps, tuple(score_range or ()), score)
    print_stats(choice, format_, console(), reps=reps, seed=seed, over=over, marl_eval=marl_eval)


def print_stats(
    choice: Choice, format_: str, console: Console, *, reps: int, seed: int, over: str, marl_eval: Path | None
) -> None:
    """Print the statistics. Raises UserError for an unknown format, task or agent, or without rows."""
    from analysis.statistics import output
    from analysis.statistics.summary import Bootstrap, compared_with

    check_format(format_)
    frame = frame_of(choice)
    comparisons = comparisons_of(frame, choice, finite=True)
    bootstrap = Bootstrap(reps=reps, seed=seed)
    try:
        comparisons = compared_with(comparisons, over)
        grids = (
            []
            if format_ == "csv"
            else [grid for each in comparisons for grid in output.to_grids(each, bootstrap, over)]
        )
        if format_ == "csv":
            warn(remark for each in comparisons for remark in each.remarks)
        show_grids(grids, lambda: output.to_csv(comparisons, bootstrap, over), format_, console)
    except ValueError as error:
        raise UserError(str(error)) from error
    if marl_eval:
        from analysis.rows.external import to_marl_eval
        from results.files import write_bytes

        exported, remarks = to_marl_eval(frame, choice.env_steps)
        with writing(marl_eval.parent):
            write_bytes(marl_eval, (json.dumps(exported, allow_nan=False) + "\n").encode())
        warn(remarks)
        print(f"wrote {marl_eval}", file=sys.stderr)
