"""The style of all figures: sizes, colours and marks, distinct in greyscale print and to the colour-blind."""

from __future__ import annotations

import io
import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.files import write_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    Floats = Sequence[float] | npt.NDArray[Any]
    Target = str | os.PathLike[str] | io.BytesIO  # a path whose suffix tells the format, or memory for an SVG

# Okabe and Ito (2008), without the yellow, which is invisible on white, and the black, which looks like an axis.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MARKS_PER_CURVE = 6
_EMBEDDED = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "covr-bench"}
_LOOK = {"font.size": 9.0, "axes.titlesize": 10.0, "figure.titlesize": 11.0, "legend.fontsize": 8.5}
PANEL_INCHES = (3.1, 2.4)
BAND_ALPHA = 0.18  # opacity of an interval around a curve
Style = dict[str, Any]


@contextmanager
def look() -> Iterator[None]:
    """Apply matplotlib's defaults with our sizes, instead of the user's settings; fonts are embedded when saved."""
    from matplotlib import style

    with style.context(["default", _LOOK | _EMBEDDED]):
        yield


def save(figure: Figure, to: Target) -> None:
    """Save as PNG, PDF or SVG by the suffix, or SVG in memory; without a date, so the same numbers give the same file.

    A full disk leaves the old file, and no half of a new one.
    """
    picture = to if isinstance(to, io.BytesIO) else io.BytesIO()
    kind = "svg" if isinstance(to, io.BytesIO) else Path(to).suffix.removeprefix(".")
    dated = {"pdf": "CreationDate", "svg": "Date"}.get(kind)
    figure.savefig(picture, format=kind, dpi=200, metadata={dated: None} if dated else None)
    if not isinstance(to, io.BytesIO):
        write_bytes(to, picture.getvalue())


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour, dash and marker of each name: no two of 40 names share all three, and neighbours differ in each."""
    return {
        name: {
            "color": _COLOURS[index % len(_COLOURS)],
            "linestyle": _DASHES[index % len(_DASHES)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        for index, name in enumerate(names)
    }


def curve(axis: Axes, x: Floats, y: Floats, style: Style, index: int = 0) -> None:
    """Draw a thick line with a few marks. index: of the curve on its axis, so that marks do not coincide."""
    every = max(1, math.ceil(len(x) / _MARKS_PER_CURVE))
    axis.plot(
        x, y, **style, linewidth=1.8, markersize=5, markeredgecolor="white", markeredgewidth=0.5,
        markevery=(index % every, every), zorder=3,
    )  # fmt: skip


def dress(axis: Axes, *, grid: str = "y") -> None:
    """Remove the box and draw a faint grid. grid: `x` or `y`."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis=grid, linewidth=0.4, alpha=0.5)  # type: ignore[arg-type]
    axis.set_axisbelow(True)


def steps_axis(axis: Axes, *, label: bool) -> None:
    """Format the x axis of environment steps: from 0, with ticks such as `20k`."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    if label:
        axis.set_xlabel("environment steps")


def returns_axis(axis: Axes) -> None:
    """Start the y axis at 0, unless returns are negative or far from it."""
    low, high = axis.get_ylim()
    if low < 0 <= axis.dataLim.y0 or 0 <= low < 0.5 * high:
        axis.set_ylim(bottom=0)
    if axis.dataLim.y0 == axis.dataLim.y1 == 0:
        axis.set_ylim(0, 1)  # only zeros: the axis would otherwise show their rounding


def title(axis: Axes, text: str) -> None:
    """Set a title literally: `$` starts no formula."""
    axis.set_title(text, parse_math=False)


def handles(known: Mapping[str, Style]) -> list[Line2D]:
    """Legend entries of the names."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], **style, linewidth=1.8, markersize=5, label=name) for name, style in known.items()]


def legend_lines(names: Sequence[str], width: float) -> int:
    """Number of lines of a legend below a figure. width: of the figure, in inches."""
    entry_inches = 1.05 + 0.085 * max(map(len, names))
    return math.ceil(len(names) / max(1, int(width / entry_inches)))


def legend(figure: Figure, entries: Sequence[Line2D], width: float) -> None:
    """Draw the legend below the figure, with names literally. width: of the figure, in inches."""
    names = [str(entry.get_label()) for entry in entries]
    for number, entry in enumerate(entries):
        entry.set_label(str(number))  # matplotlib leaves out names that begin with an underscore
    shown = figure.legend(
        handles=list(entries), loc="outside lower center", frameon=False, handlelength=3.5,
        ncols=math.ceil(len(names) / legend_lines(names, width)),
    )  # fmt: skip
    for text, name in zip(shown.get_texts(), names, strict=True):
        literal(text, name)


def literal(text: Text, name: str) -> None:
    """Show a name without reading `$` as a formula."""
    text.set_parse_math(False)
    text.set_text(name)
