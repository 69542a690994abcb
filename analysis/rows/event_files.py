"""TensorBoard's event files: the points of one scalar, and whether the files could be read to their ends."""

from __future__ import annotations

import warnings
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from analysis.rows.lines import ScoresError, ScoresWarning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FRAME = 16  # bytes of an event's length and checksums


class Point(NamedTuple):
    """An event of a scalar; wall_time in Unix seconds."""

    step: int
    value: float
    wall_time: float


def event_points(files: Sequence[Path], stated: str | None, usual: Sequence[str]) -> tuple[str, list[Point]]:
    """A scalar's tag and its events, as far as the files can be read; the rest is warned of.

    A run that goes on begins another file. What TensorBoard drops of the one before (`purge_step`) is dropped.

    Args:
        files: Those of one folder.
        stated: The scalar's tag; the first of `usual` that is there, if None, and of which others it was is warned of.
        usual: Tags of returns.

    Raises:
        ScoresError: The package is missing, or there is no such tag.
    """
    path = files[0] if len(files) == 1 else files[0].parent
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        mend = "pip install 'covr-bench[tensorboard]', or export the chart as CSV"
        raise ScoresError(f"{path} is an event file: {mend}") from None
    for file in files:
        _check_whole(file)
    events = EventAccumulator(str(path), {"scalars": 0, "tensors": 0})
    events.Reload()
    tags = [*events.Tags()["scalars"], *events.Tags()["tensors"]]  # of torch's writer, and of TensorFlow's
    tag = next((each for each in ([stated] if stated else usual) if each in tags), None)
    if tag is None:
        raise ScoresError(
            f"{path}: which scalar is the return? --columns return=TAG; there are: {', '.join(sorted(tags)) or 'none'}"
        )
    if not stated and (others := [each for each in usual if each in tags and each != tag]):
        hint = f"taken as return is {tag!r}, and not {', '.join(others)}; --columns return=TAG takes another"
        warnings.warn(hint, ScoresWarning, stacklevel=2)
    if tag in events.Tags()["scalars"]:
        return tag, [Point(event.step, event.value, event.wall_time) for event in events.Scalars(tag)]
    tensors = [(event, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
    return tag, [Point(event.step, value, event.wall_time) for event, value in tensors]


def one_a_step(points: Sequence[Point], *, training: bool) -> dict[int, float]:
    """Step and value, in order; of several points at one step the mean of training episodes, else the newest.

    training: They are returns of training episodes, several of which end at one step where environments run side by
    side. Steps with several points are warned of.
    """
    by_step: dict[int, list[Point]] = {}
    for point in points:
        by_step.setdefault(point.step, []).append(point)
    if several := [step for step, each in by_step.items() if len(each) > 1]:
        counts = "their mean counts" if training else "the newest counts"
        warnings.warn(f"{len(several):,} steps have several points, first {several[0]:,}: {counts}", ScoresWarning, 2)
    if training:
        return {step: fmean(point.value for point in by_step[step]) for step in sorted(by_step)}
    return {step: max(by_step[step], key=lambda point: point.wall_time).value for step in sorted(by_step)}


def _check_whole(path: Path) -> None:
    """Warn of a file whose end cannot be read: TensorBoard passes over it without a word."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    sizes = [len(record) + _FRAME for record in RawEventFileLoader(str(path)).Load()]
    read, size = sum(sizes), path.stat().st_size
    if read < size:
        warnings.warn(
            f"{path} is cut or damaged, or still being written: {len(sizes):,} events are read, {read:,} of its "
            f"{size:,} bytes, and none of what follows",
            ScoresWarning,
            stacklevel=2,
        )
