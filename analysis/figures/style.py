"""The style of all figures: sizes, colours and marks, distinct in greyscale print and to the colour-blind."""

from __future__ import annotations

import io
import math
import warnings
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any
from unicodedata import bidirectional, east_asian_width

from results.files import write_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    Floats = Sequence[float] | npt.NDArray[Any]
    Target = str | os.PathLike[str] | io.BytesIO  # a path whose suffix tells the format, or memory for an SVG

# Okabe and Ito (2008), without the yellow, which is invisible on white, and the black, which looks like an axis. Sky
# blue and orange are darkened until each colour has a contrast of 3:1 to a white and to a dark page (WCAG 2.2, 1.4.11).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#2F93CF", "#B87F00")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MARKS_PER_CURVE = 6
_EMBEDDED = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "covr-bench"}
_LOOK = {"font.size": 9.0, "axes.titlesize": 10.0, "figure.titlesize": 11.0, "legend.fontsize": 8.5}
PANEL_INCHES = (3.1, 2.4)
MOST_LETTERS = 60  # of a name in a figure
_TITLE_LETTER_INCHES = 0.083  # of a panel's title
_ENTRY_INCHES, _LETTER_INCHES = 1.05, 0.085  # of a legend's entry without its name, and of each letter
_MEAN_LETTER_INCHES, _MEASURED_DPI = 0.075, 100.0
_HEADING_INCHES = 0.095  # of a letter of a figure's title
_FALLBACKS = ("Noto Sans CJK JP", "IPAexGothic", "IPAGothic", "TakaoPGothic", "WenQuanYi Zen Hei", "Noto Sans Arabic")
_MISSING = "missing from font"  # in matplotlib's warning of each such letter
BAND_ALPHA = 0.18  # opacity of an interval around a curve
LEFT_TO_RIGHT = "\u200e"
Style = dict[str, Any]


class MissingLetters(UserWarning):
    """No installed font has some letters of a figure."""


def apart(name: str) -> str:
    """A name as it is set beside others: one of a right-to-left script would turn the whole line."""
    return f"{LEFT_TO_RIGHT}{name}{LEFT_TO_RIGHT}" if any(bidirectional(each) in ("R", "AL") for each in name) else name


@contextmanager
def look() -> Iterator[None]:
    """Apply matplotlib's defaults with our sizes, instead of the user's settings; fonts are embedded when saved."""
    from matplotlib import style

    with style.context(["default", _LOOK | _EMBEDDED | {"font.family": _families()}]):
        yield


@cache
def _families() -> list[str]:
    """matplotlib's own font, then those installed that have letters which it lacks."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


def save(figure: Figure, to: Target) -> None:
    """Save as PNG, PDF or SVG by the suffix, or SVG in memory; without a date, so the same numbers give the same file.

    A full disk leaves the old file, and no half of a new one.
    """
    picture = to if isinstance(to, io.BytesIO) else io.BytesIO()
    kind = "svg" if isinstance(to, io.BytesIO) else Path(to).suffix.lower().removeprefix(".")
    dated = {"pdf": "CreationDate", "svg": "Date"}.get(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(picture, format=kind, dpi=200, metadata={dated: None} if dated else None)
    others = [each for each in caught if _MISSING not in str(each.message)]
    for each in others:
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if len(others) < len(caught):
        warnings.warn(
            "some letters of names are in no installed font and are drawn as boxes. On Debian or Ubuntu: "
            "apt-get install fonts-noto-cjk fonts-noto-core",
            MissingLetters,
            stacklevel=2,
        )
    if not isinstance(to, io.BytesIO):
        write_bytes(to, picture.getvalue())


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Colour, dash and marker of each name: no two of 40 names share all three, and neighbours differ in each."""
    return {
        name: {
            "color": COLOURS[index % len(COLOURS)],
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

    axis.set_xlim(left=0, right=max(1, axis.get_xlim()[1]))  # there are no thousandths of a step
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
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


def title(axis: Axes, text: str, inches: float = PANEL_INCHES[0]) -> None:
    """Set a title literally: `$` starts no formula. inches: width of the panel."""
    axis.set_title(short(text, int(inches / _TITLE_LETTER_INCHES)), parse_math=False)


def heading(figure: Figure, text: str) -> None:
    """Set the title of a figure literally, in as many lines as it needs."""
    room = int(figure.get_figwidth() / _HEADING_INCHES)
    lines = [line for part in text.split("\n") for line in wrap(part, max(1, room * len(part) // letters(part or " ")))]
    figure.suptitle("\n".join(lines), parse_math=False)


def handles(known: Mapping[str, Style]) -> list[Line2D]:
    """Legend entries of the names."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], **style, linewidth=1.8, markersize=5, label=name) for name, style in known.items()]


def legend_lines(names: Sequence[str], width: float) -> int:
    """Number of lines of a legend below a figure. width: of the figure, in inches."""
    entry_inches = _ENTRY_INCHES + _LETTER_INCHES * max(map(letters, short_names(names, _most(width)).values()))
    return math.ceil(len(names) / max(1, int(width / entry_inches)))


def _most(width: float) -> int:
    """Letters of a name that a legend of this width in inches can show."""
    return max(8, min(MOST_LETTERS, int((width - _ENTRY_INCHES) / _LETTER_INCHES)))


@lru_cache(4096)
def letters(name: str) -> int:
    """Width of a name in mean letters: those of East Asia count twice, and wide ones, such as W, as they are drawn."""
    counted = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in name)
    return max(counted, math.ceil(_inches(name) / _MEAN_LETTER_INCHES))


def _inches(text: str) -> float:
    """Width of a text as matplotlib draws it beside rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    figure, font = Figure(dpi=_MEASURED_DPI), FontProperties(family=_families(), size=_LOOK["font.size"])
    drawn = figure.text(0, 0, text, fontproperties=font, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `save` warns of letters that are missing
        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        return float(drawn.get_window_extent(renderer).width) / _MEASURED_DPI


def legend(figure: Figure, entries: Sequence[Line2D], width: float) -> None:
    """Draw the legend below the figure, with names literally. width: of the figure, in inches."""
    every = [str(entry.get_label()) for entry in entries]
    names = list(short_names(every, _most(width)).values())
    for number, entry in enumerate(entries):
        entry.set_label(str(number))  # matplotlib leaves out names that begin with an underscore
    shown = figure.legend(
        handles=list(entries), loc="outside lower center", frameon=False, handlelength=3.5,
        ncols=math.ceil(len(names) / legend_lines(names, width)),
    )  # fmt: skip
    for text, name in zip(shown.get_texts(), names, strict=True):
        literal(text, name)


def short(name: str, most: int = MOST_LETTERS) -> str:
    """A name with an ellipsis in its middle if it is long: names of variants differ at their ends."""
    if letters(name) <= most:
        return name
    kept = min(most, len(name)) - 1
    while letters(shown := _middle_out(name, kept)) > most and kept > 2:
        kept -= max(1, (letters(shown) - most) // 3)
    return shown


def _middle_out(name: str, kept: int) -> str:
    head = kept // 2
    return f"{name[:head]}…{name[len(name) - (kept - head) :]}"


def short_names(names: Iterable[str], most: int = MOST_LETTERS) -> dict[str, str]:
    """Distinct names of at most `most` letters, by the whole ones."""
    found: dict[str, str] = {}
    for name in names:
        shown, number = short(name, most), 2
        while shown in found.values():
            shown = f"{short(name, most - 3)} #{number}" if number < 10 else f"{short(name, most - 5)} #{number}"
            number += 1
        found[name] = shown
    return found


def literal(text: Text, name: str) -> None:
    """Show a name without reading `$` as a formula."""
    text.set_parse_math(False)
    text.set_text(name)
