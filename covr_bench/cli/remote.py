"""`covr-bench push` and `covr-bench pull`: runs to and from a store elsewhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.options import Out, console, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from covr_bench.remote.transfer import Outcome

Places = Annotated[
    list[str],
    typer.Argument(
        metavar="[RUN...] URL",
        help="Runs by id, a part of it or a pattern [all], and s3://, gs://, hf://, file://, ...",
    ),
]
Parallel = Annotated[int, typer.Option(min=1, help="Runs at a time.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds after which a file system that is silent is given up.")]


def push_command(
    places: Places,
    out: Out = Path("results"),
    references: Annotated[
        Path | None, typer.Option(help="References of `gate` in this folder, instead of runs.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Send files again that are there, after a refusal.")] = False,
    parallel: Parallel = 8,
    timeout: Timeout = 120.0,
) -> None:
    """Copy whole runs to a store elsewhere; the same command goes on where it was interrupted."""
    from covr_bench.remote import references as gate
    from covr_bench.remote import runs
    from covr_bench.remote.filesystem import Remote

    *wanted, url = places
    remote = Remote(url, timeout)
    if references is not None:
        copied = gate.push(remote, references, parallel, anew=anew)
    else:
        copied = runs.push(remote, out, wanted, parallel, anew=anew)
    raise typer.Exit(show("pushed", copied, f"to {url}", console()))


def pull_command(places: Places, out: Out = Path("results"), parallel: Parallel = 8, timeout: Timeout = 120.0) -> None:
    """Copy whole runs from a store elsewhere; runs that are newer here, or running, stay as they are."""
    from covr_bench.remote import runs
    from covr_bench.remote.filesystem import Remote

    *wanted, url = places
    copied = runs.pull(Remote(url, timeout), out, wanted, parallel)
    raise typer.Exit(show("pulled", copied, f"into {out}", console()))


def show(verb: str, outcomes: Iterable[Outcome], where: str, console: Console) -> int:
    """Print a line for each run that needs one, and what became of all. Returns the exit code."""
    from covr_bench.remote.transfer import State

    counts: Counter[State] = Counter()
    sent = 0
    with console.status(f"{verb} 0") as status:
        for outcome in outcomes:
            counts[outcome.state] += 1
            sent += outcome.bytes
            status.update(f"{verb} {counts.total()}, {sent / 1e6:.1f} MB; {outcome.name}")
            if outcome.state is not State.SAME:
                reason = f": {outcome.reason}" if outcome.reason else ""
                size = f" ({outcome.bytes / 1e6:.1f} MB)" if outcome.state is State.COPIED else ""
                say(console, f"{outcome.name} {outcome.state.value}{size}{reason}")
    others = "".join(
        f", {counts[state]} {state.value}" for state in State if counts[state] and state is not State.COPIED
    )
    say(console, f"{verb} {counts[State.COPIED]} ({sent / 1e6:.1f} MB) {where}{others}")
    return int(any(not state.is_well for state in counts))
