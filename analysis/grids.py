"""A titled grid of text, as Markdown, as LaTeX or in the terminal."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, Group
    from rich.table import Table

_ONE_COLUMN = 5  # columns of a table that fits one column of a page
_FRAME = 3  # letters that a column's border and padding take
_LONG_WORD = 16  # letters that need no break
_SIGNS = r"/@=,.:_+-"
_DEVIATION = re.compile(r"(-?\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)(.*)")
_FITTING = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
MARK = "†"  # marks a cell that a note concerns
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "†": r"$^\dagger$",
    "|": r"\textbar{}",
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Header and rows of the same width.

    Attributes:
        title, caption: Text above and below the rows.
        header, rows: The cells.
        notes: What a reader must know of cells that end in MARK.
        text_columns: How many columns at the left hold names; the others hold numbers.
        bold: Row and column of the cells in bold.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1
    bold: frozenset[tuple[int, int]] = frozenset()


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV that a spreadsheet opens without running anything.

    A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula: names that do get a `'` before them,
    numbers stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_harmless("" if cell is None else str(cell)) for cell in row] for row in rows)
    return text.getvalue()


def unguarded(text: str) -> str:
    """A name of CSV as it was before `to_csv` put a `'` before it."""
    return text[1:] if text[:1] == "'" and _harmless(text[1:]) == text else text


def _harmless(text: str) -> str:
    if len(text) < 2 or text[0] not in "=+-@\t\r":
        return text if unguarded(text) == text else f"'{text}"  # what has its own is told apart from what gets one
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def to_markdown(grids: Sequence[Grid]) -> str:
    """The grids as GitHub Markdown."""
    parts = []
    for grid in grids:
        header, *rows = [[_markdown(text) for text in row] for row in (grid.header, *grid.rows)]
        for row, column in grid.bold:
            rows[row][column] = f"**{rows[row][column]}**"
        rule = "|---" * grid.text_columns + "|---:" * (len(header) - grid.text_columns) + "|"
        lines = [f"### {_markdown(grid.title)}", "", _markdown(grid.caption), "", _piped(header), rule]
        lines += map(_piped, rows)
        if grid.notes:
            lines += ["", f"{MARK} Read with care:", "", *(f"- {_markdown(note)}" for note in grid.notes)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_latex(grids: Sequence[Grid], *, siunitx: bool = False) -> str:
    """The grids as LaTeX, a `table` each, over both columns of a page if it has more than five columns.

    The document needs `\\usepackage{booktabs,graphicx}`. A grid wider than the text is scaled down to it.

    Args:
        grids: The tables.
        siunitx: Whether means with deviations are set by the package siunitx, which the document then needs too.
    """
    parts = []
    for number, grid in enumerate(grids, start=1):
        columns = "l" * grid.text_columns + "r" * (len(grid.header) - grid.text_columns)
        place = "table*" if len(grid.header) > _ONE_COLUMN else "table"
        cells = [[_latex_cell(text, siunitx) for text in row] for row in (grid.header, *grid.rows)]
        for row, column in grid.bold:
            cells[row + 1][column] = rf"\textbf{{{cells[row + 1][column]}}}"
        header, *rows = [" & ".join(row) + r" \\" for row in cells]
        lines = [rf"\begin{{{place}}}", r"\centering\footnotesize", r"\setlength{\emergencystretch}{3em}"]
        lines += [rf"\caption{{{_latex(f'{grid.title}. {grid.caption}', breakable=True)}}}"]
        lines += [rf"\label{{tab:{number}-{_slug(grid.title)}}}", _FITTING, rf"\begin{{tabular}}{{{columns}}}"]
        lines += [r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}}"]
        if grid.notes:
            notes = _latex("; ".join(grid.notes), breakable=True)
            lines += ["", rf"{{\raggedright {_latex(MARK)} {notes}.\par}}"]
        parts.append("\n".join([*lines, rf"\end{{{place}}}", ""]))
    return "\n".join(parts)


def to_html(grids: Sequence[Grid]) -> str:
    """The grids as HTML tables, without a page around them."""
    parts = []
    for grid in grids:
        rows = [
            "".join(
                f"<td>{f'<strong>{escape(text)}</strong>' if (row, column) in grid.bold else escape(text)}</td>"
                for column, text in enumerate(cells)
            )
            for row, cells in enumerate(grid.rows)
        ]
        header = "".join(f'<th scope="col">{escape(text)}</th>' for text in grid.header)
        lines = ["<table>", f"<caption>{escape(f'{grid.title}. {grid.caption}')}</caption>"]
        lines += [f"<thead><tr>{header}</tr></thead>", "<tbody>", *(f"<tr>{row}</tr>" for row in rows), "</tbody>"]
        lines += ["</table>"]
        if grid.notes:
            lines += ["<ul>", *(f"<li>{MARK} {escape(note)}</li>" for note in grid.notes), "</ul>"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_terminal(grids: Sequence[Grid]) -> Group:
    """The grids for rich to print."""
    from rich.console import Group
    from rich.text import Text

    parts: list[_Fitted | Text] = []
    for grid in grids:
        parts += [Text(grid.title, style="bold"), _Fitted(grid), Text(grid.caption)]
        parts += [*(Text(f"{MARK} {note}", style="yellow") for note in grid.notes), Text("")]
    return Group(*parts)


@dataclass(frozen=True)
class _Fitted:
    """A grid in as many tables, one below the other, as the terminal's width asks for: no number is broken."""

    grid: Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        from rich.cells import cell_len

        count = self.grid.text_columns
        columns = list(zip(self.grid.header, *self.grid.rows, strict=True))
        names = sum(max(map(cell_len, texts)) + _FRAME for texts in columns[:count])
        room = options.max_width - min(names, options.max_width // 2) - 1
        block: dict[int, int] = {}  # least widths: a header may be broken between its words
        for index, (header, *cells) in enumerate(columns[count:], start=count):
            width = min(max(map(cell_len, (*header.split(), *cells)), default=0) + _FRAME, room)
            if block and sum(block.values()) + width > room:
                yield self._table(block, room)
                block = {}
            block[index] = width
        yield self._table(block, room)

    def _table(self, block: Mapping[int, int], room: int) -> Table:
        """The columns of text, and those of a block in their least widths if they have no room for more."""
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        tight = sum(max(width, cell_len(self.grid.header[index]) + _FRAME) for index, width in block.items()) > room
        shown, columns = Table(), [*range(self.grid.text_columns), *block]
        for index in columns:
            justify: Literal["left", "right"] = "right" if index in block else "left"
            width = max(block[index] - _FRAME, 1) if tight and index in block else None
            shown.add_column(Text(self.grid.header[index]), justify=justify, overflow="fold", width=width)
        for number, row in enumerate(self.grid.rows):
            shown.add_row(*(Text(row[index], "bold" if (number, index) in self.grid.bold else "") for index in columns))
        return shown


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _latex(text: str, *, breakable: bool = False) -> str:
    """Text for LaTeX. breakable: Long words, such as names of variants, may break after a sign."""
    if breakable:
        return " ".join(map(_breakable, text.split(" ")))
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def _breakable(word: str) -> str:
    if len(word) <= _LONG_WORD:
        return _latex(word)
    parts = re.findall(rf"[^{_SIGNS}]{{1,{_LONG_WORD}}}[{_SIGNS}]?|[{_SIGNS}]", word)
    return r"\allowbreak{}".join(map(_latex, parts))


def _latex_cell(text: str, siunitx: bool) -> str:
    found = _DEVIATION.fullmatch(text) if siunitx else None
    return rf"\num{{{found[1]} +- {found[2]}}}{_latex(found[3])}" if found else _latex(text)


def _slug(text: str) -> str:
    """A title as part of a label: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
