"""The gate's page: the verdicts, and each signal's band over the reference's seeds with the new runs in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.figures.signals import bands
from analysis.gate.behaviour import distances
from analysis.gate.output import QUESTIONS, summary
from analysis.grids import Grid
from analysis.report.drawings import inline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from analysis.gate.verdicts import Line

MOST_PANELS = 24  # of an agent on a task
_HERE = Path(__file__).parent


def gate_page(
    lines: Sequence[Line],
    tables: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    *,
    against: str,
    allow_change: bool,
) -> str:
    """The page as HTML that loads nothing.

    Args:
        lines: The verdicts.
        tables: By agent, the signals of the reference and of the new side, where they were asked for.
        against: What the reference is called.
        allow_change: Whether a change passes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    measured = [line for line in lines if line.agent in tables]
    figures = [_figure(line, *tables[line.agent], number=i) for i, line in enumerate(measured, start=1)]
    return environment.get_template("gate.html.j2").render(
        title=f"Gate against {against}",
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        summary=summary(lines, allow_change=allow_change),
        lines=lines,
        questions=QUESTIONS,
        figures=figures,
    )


def stored(folder: Path) -> Grid | None:
    """The verdicts of the newest gate in a folder; None if there is none. Raises ValueError for a file of another kind.

    folder: With `gate.json`, as `covr-bench gate --out` names it.
    """
    file = folder / "gate.json"
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        rows = [(each["agent"], each["task"], each["verdict"], each["sentence"]) for each in record["lines"]]
        title = f"Against {record['against']}: exit code {record['exit_code']}"
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no gate's: {error!r}; remove it, or run covr-bench gate again") from error
    caption = "Verdicts of the newest gate; gate.html beside gate.json shows the signals."
    return Grid(title, caption, ("agent", "task", "verdict", "why"), tuple(rows), (), 4)


def _figure(line: Line, reference: pd.DataFrame, new: pd.DataFrame, *, number: int) -> dict[str, Any]:
    """Of an agent on a task: what moved comes first, then what is farthest from the reference."""
    old, ours = (table[table["task"] == line.task].dropna(axis=1, how="all") for table in (reference, new))
    far = [each.signal for each in distances(old, ours, at_least=0.0)]
    names = list(dict.fromkeys([*(each.signal for each in line.moved), *far]))
    shown = names[:MOST_PANELS]
    title = f"{line.agent} on {line.task}"
    picture = io.BytesIO()
    bands(old, ours, shown, picture)
    drawing = inline(picture.getvalue().decode(), f"figure{number}", f"Signals of {title}")
    moved = [each.text() for each in line.moved]
    return {"title": title, "moved": moved, "drawing": drawing, "left_out": len(names) - len(shown)}
