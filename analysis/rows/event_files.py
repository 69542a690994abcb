"""TensorBoard's event files: the points of one scalar, and whether a file could be read to its end."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from analysis.rows.lines import ScoresError, ScoresWarning

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FRAME = 16  # bytes of an event's length and checksums


def event_points(path: Path, stated: str | None, usual: Sequence[str]) -> tuple[str, list[tuple[int, float]]]:
    """A scalar's tag, and step and value of each of its events, as far as the file can be read; the rest is warned of.

    Args:
        path: The file.
        stated: The scalar's tag; the first of `usual` that is there, if None, and of which others it was is warned of.
        usual: Tags of returns.

    Raises:
        ScoresError: The package is missing, or there is no such tag.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        mend = "pip install 'covr-bench[tensorboard]', or export the chart as CSV"
        raise ScoresError(f"{path} is an event file: {mend}") from None
    _check_whole(path)
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
        return tag, [(event.step, event.value) for event in events.Scalars(tag)]
    return tag, [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]


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
