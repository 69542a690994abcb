r"""Draws `recording.svg`: a command as it ran, its lines appearing when they were printed, in at most thirty seconds.

python docs/recording.py -o docs/recording.svg -- covr-bench run --suite catch --task catch --budget smoke --agent drqv2
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

ROWS, COLUMNS = 24, 100
LINE, CHARACTER, MARGIN = 18, 8.43, 14  # pixels
LONGEST_S, HOLD_S = 30.0, 4.0
INK, GROUND, PROMPT = "#e6e6e6", "#1b1f24", "#7ee787"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def record(command: list[str]) -> list[tuple[float, str]]:
    """Lines with the seconds after which they came; long ones are folded."""
    began, lines = time.monotonic(), []
    environ = os.environ | {"COLUMNS": str(COLUMNS), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = CONTROL.sub("", line).rstrip()
            pieces = [text[i : i + COLUMNS] for i in range(0, len(text), COLUMNS)] or [""]
            lines += [(time.monotonic() - began, piece) for piece in pieces]
    if process.returncode:
        raise SystemExit(f"the command failed with {process.returncode}; its last line: {lines[-1][1]}")
    return lines


def drawn(command: str, lines: list[tuple[float, str]]) -> str:
    """The SVG. Time passes faster where the command took longer than LONGEST_S."""
    pace = min(1.0, LONGEST_S / max(lines[-1][0], 1e-9))
    whole = lines[-1][0] * pace + HOLD_S
    shown = [(0.0, f"$ {command}"), *((at * pace, text) for at, text in lines)]
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, ROWS * LINE + 2 * MARGIN
    texts = [_text(row, at / whole, text, whole) for row, (at, text) in enumerate(shown)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
            f"<title>{html.escape(command)}, {lines[-1][0]:.0f} s in {lines[-1][0] * pace:.0f} s</title>",
            f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
            f'<g font-family="monospace" font-size="14" fill="{INK}">',
            f"<g>{_scroll([at / whole for at, _ in shown], whole)}",
            *texts,
            "</g></g></svg>\n",
        ]
    )


def _text(row: int, share: float, text: str, whole: float) -> str:
    """A line that is not there before its share of the whole has passed."""
    ink = f' fill="{PROMPT}"' if row == 0 else ""
    place = f'x="{MARGIN}" y="{MARGIN + (row + 1) * LINE - 4}"'
    show = f'<animate attributeName="opacity" calcMode="discrete" dur="{whole:.2f}s" repeatCount="indefinite" '
    values = f'values="0;1" keyTimes="0;{share:.4f}"/>' if share else 'values="1" keyTimes="0"/>'
    shown = html.escape(text).replace(" ", "\u00a0")  # browsers join common spaces
    return f"<text {place}{ink}>{shown}{show}{values}</text>"


def _scroll(shares: list[float], whole: float) -> str:
    """Lines move up as soon as there are more than fit."""
    moves = [(share, -(row + 1 - ROWS) * LINE) for row, share in enumerate(shares) if row + 1 > ROWS]
    if not moves:
        return ""
    last = dict([(0.0, 0), *moves])  # of lines printed at once the last counts
    values = ";".join(f"0 {up}" for up in last.values())
    times = ";".join(f"{share:.4f}" for share in last)
    return (
        f'<animateTransform attributeName="transform" type="translate" calcMode="discrete" dur="{whole:.2f}s" '
        f'repeatCount="indefinite" values="{values}" keyTimes="{times}"/>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    options.output.write_text(drawn(shlex.join(options.command), record(options.command)), encoding="utf-8")


if __name__ == "__main__":
    main()
