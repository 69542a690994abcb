"""`covr-bench import FILE...`: what people have logged elsewhere as a file of scores. Imports no torch."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.choice import warn
from covr_bench.cli.options import path_argument, path_option
from covr_bench.cli.show import writing
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from analysis.rows.formats import Line, Settings

FORMATS = ("auto", "csv", "jsonl", "monitor", "sb3", "marl-eval", "dreamer", "tdmpc2", "wandb", "tensorboard")
COLUMNS = (
    "suite", "budget", "task", "agent", "variant", "seed", "env_steps", "return", "action_repeat", "labels",
)  # fmt: skip
_NAMED = ("suite", "task", "agent")  # names that others' data may spell in another way
MAX_PLACES = 3  # named in a remark
_NEAR = 0.8  # ratio of difflib from which a name is asked about
Pairs = list[str] | None


def import_command(
    files: Annotated[list[Path], path_argument(metavar="FILE...", help="Files, or folders that are searched.")],
    from_: Annotated[str, typer.Option("--from", help=", ".join(FORMATS) + ".")] = "auto",
    columns: Annotated[
        Pairs, typer.Option(metavar="OURS=THEIRS", help="Their name of a column, such as return=episode_reward.")
    ] = None,
    with_: Annotated[
        Pairs, typer.Option("--with", metavar="NAME=VALUE", help="What the files do not say, such as task=walker_walk.")
    ] = None,
    rename: Annotated[Pairs, typer.Option(metavar="OLD=NEW", help="Another name of a suite, task or agent.")] = None,
    keep_names: Annotated[bool, typer.Option("--keep-names", help="Do not ask about names that nearly fit.")] = False,
    file: Annotated[Path, path_option("-o", "--output", help="The scores to write.")] = Path("scores.csv"),
) -> None:
    """Others' logs as scores for `table`, `stats`, `plot`, `compare` and `report`: rl-zoo, marl-eval, W&B and more."""
    from analysis.rows.external import rows_of
    from analysis.rows.formats import Settings
    from analysis.rows.lines import ScoresError, checked_line

    if file.suffix.lower() != ".csv":
        raise UserError(f"-o takes a file that ends in .csv, by which the other verbs know scores, got {file}")
    settings = Settings(_pairs("--columns", columns, COLUMNS), _pairs("--with", with_, COLUMNS))
    try:
        lines = import_lines(files, from_, settings, file)
        lines = _renamed(lines, _known_names(_pairs("--rename", rename), lines))
        if not keep_names:
            lines = _renamed(lines, _asked(lines))
        checked = [checked_line(line, str(line["where"])) for line in lines]
        _check_conflicts(checked)
        warn(_of_several_places(checked))
        frame, remarks = rows_of(checked)  # as every verb will
    except ScoresError as error:
        raise UserError(str(error)) from error
    write_scores(lines, file)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    counts = {"score": len(lines), "run": frame["run_id"].nunique()}
    counts |= {name: frame[name].nunique() for name in ("task", "agent")}
    scores, runs, *rest = (f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    print(f"{scores} of {runs}, {', '.join(rest)}: {file}")


def import_lines(paths: Sequence[Path], format_: str, settings: Settings, output: Path | None = None) -> list[Line]:
    """The scores of all files.

    Args:
        paths: Files, and folders that are searched.
        format_: One of `FORMATS`.
        settings: What the files do not say.
        output: A file that is going to be written: it is no input, though it lies in a folder that is searched.

    Raises:
        UserError: An unknown format, or an input that would be overwritten.
        ScoresError: Names all unreadable files.
    """
    from analysis.rows.imports import read_file
    from analysis.rows.lines import ScoresError

    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS)
    lines: list[Line] = []
    problems = []
    for path in _found(paths, output):
        try:
            lines += read_file(path, format_, settings)
        except ScoresError as error:
            problems.append(str(error))
    if problems:
        count = f"{len(problems)} files cannot be imported:\n" if len(problems) > 1 else ""
        raise ScoresError(count + "\n".join(problems))
    if not lines:
        raise ScoresError(f"no scores in {', '.join(map(str, paths))}")
    return lines


def write_scores(lines: Iterable[Mapping[str, object]], file: Path) -> None:
    """Write lines of scores as CSV. Raises UserError if it cannot be written."""
    from analysis.grids import to_csv
    from results.files import write_bytes

    text = to_csv(COLUMNS, ([line.get(name, "") for name in COLUMNS] for line in lines))
    with writing(file.parent):
        write_bytes(file, text.encode())


def _found(paths: Sequence[Path], output: Path | None) -> list[Path]:
    """The files to read; of a run's several the first, with which the others are read. Raises UserError."""
    from analysis.rows.formats import run_files

    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"there is no file or folder {path}")
        some = sorted(each for each in path.rglob("*") if _may_hold_scores(each)) if path.is_dir() else [path]
        if output and path.is_dir():
            some = [each for each in some if os.path.realpath(each) != os.path.realpath(output)]
        elif output and os.path.realpath(path) == os.path.realpath(output):
            raise UserError(f"{path} would be overwritten by its import: give -o FILE, another file for the scores")
        if not some:
            raise UserError(f"nothing in {path} looks like scores; formats are {', '.join(FORMATS[1:])}")
        for each in some:
            if not each.is_file():
                raise UserError(f"{each} is no file, such as a link to nowhere; remove it, or name the others")
        found += [run_files(each)[0] for each in some]
    return list(dict.fromkeys(found))


def _may_hold_scores(path: Path) -> bool:
    ending = path.name.endswith((".csv", ".jsonl", ".json", ".json.gz")) or path.name == "evaluations.npz"
    return not path.is_dir() and not path.name.startswith(".") and (ending or "tfevents" in path.name)


def _check_conflicts(lines: Iterable[Line]) -> None:
    """Raise ScoresError that names the files whose scores are of one run at one step, all at once, and each's first.

    lines: Of `checked_line`, in which `12.50` is 12.5 and `1e4` is 10000.
    """
    from analysis.rows.external import MAX_NAMED
    from analysis.rows.lines import ScoresError

    names = [name for name in COLUMNS if name != "return"]
    places: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for line in lines:
        key = tuple(str(line[name]) for name in names)
        places.setdefault(key, set()).add((re.sub(r":\d+$", "", line["where"]), str(line["return"])))
    conflicts: dict[str, list[str]] = {}
    for key, each in places.items():
        if len(different := {value for _, value in each}) > 1:
            run, returns = dict(zip(names, key, strict=True)), " and ".join(sorted(different))
            score = f"{run['agent']} on {run['task']}, seed {run['seed']} at {run['env_steps']}: {returns}"
            conflicts.setdefault(" and ".join(sorted({file for file, _ in each})), []).append(score)
    if conflicts:
        total = sum(map(len, conflicts.values()))
        most = sorted(conflicts.items(), key=lambda item: -len(item[1]))[:MAX_NAMED]
        texts = [f"\n  {len(scores):,} in {files}, first {scores[0]}" for files, scores in most]
        rest = f"\n  and more in {len(conflicts) - MAX_NAMED} others" if len(conflicts) > MAX_NAMED else ""
        raise ScoresError(
            f"{total:,} score{' is' if total == 1 else 's are'} of the same agent, task, seed and step, with different "
            f"returns:"
            f"{''.join(texts)}{rest}\n"
            "Import runs of one name one by one, each with its --with agent=... or --with seed=...; of a file that has "
            "a step twice, remove the line that does not count"
        )


def _of_several_places(lines: Iterable[Line]) -> Iterator[str]:
    """A remark for each run whose scores come from several files: two runs, or two measures, are easily one.

    TensorBoard's files of one folder are one place, since a run that goes on begins another.
    """
    places: dict[tuple[str, ...], set[str]] = {}
    names = [name for name in COLUMNS if name not in ("return", "action_repeat", "env_steps")]
    for line in lines:
        run = tuple(str(line[name]) for name in names)
        file = Path(re.sub(r":\d+$", "", line["where"]))
        places.setdefault(run, set()).add(str(file.parent if "tfevents" in file.name else file))
    for run, found in places.items():
        if len(found) > 1:
            named = ", ".join(f"{name} {value}" for name, value in zip(names, run, strict=True) if value)
            some = ", ".join(sorted(found)[:MAX_PLACES]) + (", ..." if len(found) > MAX_PLACES else "")
            yield (
                f"{named}: one run out of {len(found)} places, {some}. If they are several runs, import them one by "
                "one, each with its --with seed=...; if one has returns of training, leave it out"
            )


def _asked(lines: Sequence[Line]) -> dict[str, str]:
    """By name that nearly fits one of ours, ours: as answered at a terminal, else refused. Raises UserError."""
    questions = {}
    for kind, known in _known().items():
        for name in sorted({str(line[kind]) for line in lines if line.get(kind)} - set(known)):
            by_form = {_form(each): each for each in known}
            near = difflib.get_close_matches(_form(name), by_form, n=1, cutoff=_NEAR)
            if near:
                questions[name] = (kind, by_form[near[0]])
    if not questions:
        return {}
    if sys.stdin.isatty():
        asked = {old: f"{kind} {old!r}: is this {new!r}? (y/N) " for old, (kind, new) in questions.items()}
        return {old: questions[old][1] for old, text in asked.items() if input(text).strip().lower() in ("y", "yes")}
    texts = "".join(
        f"\n  {kind} {old!r}: is it {new!r}? --rename {shlex.quote(f'{old}={new}')}"
        for old, (kind, new) in questions.items()
    )
    raise UserError(f"names that nearly fit ours, but are others:{texts}\nGive --rename for those, or --keep-names.")


def _known() -> dict[str, list[str]]:
    """Our names, by what they name."""
    from covr_bench.config import registry

    suites = registry.suites()
    tasks = sorted({task.name for suite in suites.values() for task in suite.tasks})
    return {"suite": sorted(suites), "task": tasks, "agent": sorted(registry.agent_names())}


def _form(name: str) -> str:
    """A name without what spellings differ in: capitals, signs, and the suite before a task."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"^(dmcontrol|dmc)(?=.)", "", plain)


def _known_names(names: Mapping[str, str], lines: Sequence[Line]) -> Mapping[str, str]:
    """The names to replace. Raises UserError for one that no line has."""
    there = {str(line[kind]) for line in lines for kind in _NAMED if line.get(kind)}
    for name in names:
        if name not in there:
            raise unknown("name to --rename", name, there)
    return names


def _renamed(lines: Sequence[Line], names: Mapping[str, str]) -> list[Line]:
    return [{key: names.get(str(v), v) if key in _NAMED else v for key, v in line.items()} for line in lines]


def _pairs(option: str, texts: Pairs, valid: Sequence[str] = ()) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not (sign and name and value):
            raise UserError(f"{option} takes NAME=VALUE, got {text!r}")
        if valid and name not in valid:
            raise unknown(f"column of {option}", name, valid)
        if found.setdefault(name, value) != value:
            raise UserError(f"{option} states {name} twice: {found[name]!r} and {value!r}")
    return found
