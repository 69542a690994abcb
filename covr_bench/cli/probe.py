"""`covr-bench probe A B`: where two agents, or one agent in two states of its code, part ways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.options import console, path_option, say
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from covr_bench.probe.differences import Comparison
    from covr_bench.probe.trace import Trace

SHOWN = 8  # differences that are listed
EXIT_CODES = {"same mathematics": 0, "changed": 3, "not comparable": 5}
SUFFIX = ".trace"


def probe_command(
    a: Annotated[str, typer.Argument(metavar="A", help="Agent: a name, a .py file, or a .trace file.")],
    b: Annotated[str, typer.Argument(metavar="[B]", help="The same, held against A.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of both; repeatable.")] = None,
    save: Annotated[Path | None, path_option(help="Keep the trace of A in this .trace file.")] = None,
) -> None:
    """Compare the first actions and updates of two agents exactly: which quantity differs first?

    Exits with 0 for the same mathematics, 3 for another one, 5 if the two cannot be compared.
    """
    from covr_bench.config.request import parse_pairs

    raise typer.Exit(probe_agents(a, b, parse_pairs(set_ or ()), save, console()))


def probe_agents(a: str, b: str, settings: Mapping[str, str], save: Path | None, console: Console) -> int:
    """Print how two agents compare, and keep the trace of the first.

    Args:
        a, b: An agent's name or file, or a file of an earlier trace; b may be empty.
        settings: As `--set` takes them.
        save: Where to keep the trace of `a`; None for nowhere.
        console: Where to print.

    Returns:
        The exit code.

    Raises:
        UserError: An unknown agent or setting, a file that is no trace, or nothing to do.
    """
    from covr_bench.probe.differences import compare

    if not b and save is None:
        raise UserError("give a second agent or trace to compare with, or --save FILE.trace to keep this one")
    first = _trace(a, settings)
    if save is not None:
        first.write(save)
        say(console, f"{len(first.quantities)} quantities of {first.facts['agent']} ({_facts(first)}) kept in {save}")
    if not b:
        return 0
    comparison = compare(first, _trace(b, settings))
    _print(comparison, (a, b), _facts(first), console)
    return EXIT_CODES[comparison.verdict.value]


def _trace(ref: str, settings: Mapping[str, str]) -> Trace:
    if ref.endswith(SUFFIX):
        from covr_bench.probe.trace import read

        try:
            return read(Path(ref))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the trace {ref}: {error}") from error
    from covr_bench.probe.probe import probe

    return probe(ref, settings)


def _facts(trace: Trace) -> str:
    reason = trace.facts.get("float64")
    return f"{trace.facts['dtype']}; float64 is {reason}" if reason else str(trace.facts["dtype"])


def _print(comparison: Comparison, names: Sequence[str], facts: str, console: Console) -> None:
    say(console, f"A: {names[0]}, B: {names[1]} ({facts})")
    say(console, comparison.sentence())
    for difference in comparison.differences[:SHOWN]:
        say(console, f"  {difference.sentence()}")
    if len(comparison.differences) > SHOWN:
        say(console, f"  and {len(comparison.differences) - SHOWN} more")
