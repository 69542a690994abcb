"""What the gate says of an agent on a task: a verdict, a sentence, and whether that passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analysis.gate.returns import Answer
from results.states import TextEnum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.gate.behaviour import Behaviour, Moved
    from analysis.gate.returns import Returns


class Verdict(TextEnum):
    """docs/gate.md says what each means."""

    IDENTICAL = "identical"
    SAME = "same"
    CHANGED = "changed"
    WORSE = "worse"
    BROKEN = "broken"
    UNDECIDED = "undecided"


EXIT_CODES = {
    Verdict.BROKEN: 4,
    Verdict.WORSE: 1,
    Verdict.CHANGED: 3,
    Verdict.UNDECIDED: 5,
    Verdict.SAME: 0,
    Verdict.IDENTICAL: 0,
}
"""By verdict, the gravest first."""


@dataclass(frozen=True)
class Line:
    """One agent on one task.

    Attributes:
        agent, task: By name.
        verdict: What may be concluded.
        sentence: Why, in plain words.
        question: Which question settled it: 1 same code, 2 same mathematics, 3 same behaviour, 4 worse.
        seconds: From the start of the gate until this was settled.
        moved: Signals that moved, the farthest first.
    """

    agent: str
    task: str
    verdict: Verdict
    sentence: str
    question: int
    seconds: float = 0.0
    moved: tuple[Moved, ...] = field(default=())


def exit_code(lines: Sequence[Line], *, allow_change: bool = False) -> int:
    """Of the whole command: that of the gravest verdict; 4 if nothing was judged.

    allow_change: `changed` passes.
    """
    verdicts = {line.verdict for line in lines}
    for verdict, code in EXIT_CODES.items():
        if verdict in verdicts and not (allow_change and verdict is Verdict.CHANGED):
            return code
    return 0 if lines else EXIT_CODES[Verdict.BROKEN]


def judged(
    agent: str, task: str, mathematics: str, behaviour: Behaviour | None, returns: Returns | None, *, allow_change: bool
) -> Line:
    """The verdict on an agent whose mathematics is not shown to be the same.

    Args:
        agent, task: By name.
        mathematics: How it differs, in a sentence; empty if it could not be compared.
        behaviour: Of all tasks together; None if there was no time for it.
        returns: On the task; None if they were not asked about.
        allow_change: Whether a change passes that is not worse: then it must be shown not to be.
    """
    moved = tuple(each for each in behaviour.moved if each.task == task) if behaviour else ()
    clauses = [mathematics] if mathematics else []
    if behaviour is None:
        clauses.append("there was no time for runs that would show its behaviour")
    elif broken := [each for each in behaviour.broken if each.startswith(f"{task}: ")]:
        text = f"not a finite number: {', '.join(broken)}"
        return Line(agent, task, Verdict.BROKEN, "; ".join([text, *clauses]), 3)
    else:
        clauses.append(_of_behaviour(behaviour, moved))
    if returns is not None:
        clauses.append(returns.text())
    verdict, question = _verdict(mathematics, behaviour, bool(moved), returns, allow_change)
    return Line(agent, task, verdict, "; ".join(clauses), question, moved=moved)


def _verdict(
    mathematics: str, behaviour: Behaviour | None, moved: bool, returns: Returns | None, allow_change: bool
) -> tuple[Verdict, int]:
    if returns is not None and returns.answer is Answer.WORSE:
        return Verdict.WORSE, 4
    if mathematics or moved:
        shown = not allow_change or (returns is not None and returns.answer is Answer.NOT_WORSE)
        return (Verdict.CHANGED if shown else Verdict.UNDECIDED), 2 if mathematics else 3
    if behaviour is None or not behaviour.visible > 0:
        return Verdict.UNDECIDED, 3
    return Verdict.SAME, 3


def _of_behaviour(behaviour: Behaviour, moved: Sequence[Moved]) -> str:
    if moved:
        rest = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
        return f"behaviour differs: {moved[0].text()}{rest}"
    if not behaviour.visible > 0:
        return "too few seeds to tell any behaviour from another"
    return f"no signal moved; one that moves by {behaviour.visible:.2g} deviations of the reference would show"
