"""How any tokenizer spells an answer: for each number the tokens of all 202 forms it can take.

`template.Template` is the case where each digit is one token at its own place. Here digits may be glued to each other
or to what stands around them: all that is asked is that a number's tokens do not depend on the other numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from covr.vlm.grammar import format_action, parse
from covr.vlm.template import CHOICES
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

DIGITS = torch.tensor(
    [c for c in itertools.product(*(range(len(x)) for x in CHOICES)) if c[1] == 0 or c[2] == c[3] == 0]
)
FORMS = [
    "{}{}.{}{}".format(*(x[i] for x, i in zip(CHOICES, c, strict=True))) for c in DIGITS.tolist()
]  # +0.00, ..., -1.00
ZERO = FORMS[0]
TRIALS = 16  # answers that are spelled whole, to see whether numbers leave each other alone


class Level(NamedTuple):
    """A place among a number's tokens where there is something to choose.

    tokens: int64 `(k,)`, all that stand there. beginnings: the tokens up to here, of each group of forms that begin
    alike. group, option: int64 `(202,)`, of each form its group and its token's index, -1 for one that is shorter.
    allowed: bool `(groups, k)`.
    """

    place: int
    tokens: torch.Tensor
    beginnings: tuple[tuple[int, ...], ...]
    group: torch.Tensor
    option: torch.Tensor
    allowed: torch.Tensor


@dataclass(frozen=True)
class Spelled:
    """One number of an answer.

    lead: the tokens between the number before and this one. rows: of each of `FORMS` its tokens, int64 `(202, T)`, -1
    after its last.
    """

    lead: tuple[int, ...]
    rows: torch.Tensor

    @property
    def even(self) -> bool:
        """Whether all forms have the same number of tokens."""
        return bool((self.rows >= 0).all())

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        found = (_level(self.rows, place) for place in range(self.rows.shape[1]))
        return tuple(level for level in found if (level.allowed.sum(1) > 1).any())

    @cached_property
    def ways(self) -> tuple[tuple[int, ...], ...]:
        """Beginnings after which every choice can be read, none of which begins another."""
        every = {beginning for level in self.levels for beginning in level.beginnings}
        return tuple(sorted(b for b in every if not any(o != b and o[: len(b)] == b for o in every)))

    def way_of(self, beginning: tuple[int, ...]) -> int:
        """The first of `ways` that goes on from a beginning."""
        return next(i for i, way in enumerate(self.ways) if way[: len(beginning)] == beginning)


def _level(rows: torch.Tensor, place: int) -> Level:
    here = rows[:, place]
    tokens = torch.unique(here[here >= 0])
    keys = [tuple(row[:place]) if row[place] >= 0 else None for row in rows.tolist()]
    beginnings = tuple(dict.fromkeys(key for key in keys if key is not None))
    group = torch.tensor([-1 if key is None else beginnings.index(key) for key in keys])
    option = torch.where(here >= 0, torch.searchsorted(tokens, here.clamp_min(0)), -1)
    allowed = torch.zeros(len(beginnings), len(tokens), dtype=torch.bool)
    allowed[group[group >= 0], option[group >= 0]] = True
    return Level(place, tokens, beginnings, group, option, allowed)


@dataclass(frozen=True)
class Spelling:
    """The answers of one action dimension. tail: the tokens after the last number."""

    numbers: tuple[Spelled, ...]
    tail: tuple[int, ...]

    @property
    def even(self) -> bool:
        return all(number.even for number in self.numbers)

    @classmethod
    def of(cls, tokenizer: Any, action_dim: int) -> Spelling:
        """Raises UserError if this tokenizer's answers cannot be told apart number by number."""
        encode = _encoder(tokenizer)
        (base,) = encode([[ZERO] * action_dim])
        numbers, end = [], 0
        for d in range(action_dim):
            rows = encode([[ZERO] * d + [form] + [ZERO] * (action_dim - 1 - d) for form in FORMS])
            start, after = _varying(rows)
            if start < end:
                raise _unfit("glues a number to the one before it")
            numbers.append(_spelled(base[end:start], [row[start : len(row) - after] for row in rows]))
            end = len(base) - after
        spelling = cls(tuple(numbers), tuple(base[end:]))
        _check(spelling, encode, action_dim)
        return spelling

    def choices_of(self, actions: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Which of `FORMS` states each number of actions `(N, A)`. Raises ValueError as format_action."""
        index = {form: i for i, form in enumerate(FORMS)}
        texts = [format_action(action)[len("Action: [") : -1].split(", ") for action in actions]
        return np.array([[index[number] for number in numbers] for numbers in texts], np.int64)

    def tokens(self, forms: Sequence[int]) -> list[int]:
        """Of the answer whose numbers are these of `FORMS`."""
        written: list[int] = []
        for number, form in zip(self.numbers, forms, strict=True):
            row = number.rows[form]
            written += [*number.lead, *row[row >= 0].tolist()]
        return written + list(self.tail)

    def answer_ids(self, actions: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The tokens of the answers that state actions `(N, A)`, int64 `(N, T)`, -100 after the last of a shorter one.
        Raises ValueError as format_action."""
        written = [self.tokens(forms) for forms in self.choices_of(actions)]
        rows = np.full((len(written), max(map(len, written))), -100, np.int64)
        for row, tokens in zip(rows, written, strict=True):
            row[: len(tokens)] = tokens
        return rows


def forms_of(digits: torch.Tensor) -> torch.Tensor:
    """Which of `FORMS` has digits int64 `(..., 4)`, as indices into `CHOICES`."""
    index = torch.full([len(c) for c in CHOICES], -1)
    index[tuple(DIGITS.T)] = torch.arange(len(DIGITS))
    return index[tuple(digits.cpu().unbind(-1))]


def _encoder(tokenizer: Any) -> Any:
    def encode(answers: Sequence[Sequence[str]]) -> list[list[int]]:
        texts = [f"Action: [{', '.join(numbers)}]" for numbers in answers]
        return [list(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids]

    return encode


def _varying(rows: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many tokens all rows begin with, and how many they end on, so that none of the rest begins another."""
    shortest = min(map(len, rows))
    start = next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)
    after = 0
    while after < shortest - start and len({row[-1 - after] for row in rows}) == 1:
        after += 1
    while after and _one_begins_another([tuple(row[start : len(row) - after]) for row in rows]):
        after -= 1
    return start, after


def _one_begins_another(rows: Sequence[tuple[int, ...]]) -> bool:
    ordered = sorted(rows)
    return any(longer[: len(shorter)] == shorter for shorter, longer in itertools.pairwise(ordered))


def _spelled(lead: Sequence[int], rows: Sequence[Sequence[int]]) -> Spelled:
    if _one_begins_another([tuple(row) for row in rows]):
        raise _unfit("spells two numbers alike")
    length = max(map(len, rows))
    return Spelled(tuple(lead), torch.tensor([[*row, *[-1] * (length - len(row))] for row in rows]))


def _check(spelling: Spelling, encode: Any, action_dim: int) -> None:
    draws = np.random.default_rng(0).integers(0, len(FORMS), (TRIALS, action_dim)).tolist()
    whole = encode([[FORMS[form] for form in forms] for forms in draws])
    if [spelling.tokens(forms) for forms in draws] != whole:
        raise _unfit("cuts a number by the numbers beside it")


def _unfit(reason: str) -> UserError:
    return UserError(f"this model's tokenizer {reason}, so its answers have no fixed form; use decode mode 'generate'")


def check_writes(tokenizer: Any, action_dim: int) -> None:
    """Raises UserError if the tokenizer has no tokens for an answer, in any mode."""
    text = f"Action: [{', '.join([ZERO] * action_dim)}]"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if parse(tokenizer.decode(ids, clean_up_tokenization_spaces=False), action_dim).status != "ok":
        raise UserError(f"the model's tokenizer cannot write an answer such as {text!r}")
