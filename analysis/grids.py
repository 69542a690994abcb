"""A titled grid of text, as Markdown, as LaTeX or in the terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

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
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1


def to_markdown(grids: Sequence[Grid]) -> str:
    """The grids as GitHub Markdown."""
    parts = []
    for grid in grids:
        header, *rows = [[_markdown(text) for text in row] for row in (grid.header, *grid.rows)]
        rule = "|---" * grid.text_columns + "|---:" * (len(header) - grid.text_columns) + "|"
        lines = [f"### {_markdown(grid.title)}", "", _markdown(grid.caption), "", _piped(header), rule]
        lines += map(_piped, rows)
        if grid.notes:
            lines += ["", f"{MARK} Read with care:", "", *(f"- {_markdown(note)}" for note in grid.notes)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_latex(grids: Sequence[Grid]) -> str:
    """The grids as LaTeX, a `table` each; the document needs `\\usepackage{booktabs}`."""
    parts = []
    for grid in grids:
        columns = "l" * grid.text_columns + "r" * (len(grid.header) - grid.text_columns)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(f'{grid.title}. {grid.caption}')}}}"]
        lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(grid.header), r"\midrule"]
        lines += [*map(_latex_row, grid.rows), r"\bottomrule", r"\end{tabular}"]
        if grid.notes:
            lines += ["", rf"{{\footnotesize {_latex(MARK)} {_latex('; '.join(grid.notes))}.}}"]
        parts.append("\n".join([*lines, r"\end{table}", ""]))
    return "\n".join(parts)


def to_terminal(grids: Sequence[Grid]) -> Group:
    """The grids for rich to print."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Table | Text] = []
    for grid in grids:
        shown = Table()
        for index, name in enumerate(grid.header):
            justify = "left" if index < grid.text_columns else "right"
            shown.add_column(Text(name), justify=justify, overflow="fold")  # type: ignore[arg-type]
        for row in grid.rows:
            shown.add_row(*map(Text, row))
        parts += [Text(grid.title, style="bold"), shown, Text(grid.caption)]
        parts += [*(Text(f"{MARK} {note}", style="yellow") for note in grid.notes), Text("")]
    return Group(*parts)


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"
