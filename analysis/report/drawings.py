"""The figures of `analysis.figures` as inline SVG: with distinct ids, and colours that follow the page's theme."""

from __future__ import annotations

import io
import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from analysis.figures import style
from analysis.figures.statistics import aggregate, improvement, profile, rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.rows.vlm_rounds import Rounds
    from analysis.statistics.comparison import Comparison
    from analysis.statistics.summary import Bootstrap

MAX_NAME = 40  # letters of an agent's name in a figure; tables have the whole name
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_PAGE_COLOURS = {"#ffffff": "var(--page)", "#000000": "var(--ink)", "#262626": "var(--ink)", "#b0b0b0": "var(--rule)"}


class Drawings:
    """Draws the figures of one page, each with ids of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def of_comparison(self, comparison: Comparison, bootstrap: Bootstrap, over: str = "") -> list[tuple[str, Markup]]:
        """Title and drawing of aggregate scores, performance profiles and improvement, as far as there are numbers."""
        short = style.short_names(comparison.scores, MAX_NAME)
        shown = replace(
            comparison,
            scores={short[name]: scores for name, scores in comparison.scores.items()},
            evaluations=comparison.evaluations.assign(name=comparison.evaluations["name"].map(short)),
        )
        if not shown.complete_agents or not len(shown.evaluations):
            return []
        draws: dict[str, Callable[[io.BytesIO], None]] = {}
        if shown.aggregated_agents:
            draws["Aggregate scores"] = lambda picture: aggregate(shown, bootstrap, picture)
            draws["Performance profiles"] = lambda picture: profile(shown, bootstrap, picture)
        if len(shown.complete_agents) > 1 and (not over or over in comparison.complete_agents):
            second = short.get(over, "")
            draws["Probability of improvement"] = lambda picture: improvement(shown, bootstrap, picture, over=second)
        return [(name, self._draw(name, draw)) for name, draw in draws.items()]

    def of_rounds(self, vlm_rounds: Sequence[Rounds]) -> Markup:
        """The VLM by round. vlm_rounds: of one suite, budget and setting."""
        short = style.short_names(sorted({each.agent for each in vlm_rounds}), MAX_NAME)
        shown = [replace(each, agent=short[each.agent]) for each in vlm_rounds]
        return self._draw("The VLM by itself, by round", lambda picture: rounds(shown, picture))

    def _draw(self, name: str, draw: Callable[[io.BytesIO], None]) -> Markup:
        picture = io.BytesIO()
        draw(picture)
        return inline(picture.getvalue().decode(), f"figure{next(self._numbers)}", name)


def inline(svg: str, prefix: str, name: str) -> Markup:
    """An SVG file as an element of a page: with prefixed ids, without comments, metadata and its style sheet."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = ET.fromstring(svg)
    for parent in root.iter():
        for child in [child for child in parent if child.tag.rpartition("}")[2] in ("metadata", "style")]:
            parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{prefix}-{value}"
            elif key == f"{{{_XLINK}}}href" and value.startswith("#"):
                value = f"#{prefix}-{value[1:]}"
            value = value.replace("url(#", f"url(#{prefix}-")
            if key == "style":
                value = re.sub("#[0-9a-f]{6}", lambda found: _PAGE_COLOURS.get(found[0], found[0]), value)
            element.set(key, value)
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", name)
    root.set("style", f"width: {root.attrib.pop('width')}")  # at most that of the page: page.css
    root.attrib.pop("height")
    return Markup(ET.tostring(root, encoding="unicode"))
