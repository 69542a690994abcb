"""`covr-bench gate`: does an agent still do what its reference does, and if not, is it worse?"""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import console, say
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from covr_bench.gate.gate import Gate
    from covr_bench.gate.measure import Measurements, Side
    from covr_bench.gate.request import GateRequest
    from suites.base import Suite

Many = list[str] | None
NEW = "new-side"  # folder of --out with the runs of what is judged, which every gate begins anew
TELL_S = 20.0  # between lines of a log that say what is going on
TIMEOUT_S = 120.0  # of a file system with references that does not answer
MARGIN_SHARE = 0.1  # of a task's range: the loss that does not matter


def gate_command(
    agent: Annotated[Many, typer.Option(help="Name or .py file; repeatable. [those of pyproject.toml]")] = None,
    against: Annotated[
        str | None, typer.Option(help="reference, a folder of references, the URL of a store, or a git revision.")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Suite with a budget `gate`. [catch]")] = None,
    task: Annotated[Many, typer.Option(help="Only this task; repeatable.")] = None,
    set_: Annotated[Many, typer.Option("--set", metavar="KEY=VALUE", help="Setting of agents; repeatable.")] = None,
    margin: Annotated[Many, typer.Option(metavar="TASK=VALUE", help="Loss of return that does not matter.")] = None,
    at_least: Annotated[Many, typer.Option(metavar="TASK=VALUE", help="Mean training return to be reached.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Chance of a false alarm. [0.05]")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Time for it all.")] = None,
    allow_change: Annotated[bool, typer.Option("--allow-change", help="Pass a change that is not worse.")] = False,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Leave out the second question.")] = False,
    bless: Annotated[
        str | None, typer.Option(metavar="REASON", help="Make the new side the reference, and why.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    conv_kernel: Annotated[str | None, typer.Option(help="auto, torch or winograd.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of its runs and reports. [results/gate]")] = None,
) -> None:
    """Judge agents against a reference: same code, same mathematics, same behaviour, or worse?

    Exits with 0 if all pass, 1 worse, 2 usage, 3 changed, 4 broken, 5 undecided.
    """
    from covr_bench.config.request import parse_pairs
    from covr_bench.gate.request import request

    given: dict[str, Any] = {
        "agent": tuple(agent or ()),
        "against": against,
        "suite": suite,
        "task": tuple(task or ()),
        "set": parse_pairs(set_ or ()),
        "margin": parse_pairs(margin or (), "--margin"),
        "at_least": parse_pairs(at_least or (), "--at-least"),
        "alpha": alpha,
        "max_minutes": max_minutes,
        "allow_change": allow_change,
        "no_probe": no_probe,
        "bless": bless,
        "workers": workers,
        "conv_kernel": conv_kernel,
        "out": out,
    }
    raise typer.Exit(run_gate(request(given, Path.cwd()), Path.cwd(), console()))


def run_gate(asked: GateRequest, folder: Path, console: Console) -> int:
    """Judge, print, and write the reports; or store references.

    Args:
        asked: What to do.
        folder: Where the command was given: agents' files are found from there.
        console: Where to print.

    Returns:
        The exit code.

    Raises:
        UserError: Something named does not exist, or a side cannot run.
    """
    from covr_bench.config import registry

    found = registry.suite(asked.suite)
    registry.budget(found, "gate")
    tasks = tuple(asked.task) or tuple(each.name for each in found.tasks)
    for name in (*tasks, *asked.margin, *asked.at_least):
        found.task(name)
    _all_judged(asked, tasks)
    with ExitStack() as stack, console.status("starting") as status:
        tell = status.update if console.is_terminal else teller(_print_progress)
        new, reference, agents = _sides(asked, folder, tasks, tell, stack)
        if asked.bless:
            return _bless(asked, new, reference, console)
        gate = _gate(asked, found, tasks, new, reference)
        gate.judge(agents)
    return _report(asked, gate, reference.name, console)


def teller(show: Callable[[str], None], every_s: float = TELL_S) -> Callable[[str], None]:
    """What shows a text if the last one is `every_s` seconds ago: a log shall neither fill nor stay silent."""
    shown = -math.inf

    def tell(text: str) -> None:
        nonlocal shown
        if (now := time.monotonic()) - shown >= every_s:
            shown = now
            show(text)

    return tell


def _print_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _all_judged(asked: GateRequest, tasks: Sequence[str]) -> None:
    """Raise UserError if a demand is made of a task that is not judged: it would be met by nothing being looked at."""
    for option, named in (("--margin", asked.margin), ("--at-least", asked.at_least)):
        if others := [name for name in named if name not in tasks]:
            raise UserError(
                f"{option} names {', '.join(others)}, and judged are only {', '.join(tasks)}: judge it too "
                f"(--task {others[0]}), or leave it out of {option}"
            )


def _sides(
    asked: GateRequest, folder: Path, tasks: tuple[str, ...], tell: Callable[[str], None], stack: ExitStack
) -> tuple[Side, Measurements, tuple[str, ...]]:
    """The side to be judged, what it is held against, and the agents as both sides find them."""
    import shutil

    from covr_bench.gate import revisions
    from covr_bench.gate.measure import Side
    from covr_bench.gate.paths import located
    from covr_bench.gate.references import SHIPPED, References
    from covr_bench.gate.request import REFERENCE
    from covr_bench.run.alone import alone

    out = (folder / asked.out).resolve()
    stack.enter_context(alone(out, "gate in", out))
    shutil.rmtree(out / NEW, ignore_errors=True)
    repository = revisions.top(folder)
    root = repository or folder.resolve()
    stored = SHIPPED if asked.against == REFERENCE else _folder_of(asked, folder, tell)
    if asked.bless and not stored.is_dir() and repository and revisions.exists(repository, asked.against):
        raise UserError(f"--bless stores references in a folder, and {asked.against} is a revision")
    at_revision = not (asked.bless or stored.is_dir())
    if at_revision and repository is None:
        raise UserError(f"--against {asked.against}: no such folder, and {folder} is in no git repository")
    asked = located(asked, folder, root, revision=at_revision)
    shared: dict[str, Any] = {"settings": asked.set, "workers": asked.workers, "conv_kernel": asked.conv_kernel}

    def side(name: str, root: Path, out: Path, instead_of: Path | None = None) -> Side:
        side = Side(name, root, out, asked.suite, tasks, say=tell, instead_of=instead_of, **shared)
        return stack.enter_context(side)

    if not at_revision or repository is None:
        new = side("the new side", root, out / NEW)
        return new, References(stored, new.names(asked.agent), asked.set, asked.suite), asked.agent
    sha = revisions.commit(repository, asked.against)
    tree = stack.enter_context(revisions.checked_out(repository, sha, out / "tree"))
    title = f"{asked.against} ({sha[: revisions.DIGITS]})"
    old = side(title, tree, out / _key(sha, asked, root), repository)
    return side("the new side", root, out / NEW), old, asked.agent


def _folder_of(asked: GateRequest, folder: Path, tell: Callable[[str], None]) -> Path:
    """The references' folder; those behind a URL are fetched."""
    if "://" not in asked.against:
        return folder / asked.against
    if asked.bless:
        raise UserError(
            "--bless stores references in a folder; then push them: covr-bench push --references FOLDER URL"
        )
    from covr_bench.remote.filesystem import Remote
    from covr_bench.remote.references import pull

    tell(f"fetching the references in {asked.against}")
    return pull(Remote(asked.against, TIMEOUT_S))


def _key(sha: str, asked: GateRequest, root: Path) -> str:
    """A folder for what a revision did with these settings and packages, so that it is not done again."""
    import hashlib

    from covr_bench.gate.revisions import DIGITS
    from covr_bench.kit.code import HOME
    from results.environment import collect

    facts = collect()
    made_with = [facts["version"], sorted(facts["packages"].items())]
    if root.resolve() != HOME:  # else the gate is held over covr-bench itself, whose code is the revision's
        made_with += [facts["git_sha"], facts.get("content_sha256")]
    settings = repr((sorted(asked.set.items()), asked.suite, asked.conv_kernel, made_with))
    return f"{sha[:DIGITS]}-{hashlib.sha256(settings.encode()).hexdigest()[:6]}"


def _gate(asked: GateRequest, suite: Suite, tasks: tuple[str, ...], new: Measurements, reference: Measurements) -> Gate:
    from covr_bench.gate.gate import Gate, Rules

    ranges = {name: suite.task(name).score_range for name in tasks}
    margins = {name: asked.margin.get(name, MARGIN_SHARE * (high - low)) for name, (low, high) in ranges.items()}
    rules = Rules(
        alpha=asked.alpha,
        margins=margins,
        at_least=asked.at_least,
        allow_change=asked.allow_change,
        max_seconds=asked.max_minutes * 60 if asked.max_minutes else None,
        probe=not asked.no_probe,
    )
    return Gate(new, reference, tasks, rules)


def _report(asked: GateRequest, gate: Gate, against: str, console: Console) -> int:
    from analysis.gate.output import as_json, junit, markdown, summary
    from analysis.gate.verdicts import exit_code
    from analysis.report.gate import gate_page

    for line in gate.lines:
        say(console, f"{line.agent} on {line.task}: {line.verdict} ({line.seconds:.0f} s)")
        say(console, f"  {line.sentence}")
    out, allow = Path(asked.out), asked.allow_change
    out.mkdir(parents=True, exist_ok=True)
    files = {
        "gate.md": markdown(gate.lines, against=against, allow_change=allow),
        "gate.json": as_json(gate.lines, against=against, allow_change=allow),
        "junit.xml": junit(gate.lines, allow_change=allow),
        "gate.html": gate_page(gate.lines, gate.tables, against=against, allow_change=allow),
    }
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    say(console, f"gate against {against}: {summary(gate.lines, allow_change=allow)}")
    say(console, f"wrote {', '.join(files)} in {out}")
    return exit_code(gate.lines, allow_change=allow)


def _bless(asked: GateRequest, new: Side, references: Any, console: Console) -> int:
    from covr_bench.gate.bless import bless
    from covr_bench.gate.references import References

    assert isinstance(references, References)
    failed = bless(list(references.names), new, references, asked.bless, lambda text: say(console, text))
    for agent, reason in failed.items():
        say(console, f"{agent}: broken, not stored: {reason}")
    return 4 if failed else 0
