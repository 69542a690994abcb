"""Reading actions out of any model by its own steps: the plain path, for every family that the fast one does not serve.

What a `decoding.Reader` gives its callers, a `PlainReader` gives too. In place of what the language model sees of an
image it takes the image itself, as a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from covr.vlm.decoding import Expected, Forced
from covr.vlm.families.seeing import inputs_of
from covr.vlm.families.spelling import DIGITS, FORMS, forms_of
from covr.vlm.families.turn import Turn
from covr.vlm.families.walk import Walk, log_distribution

if TYPE_CHECKING:
    from covr.vlm.families.spelling import Spelled, Spelling

BRANCHES = 256  # that are computed at once, over the images of a batch


@dataclass
class PlainReader:
    """Asks one prompt of one model.

    text: the prompt, as the processor takes it. lead: tokens that an encoder-decoder's answer begins with. prefix:
    nothing is kept from one question to the next.
    """

    model: Any
    processor: Any
    text: str
    template: Spelling
    lead: tuple[int, ...] = ()
    prefix: None = None

    def turn(self, images: torch.Tensor) -> Turn:
        """The prompt's pass for images uint8 `(B, H, W, 3)`, of two frames `(B, 2, H, W, 3)`."""
        return Turn(self.model, inputs_of(self.model, self.processor, self.text, images.cpu().numpy()), self.lead)

    def answer_logits(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits `(B, T, vocabulary)` of each token of the labels int64 `(B, T)`, given those before it; -100 stands
        after the last token of a shorter answer. Gradients flow."""
        turn = self.turn(images)
        return torch.cat([turn.last[:, None], turn.write(labels[:, :-1].clamp_min(0))], 1)

    def log_probs(self, images: torch.Tensor, choices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithm of the probability of digits int64 `(B, A, 4)`, each number given those before it and its tokens
        among those of the other numbers, float32 `(B, A, 1)`; and the hidden state of the prompt's last token,
        `(B, width)`. Gradients flow."""
        forms = forms_of(choices)
        written = [self.template.tokens(row) for row in forms.tolist()]
        length = max(map(len, written))
        answers = torch.tensor([row + [0] * (length - len(row)) for row in written])
        turn = self.turn(images)
        logits = torch.cat([turn.last[:, None], turn.write(answers[:, :-1])], 1)
        each = []
        for row, own in zip(forms.tolist(), logits, strict=True):
            place = 0
            for number, form in zip(self.template.numbers, row, strict=True):
                place += len(number.lead)
                each.append(_log_prob(number, form, own[place:]))
                place += int((number.rows[form] >= 0).sum())
        return torch.stack(each).view(*forms.shape, 1), turn.state

    @torch.no_grad()
    def forced(self, images: torch.Tensor, draw: bool = False) -> Forced:
        """The likeliest form of each number token by token, or one drawn by its probability."""
        if not self.template.even and len(images) > 1:  # answers of several lengths do not grow together
            alone = [self.forced(image[None], draw) for image in images]
            return Forced(*(torch.cat(parts) for parts in zip(*alone, strict=True)))
        turn = self.turn(images)
        walk, chosen = Walk(turn, len(images)), []
        for number in self.template.numbers:
            walk.skip(number.lead)
            chosen.append(walk.number(number, draw))
        return Forced(DIGITS[torch.stack(chosen, 1)], torch.stack(walk.masses, 1).mean(1), walk.log_prob, turn.state)

    @torch.no_grad()
    def expect(self, images: torch.Tensor) -> Expected:
        """Mean and variance of each number, and the greedy digits."""
        parts = max(BRANCHES // len(self.template.numbers[0].ways), 1) if self.template.even else 1
        if len(images) > parts:
            some = [self.expect(part) for part in torch.split(images, parts)]
            return Expected(*(torch.cat(each) for each in zip(*some, strict=True)))
        walk = Walk(self.turn(images), len(images))
        chosen, means, variances = [], [], []
        for number in self.template.numbers:
            walk.skip(number.lead)
            p = self._distribution(walk, number).exp()
            values = torch.tensor([float(form) for form in FORMS], device=p.device)
            means.append((p * values).sum(1))
            variances.append((p * (values - means[-1][:, None]) ** 2).sum(1))
            chosen.append(walk.number(number, draw=False))
        mass = torch.stack(walk.masses, 1).mean(1)
        return Expected(DIGITS[torch.stack(chosen, 1)], mass, torch.stack(means, 1), torch.stack(variances, 1))

    def _distribution(self, walk: Walk, number: Spelled) -> torch.Tensor:
        """Logarithm of the probability of each of `FORMS`, `(B, 202)`: one pass over all beginnings of the number."""
        first, ways = walk.logits(), number.ways
        length = max(map(len, ways))
        if not length:
            return log_distribution(number, first, first)
        tokens = torch.tensor([[*way, *[0] * (length - len(way))] for way in ways])
        after = walk.turn.branched(len(ways)).write(tokens.repeat(len(first), 1))
        return log_distribution(number, first, after.view(len(first), len(ways), length, -1))


def _log_prob(number: Spelled, form: int, logits: torch.Tensor) -> torch.Tensor:
    """Of one form of a number, for logits `(T, vocabulary)` of its tokens."""
    total = torch.zeros((), device=logits.device)
    for level in number.levels:
        if (group := int(level.group[form])) < 0:
            continue
        options = logits[level.place, level.tokens.to(logits.device)]
        options = options.masked_fill(~level.allowed[group].to(logits.device), -torch.inf)
        total = total + options.log_softmax(-1)[int(level.option[form])]
    return total
