"""`covr-bench track`: finished stores for TensorBoard, W&B, MLflow or Trackio."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from covr_bench.cli.options import console, path_argument, say
from covr_bench.cli.run import SetTrack, Track
from covr_bench.config.request import parse_pairs

Store = Annotated[Path, path_argument(help="Folder of the results.")]
Run = Annotated[list[str] | None, typer.Option(help="A run's id, a part of it or a pattern; repeatable. [all]")]


def track_command(
    store: Store = Path("results"), track: Track = None, set_track: SetTrack = None, run: Run = None
) -> None:
    """Tell trackers of runs that are in a store, as `run --track` does while they go on."""
    from covr_bench.remote.listing import chosen
    from covr_bench.track.late import tell
    from results.layout import recorded

    runs = chosen(recorded(store), run or (), str(store))
    told: Counter[str] = Counter()
    failed = 0
    for run_id, name, problem in tell(store, runs, track or (), parse_pairs(set_track or (), "--set-track")):
        told[name] += not problem
        failed += bool(problem)
        if problem:
            say(console(), f"{run_id} is not told to {name}: {problem}")
    for name, count in told.items():
        say(console(), f"{name}: {count} of {len(runs)} runs told")
    raise typer.Exit(int(failed > 0))
