"""Options that several verbs share, and the console they print to."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def path_option(*names: str, help: str) -> Any:
    """An option of a path, which refuses an empty one: `--out "$UNSET"` does not mean the working folder."""
    return typer.Option(*names, parser=_path, metavar="PATH", help=help)


def path_argument(*, help: str, metavar: str = "PATH") -> Any:
    """An argument of a path, which refuses an empty one."""
    return typer.Argument(parser=_path, metavar=metavar, help=help)


def _path(text: str | Path) -> Path:
    if text == "":
        raise UserError("a path is empty; name a file or folder (. is the working folder)")
    return Path(os.path.expanduser(text))  # a shell leaves `--out=~/results` as it is


Out = Annotated[Path, path_option("--out", help="Folder of the results.")]
OneSuite = Annotated[str, typer.Option("--suite", help="Only this suite.")]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run the agent code that a published policy brings.")]
Format = Annotated[str, typer.Option("--format", help="terminal, md, csv, latex or html.")]
Scores = Annotated[
    Path | None,
    path_option(help="CSV or JSONL of agent, task, seed, env_steps, return, instead of the results."),
]
OnlyTask = Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")]
OnlyAgent = Annotated[list[str] | None, typer.Option(help="Only this agent; repeatable.")]
UpTo = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Score what was measured up to this step.")]
WhichScore = Annotated[
    str,
    typer.Option(
        "--score",
        help="last (evaluation), last3 (evaluations), train10 (training episodes of the last 10 % of steps) or auc.",
    ),
]
ScoreRange = Annotated[
    list[str] | None,
    typer.Option(metavar="[TASK=]LOW,HIGH", help="Returns that count as 0 and 1, instead of the suite's; repeatable."),
]
Over = Annotated[str, typer.Option(help="Probability of improvement over this agent only.")]
OfTask = Annotated[str, typer.Option(metavar="SUITE/TASK", help="Task to act on. [the run's own]")]
StartSeed = Annotated[
    int | None, typer.Option(min=0, help="Seed of the first episodes' states. [the run's: those of its evaluations]")
]
SetEnv = Annotated[
    list[str] | None, typer.Option("--set", metavar="env.KEY=VALUE", help="Setting of the task; repeatable.")
]
Reps = Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")]
BootstrapSeed = Annotated[int, typer.Option("--seed", min=0, help="Bootstrap seed.")]
DeviceName = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ... or auto.")]
PAPERS_HELP = "T1 ... T5, hard, vlm, drqv2, dmc-vision, several (those that compare methods), all; T1,T4; repeatable"


def console() -> Console:
    """Standard output, as wide as the terminal."""
    from rich.console import Console

    return Console()


def say(console: Console, text: str) -> None:
    """Print a line as it is: not folded, so that it can be copied and searched for."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on standard error."""
    with contextlib.suppress(OSError):  # a terminal that has been closed
        print(f"covr-bench: {message}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would fail to flush it at the end, and exit with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
