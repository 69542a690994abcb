"""Writing an answer number by number: fixed tokens are given, and at each choice only a number's own tokens count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from covr.vlm.decoding import drawn
from covr.vlm.families.spelling import FORMS
from covr.vlm.tree import mass_of

if TYPE_CHECKING:
    from covr.vlm.families.spelling import Level, Spelled
    from covr.vlm.families.turn import Turn


class Walk:
    """A batch of answers on their way.

    masses: of each choice so far, the probability `(B,)` that the model gives to all that is allowed there. log_prob:
    of what was chosen, each among the allowed, `(B,)`.
    """

    def __init__(self, turn: Turn, batch: int) -> None:
        self.turn, self.batch = turn, batch
        self.pending: list[torch.Tensor] = []  # tokens that the model has not been given yet
        self.last = turn.last
        self.masses: list[torch.Tensor] = []
        self.log_prob = torch.zeros(batch, device=self.last.device)

    def skip(self, tokens: tuple[int, ...]) -> None:
        """Fixed tokens."""
        if tokens:
            self.pending.append(torch.tensor([tokens]).expand(self.batch, -1))

    def logits(self) -> torch.Tensor:
        """Of the next token, float32 `(B, vocabulary)`."""
        if self.pending:
            self.last = self.turn.write(torch.cat(self.pending, 1))[:, -1]
            self.pending = []
        return self.last

    def number(self, number: Spelled, draw: bool) -> torch.Tensor:
        """Choose one number; which of `FORMS` it is, int64 `(B,)`."""
        alive = torch.ones(self.batch, len(FORMS), dtype=torch.bool)
        levels = {level.place: level for level in number.levels}
        for place in range(number.rows.shape[1]):
            form = alive.int().argmax(1)
            if (number.rows[form, place] < 0).all():
                break  # all are written; of uneven answers there is one in a batch
            if place in levels:
                chosen = self._choose(levels[place], form, draw)
                alive &= levels[place].option == chosen[:, None]
                form = alive.int().argmax(1)
            self.pending.append(number.rows[form, place][:, None])
        return alive.int().argmax(1)

    def _choose(self, level: Level, form: torch.Tensor, draw: bool) -> torch.Tensor:
        """Index into the level's tokens, int64 `(B,)`, for answers that are `form` up to here."""
        logits = self.logits()
        options = logits[:, level.tokens.to(logits.device)]
        options = options.masked_fill(~level.allowed[level.group[form]].to(logits.device), -torch.inf)
        each = options.log_softmax(-1)
        chosen = drawn(each) if draw else each.argmax(-1)
        self.log_prob = self.log_prob + each.gather(1, chosen[:, None])[:, 0]
        self.masses.append(mass_of(options, logits))
        return chosen.cpu()


def log_distribution(number: Spelled, first: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Logarithm of the probability of each of `FORMS`, `(..., 202)`.

    first: logits of the number's first token, `(..., vocabulary)`. after: of the token after each token of
    `number.ways`, `(..., ways, T, vocabulary)`.
    """
    total = torch.zeros(*first.shape[:-1], len(FORMS), device=first.device)
    for level in number.levels:
        tokens = level.tokens.to(first.device)
        if level.place == 0:
            logits = first[..., None, :][..., tokens]
        else:
            way = torch.tensor([number.way_of(beginning) for beginning in level.beginnings], device=first.device)
            logits = after[..., way, level.place - 1, :][..., tokens]
        each = logits.masked_fill(~level.allowed.to(first.device), -torch.inf).log_softmax(-1)
        known = level.group >= 0
        total[..., known] += each[..., level.group[known], level.option[known]]
    return total
