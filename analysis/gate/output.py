"""The gate's verdicts for people and for other programs: Markdown, JUnit XML, JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from analysis.gate.verdicts import Line, Verdict, exit_code

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTIONS = {1: "same code?", 2: "same mathematics?", 3: "same behaviour?", 4: "worse?"}
_SHOWN = 5  # signals that moved, of one line
_ERRORS = (Verdict.BROKEN, Verdict.UNDECIDED)


def summary(lines: Sequence[Line], *, allow_change: bool) -> str:
    """In one line: how many of each verdict, and whether that passes."""
    counts = {verdict: sum(line.verdict is verdict for line in lines) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing was judged"
    code = exit_code(lines, allow_change=allow_change)
    return f"{told}: {'passes' if code == 0 else f'fails with exit code {code}'}"


def markdown(lines: Sequence[Line], *, against: str, allow_change: bool) -> str:
    """For the summary of a job."""
    rows = [
        f"| {line.agent} | {line.task} | **{line.verdict}** | {_cell(line.sentence)} | {QUESTIONS[line.question]} "
        f"| {line.seconds:.0f} |"
        for line in lines
    ]
    head = ["| agent | task | verdict | why | settled by | s |", "|---|---|---|---|---|---:|"]
    moved = [f"- {line.agent} on {line.task}: {_cell(each.text())}" for line in lines for each in line.moved[:_SHOWN]]
    signals = ["", "Signals that moved, the farthest first:", "", *moved] if moved else []
    title = f"Gate against {against}: {summary(lines, allow_change=allow_change)}"
    return "\n".join([f"### {title}", "", *head, *rows, *signals, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def as_json(lines: Sequence[Line], *, against: str, allow_change: bool) -> str:
    """Everything, for other programs."""
    record = {
        "against": against,
        "exit_code": exit_code(lines, allow_change=allow_change),
        "lines": [_line(line) for line in lines],
    }
    return json.dumps(record, indent=1) + "\n"


def _line(line: Line) -> dict[str, Any]:
    return {
        "agent": line.agent,
        "task": line.task,
        "verdict": str(line.verdict),
        "sentence": line.sentence,
        "question": QUESTIONS[line.question],
        "seconds": round(line.seconds, 1),
        "moved": [each._asdict() | {"deviations": str(each.deviations)} for each in line.moved],
    }


def junit(lines: Sequence[Line], *, allow_change: bool) -> str:
    """As JUnit XML: a test for each agent and task, in a suite for each agent."""
    root = ET.Element("testsuites", name="covr-bench gate")
    for agent in dict.fromkeys(line.agent for line in lines):
        mine = [line for line in lines if line.agent == agent]
        bad = [line for line in mine if exit_code([line], allow_change=allow_change)]
        errors = sum(line.verdict in _ERRORS for line in bad)
        counts = {"tests": str(len(mine)), "failures": str(len(bad) - errors), "errors": str(errors)}
        suite = ET.SubElement(root, "testsuite", {"name": agent, **counts})
        for line in mine:
            case = ET.SubElement(suite, "testcase", classname=agent, name=line.task, time=f"{line.seconds:.1f}")
            if line in bad:
                kind = "error" if line.verdict in _ERRORS else "failure"
                ET.SubElement(case, kind, message=str(line.verdict)).text = line.sentence
            else:
                ET.SubElement(case, "system-out").text = f"{line.verdict}: {line.sentence}"
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
