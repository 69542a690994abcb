"""`covr-bench report`: collects the contents of the page and writes it. Imports torch only to record videos."""

from __future__ import annotations

import shlex
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli import reproduce
from covr_bench.cli.choice import Choice, expected_tasks, frame_of, is_chosen, score_ranges, warn
from covr_bench.cli.options import (
    BootstrapSeed,
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
    path_option,
)
from covr_bench.cli.show import writing
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from analysis.report.page import Command, Video

VIDEO_BYTES = 2_500_000  # of all videos together: with a third more as text the page stays under 5 MB
EXAMPLE_FILE = "example.mp4"
LARGE, SMALL = 168, 84  # height in pixels of recorded videos: small where there are many
LARGE_BYTES = 300_000  # upper bound of a large one


def report_command(
    out: Out = Path("results"),
    suite: OneSuite = "",
    file: Annotated[Path, path_option("-o", "--output", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    scores: Scores = None,
    task: OnlyTask = None,
    agent: OnlyAgent = None,
    env_steps: UpTo = None,
    score: WhichScore = "last",
    score_range: ScoreRange = None,
    over: Over = "",
    reps: Reps = 50_000,
    seed: BootstrapSeed = 0,
    videos: Annotated[bool, typer.Option("--videos", help="Record an episode of each agent and task.")] = False,
) -> None:
    """One HTML page with everything in it: tables, curves, statistics, failures, provenance, commands."""
    only = (suite, tuple(task or ()), tuple(agent or ()))
    choice = Choice(out, scores, *only, env_steps, tuple(score_range or ()), score)
    warn(write_report(choice, file, ReportOptions(title, reps, seed, over, videos)))
    print(file)


@dataclass(frozen=True)
class ReportOptions:
    """Title, bootstrap replicates and seed, second agent of each pair (`over`), whether to record videos."""

    title: str = ""
    reps: int = 50_000
    seed: int = 0
    over: str = ""
    videos: bool = False


def write_report(choice: Choice, file: Path, options: ReportOptions) -> list[str]:
    """Write the page; returns remarks on it. Raises UserError if there is nothing to show."""
    from analysis.report.gate import stored
    from analysis.report.page import Inputs, to_html
    from analysis.statistics.comparison import comparisons
    from analysis.statistics.summary import Bootstrap, compared_with
    from results.files import write_bytes

    if file.suffix not in (".html", ".htm"):
        raise UserError(f"the report is a page: give a name that ends in .html, not {str(file)!r}")
    frame, records, left_out = _read(choice)
    videos, remarks = ([], []) if choice.scores else _videos(choice, frame, record=options.videos)
    try:
        ranges = score_ranges(frame, choice.score_ranges)
        found = comparisons(frame, ranges, env_steps=choice.env_steps, score=choice.score)
        page = to_html(
            Inputs(
                title=options.title or f"covr-bench: {choice.scores or choice.out}",
                frame=frame,
                comparisons=compared_with(found, options.over),
                bootstrap=Bootstrap(reps=options.reps, seed=options.seed),
                over=options.over,
                env_steps=choice.env_steps,
                score=choice.score,
                records=records,
                runs=_run_commands(records),
                analyses=_analyses(choice, options),
                tasks=expected_tasks(choice, frame),
                videos=videos,
                gate=None if choice.scores else stored(choice.out / "gate"),
                remarks=left_out,
            )
        )
    except ValueError as error:  # an unknown --over, a score range or a gate's file that is none
        raise UserError(str(error)) from error
    with writing(file.parent):
        write_bytes(file, page.encode())
    return remarks


def _read(choice: Choice) -> tuple[pd.DataFrame, dict[str, Any], tuple[str, ...]]:
    """The chosen rows, their runs' records, and what is told of input that is left out."""
    from results import provenance

    left_out: list[str] = []

    def tell(remarks: Iterable[str]) -> None:
        left_out.extend(texts := tuple(remarks))
        warn(texts)

    with _kept(left_out):
        frame = frame_of(choice, tell=tell)
        records = {} if choice.scores else _chosen(provenance.statuses(choice.out), frame, choice)
    return frame, records, tuple(dict.fromkeys(left_out))


@contextmanager
def _kept(notes: list[str]) -> Iterator[None]:
    """Keep what the store warns of, too; it is shown as it would be without."""
    from results.layout import StoreWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", StoreWarning)  # also what this process was told before
        show = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, StoreWarning):
                notes.append(str(message))
            show(message, category, *where, **more)

        warnings.showwarning = keep
        yield


def _chosen(records: Mapping[str, Any], frame: pd.DataFrame, choice: Choice) -> dict[str, Any]:
    """Records of the runs asked for, also of those without rows."""
    measured = set(frame["run_id"].astype(str).unique())
    return {run: record for run, record in records.items() if run in measured or is_chosen(choice, run)}


def _run_commands(records: Mapping[str, Any]) -> list[Command]:
    from analysis.report.page import Command

    found = sorted(reproduce.commands(records), key=lambda each: not each.text)  # the unknown last
    return [Command(each.text, each.run_ids) for each in found]


def _analyses(choice: Choice, options: ReportOptions) -> list[Command]:
    """The commands that print the page's tables and make its figures."""
    from analysis.report.page import Command

    rows = ["--scores", str(choice.scores)] if choice.scores else ["--out", str(choice.out)]
    rows += ["--suite", choice.suite] if choice.suite else []
    rows += [word for task in choice.tasks for word in ("--task", task)]
    rows += [word for agent in choice.agents for word in ("--agent", agent)]
    rows += ["--env-steps", str(choice.env_steps)] if choice.env_steps is not None else []
    scored = ["--score", choice.score] if choice.score != "last" else []
    drawn = [word for text in choice.score_ranges for word in ("--score-range", text)]
    drawn += ["--over", options.over] if options.over else []
    drawn += ["--reps", str(options.reps), "--seed", str(options.seed)]
    figures = "aggregate, profile, improvement" + ("" if scored else ", curves, rounds")
    commands = {
        "Returns": ["table", *rows, *scored],
        "Beside a paper (T1 ... T5, hard, vlm, drqv2), and the VLM by round (rounds)": [
            "table",
            *rows,
            "--paper",
            "T4",
        ],
        "Statistics": ["stats", *rows, *scored, *drawn],
        f"Figures ({figures})": ["plot", *rows, *scored, *drawn, "--kind", "aggregate"],
    }
    return [Command(shlex.join(["covr-bench", *words]), outcome=outcome) for outcome, words in commands.items()]


def _videos(choice: Choice, frame: pd.DataFrame, *, record: bool) -> tuple[list[Video], list[str]]:
    """Example episodes of each agent and task, as many as fit, and remarks on what was left out.

    A stored episode is `example.mp4` in a run's folder. record: make one if there is none.
    """
    from analysis.report.page import Video
    from results.store import RowKind, run_folder

    finished = frame[frame["kind"] == RowKind.END.value].drop_duplicates("run_id").sort_values("seed")
    groups = [
        [run_folder(choice.out, str(run_id)) for run_id in runs["run_id"]]
        for _, runs in finished.groupby(["suite", "budget", "task", "agent", "variant"], observed=True, sort=True)
    ]
    size = LARGE if len(groups) * LARGE_BYTES <= VIDEO_BYTES else SMALL
    videos: list[Video] = []
    remarks: list[str] = []
    room = VIDEO_BYTES
    for folders in groups:
        folder, data = _episode(folders, size, remarks, record=record)
        run_id = folder.relative_to(choice.out / "runs").as_posix()
        if len(data) > room:
            remarks.append(f"no room for the video of {run_id} ({len(data) / 1e6:.1f} MB)")
        elif data:
            videos.append(Video(run_id, data))
            room -= len(data)
    return videos, remarks


def _episode(folders: Sequence[Path], size: int, remarks: list[str], *, record: bool) -> tuple[Path, bytes]:
    """A run and its stored episode, else the first run and a recorded one; empty if there is none."""
    from results import provenance
    from results.layout import PROVENANCE_FILE, StoreError

    for folder in folders:
        try:
            if (folder / EXAMPLE_FILE).is_file():
                return folder, (folder / EXAMPLE_FILE).read_bytes()
        except OSError as error:
            remarks.append(f"no video: cannot read {folder / EXAMPLE_FILE}: {error.strerror or error}")
    folder = folders[0]
    if not record:
        return folder, b""
    try:
        if "evaluated" not in provenance.read(folder / PROVENANCE_FILE)["config"]:
            return folder, _recorded(folder, size, remarks)
    except StoreError as error:
        remarks.append(f"no video: {error}")
    return folder, b""


def _recorded(folder: Path, size: int, remarks: list[str]) -> bytes:
    """An episode of the run's policy; empty, with a remark, if it can no longer be played."""
    from covr_bench.cli.record import example_episode

    try:
        return example_episode(folder, size)
    except UserError as error:
        remarks.append(f"no video: {error}")
        return b""
