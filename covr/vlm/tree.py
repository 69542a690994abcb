"""All beginnings of one number as a tree of tokens: its exact distribution in one pass of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from covr.vlm.template import CHOICES, Number


@dataclass(frozen=True)
class Tree:
    """Every beginning of one number, as tokens that see only their own ancestors.

    tokens, depths: of each node; a depth is a position in the answer. ancestors: node numbers on the way to each node,
    itself included. reader: the node after which the next free position is read, by the digits chosen so far; -1 is
    the token before the tree.
    """

    tokens: tuple[int, ...]
    depths: tuple[int, ...]
    ancestors: tuple[tuple[int, ...], ...]
    reader: dict[tuple[int, ...], int]

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, number: Number, ids: tuple[int, ...]) -> Tree:
        slots = {slot.position: slot for slot in number}
        tokens: list[int] = []
        depths: list[int] = []
        ancestors: list[tuple[int, ...]] = []
        tips: dict[tuple[int, ...], tuple[int, ...]] = {(): ()}  # by digits: the nodes that lead there
        reader: dict[tuple[int, ...], int] = {(): -1}
        for position in range(number[0].position, number[3].position):
            grown: dict[tuple[int, ...], tuple[int, ...]] = {}
            for digits, way in tips.items():
                if position in slots:
                    options = list(enumerate(slots[position].choices))
                    if len(digits) == 2 and digits[1] == 1:
                        options = options[:1]  # nothing but zeros follows a one
                    branches = [((*digits, i), token) for i, token in options]
                else:
                    branches = [(digits, ids[position])]
                for branch, token in branches:
                    node = (*way, len(tokens))
                    tokens.append(token)
                    depths.append(position)
                    ancestors.append(node)
                    grown[branch] = node
                    reader[branch] = node[-1]
            tips = grown
        return cls(tuple(tokens), tuple(depths), tuple(ancestors), reader)

    def mask(self, past: int, lead: int) -> torch.Tensor:
        """What `lead` ordinary tokens and then the nodes may see, bool `(lead + nodes, past + lead + nodes)`."""
        size = lead + len(self.tokens)
        mask = torch.ones(size, past + size, dtype=torch.bool).tril(past)
        mask[lead:, past + lead :] = False
        for node, way in enumerate(self.ancestors):
            mask[lead + node, [past + lead + a for a in way]] = True
        return mask

    def distribution(
        self, logits_of: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, number: Number
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Joint probability `(B, 2, 2, 10, 10)` of a number's digits, greedy digits `(B, 4)`, valid mass `(B, 4)`.

        logits_of: the model's head. hidden: `(B, 1 + nodes, width)`, of the token before the tree and of the nodes.
        """
        batch, device = len(hidden), hidden.device
        every = torch.arange(batch, device=device)
        total = torch.zeros(batch, *(1,) * 4, device=device)
        greedy = torch.zeros(batch, 0, dtype=torch.int64, device=device)
        masses = []
        for i, slot in enumerate(number):
            shape = [len(c) for c in CHOICES[:i]]
            where = torch.zeros(shape, dtype=torch.int64)  # digits that cannot be have any reader: their weight is 0
            for digits in (d for d in self.reader if len(d) == i):
                where[digits] = self.reader[digits] + 1
            logits = logits_of(hidden[:, where.flatten().to(device)])
            allowed = logits[..., list(slot.choices)].view(batch, *shape, -1)
            if i >= 2:
                one = torch.zeros(shape, dtype=torch.int64, device=device)
                one[:, 1] = 1
                allowed = only_zero(allowed, one)
            mass = mass_of(allowed, logits.view(batch, *shape, logits.shape[-1]))
            here = (every, *greedy.unbind(1))
            masses.append(mass[here])
            greedy = torch.cat([greedy, allowed[here].argmax(-1)[:, None]], 1)
            step = allowed.log_softmax(-1)
            total = total + step.view(batch, *shape, len(slot.choices), *(1,) * (3 - i))
        return total.exp(), greedy, torch.stack(masses, 1)

    def path(self, greedy: torch.Tensor) -> torch.Tensor:
        """The nodes on the way to the greedy digits' last reader, int64 `(B, depth)`."""
        return torch.tensor([self.ancestors[self.reader[tuple(row[:3])]] for row in greedy.tolist()])


def mass_of(allowed: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Probability of the allowed tokens, for logits `(..., k)` of them and `(..., vocabulary)` of all; NaN where a
    logit is NaN or infinite, which else could look like an answer."""
    every = logits.logsumexp(-1)
    return (allowed.logsumexp(-1) - every).exp().masked_fill(~every.isfinite(), torch.nan)


def only_zero(allowed: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Logits of ten digits `(..., 10)`, all but zero ruled out where the number's unit is 1: 1.00 is the largest."""
    later = torch.arange(allowed.shape[-1], device=allowed.device) > 0
    return allowed.masked_fill((unit == 1)[..., None] & later, -torch.inf)


def tree_values() -> torch.Tensor:
    """The number each combination of digits spells, float32 `(2, 2, 10, 10)`."""
    sign, unit, tenth, hundredth = torch.meshgrid(*(torch.arange(len(c)) for c in CHOICES), indexing="ij")
    return (1 - 2 * sign) * (100 * unit + 10 * tenth + hundredth) / 100


def values_of(choices: torch.Tensor) -> torch.Tensor:
    """The actions that digits `(B, A, 4)` spell, float32 `(B, A)`."""
    sign, unit, tenth, hundredth = choices.cpu().unbind(-1)
    return (1 - 2 * sign) * (100 * unit + 10 * tenth + hundredth) / 100
