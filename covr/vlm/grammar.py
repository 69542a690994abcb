"""The answer's grammar: `Action: [+0.01, -0.98]`, and nothing else.

    answer = "Action: [" number *(", " number) "]"
    number = ["+" / "-"] digits ["." 1*4 digit]     ASCII digits, no leading zeros, within [-1, 1]

Nothing is clipped, searched for inside other text or filled in: what is not an answer is counted by its reason.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

Status = Literal[
    "ok",  # an action
    "no_action_word",  # the word "Action:" does not occur
    "no_match",  # not an answer of the grammar
    "wrong_dim",  # an answer with too few or too many numbers
    "out_of_range",  # a number outside [-1, 1]
    "nonfinite",  # nan or inf in place of a number
    "truncated",  # the model was cut off before its answer was whole
    "no_answer",  # the model could not be asked: a server that is down
    "nonfinite_model",  # the model's own numbers are NaN or infinite: what it writes means nothing
]
STATUSES: tuple[Status, ...] = get_args(Status)
ANSWER_FORMAT = "Action: [+0.00, -0.00]"

_NUMBER = r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]{1,4})?|(?i:nan|inf(?:inity)?))"
_ANSWER = re.compile(rf"Action: \[({_NUMBER}(?:, {_NUMBER})*)\]", re.ASCII)


class Parsed(NamedTuple):
    """action: float32 `(A,)`, or None unless status is `ok`."""

    action: npt.NDArray[np.float32] | None
    status: Status


def parse(text: str, action_dim: int, *, finished: bool = True) -> Parsed:
    """The action a model's answer states. Never raises, whatever the text.

    The whole text must be one answer; white space around it is not counted against it.
    finished: whether the model ended its answer itself; if not, an answer that does not parse is `truncated`.
    """
    match = _ANSWER.fullmatch(text.strip(" \r\n\t"))
    if match is None:
        if not finished:
            return Parsed(None, "truncated")
        return Parsed(None, "no_match" if "Action:" in text else "no_action_word")
    numbers = match[1].split(", ")
    if len(numbers) != action_dim:
        return Parsed(None, "wrong_dim")
    if any("n" in number.lower() for number in numbers):  # nan, inf: no digit is spelled with an n
        return Parsed(None, "nonfinite")
    values = [float(number) for number in numbers]
    if any(abs(value) > 1 for value in values):
        return Parsed(None, "out_of_range")
    return Parsed(np.array([value or 0.0 for value in values], np.float32), "ok")  # `or`: -0.00 is 0


def format_action(action: npt.ArrayLike) -> str:
    """The answer that states an action, each number with its sign and two decimals; inverse of `parse` to 0.005.

    A number that rounds to zero is written +0.00. Raises ValueError for an action that is not `(A,)`, finite and
    within [-1, 1] to two decimals.
    """
    values = np.asarray(action, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"an action of shape {values.shape} is not (A,)")
    numbers = []
    for value in values.tolist():
        rounded = round(value, 2) if math.isfinite(value) else value
        if not abs(rounded) <= 1:
            raise ValueError(f"an action component is {value}; the answer format states numbers within [-1, 1]")
        numbers.append(f"{rounded + 0.0:+.2f}")  # + 0.0 turns -0.0 into 0.0
    return f"Action: [{', '.join(numbers)}]"


class AnswerCounts:
    """How many answers had each status. Every query is counted once, so the counts add up to the queries."""

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self.queries = 0
        for status, number in (counts or {}).items():
            self.add([status] * number)

    def add(self, statuses: Iterable[str]) -> None:
        """Raises ValueError for a status outside the closed set."""
        for status in statuses:
            if status not in STATUSES:
                raise ValueError(f"unknown answer status {status!r}; one of {STATUSES}")
            self._counts[status] += 1
            self.queries += 1

    def as_dict(self) -> dict[str, int]:
        """Every status with its count, zeros included; what the constructor takes."""
        return {status: self._counts[status] for status in STATUSES}

    @property
    def ok_rate(self) -> float:
        """Share of queries answered by an action; NaN before the first query."""
        return self._counts["ok"] / self.queries if self.queries else math.nan
