"""Where the digits stand: the tokens of a prompt around its image, and of an answer around its free positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr.vlm.grammar import format_action
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.prompts import Prompt

CHOICES = ("+-", "01", "0123456789", "0123456789")  # of a number's four free positions


@dataclass(frozen=True)
class Slot:
    """A free position of the answer. choices: the token of each character of `CHOICES`, in its order."""

    position: int
    choices: tuple[int, ...]


Number = tuple[Slot, Slot, Slot, Slot]
"""Sign, unit, tenth and hundredth of one number."""


@dataclass(frozen=True)
class Template:
    """An answer as tokens: every answer of one action dimension has the same length and the same fixed tokens.

    ids: the tokens of the answer whose numbers are all +0.00. numbers: the free positions of each number, in order.
    """

    ids: tuple[int, ...]
    numbers: tuple[Number, ...]

    @classmethod
    def of(cls, tokenizer: Any, action_dim: int) -> Template:
        """Find the slots by tokenising answers that differ in one character.

        Raises UserError if this tokenizer cuts answers so that a character has no token of its own; such a model can
        only be asked in the mode `generate`.
        """

        def ids(characters: Sequence[str]) -> list[int]:
            numbers = ["{}{}.{}{}".format(*characters[4 * d : 4 * d + 4]) for d in range(action_dim)]
            return list(tokenizer(f"Action: [{', '.join(numbers)}]", add_special_tokens=False).input_ids)

        zero = list("+000" * action_dim)
        base = ids(zero)
        slots = []
        for at in range(len(zero)):
            variants = [ids([*zero[:at], c, *zero[at + 1 :]]) for c in CHOICES[at % 4]]
            moved = {i for v in variants for i in range(len(base)) if len(v) != len(base) or v[i] != base[i]}
            if len(moved) != 1:
                raise UserError(
                    f"this model's tokenizer gives no token of its own to character {at} of an answer, so its answers "
                    "have no fixed template; use the decode mode 'generate'"
                )
            position = moved.pop()
            slots.append(Slot(position, tuple(v[position] for v in variants)))
        if [slot.position for slot in slots] != sorted({slot.position for slot in slots}):
            raise UserError("this model's tokenizer does not keep the order of an answer; use decode mode 'generate'")
        numbers = tuple((slots[i], slots[i + 1], slots[i + 2], slots[i + 3]) for i in range(0, len(slots), 4))
        return cls(tuple(base), numbers)

    def between(self, start: int, end: int) -> list[int]:
        """The fixed tokens of positions start..end-1."""
        return list(self.ids[start:end])

    def answer_ids(self, actions: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The tokens of the answers that state actions `(N, A)`, int64 `(N, T)`. Raises ValueError as format_action."""
        rows = np.tile(np.array(self.ids, np.int64), (len(actions), 1))
        for row, action in zip(rows, actions, strict=True):
            numbers = format_action(action)[len("Action: [") : -1].split(", ")
            for slots, number in zip(self.numbers, numbers, strict=True):
                for slot, choices, character in zip(slots, CHOICES, number.replace(".", ""), strict=True):
                    row[slot.position] = slot.choices[choices.index(character)]
        return rows


def text_of(choices: npt.NDArray[np.int64]) -> str:
    """The answer whose slots hold `choices` `(A, 4)`, as text; -0.00 stays as it was written."""
    numbers = ["{}{}.{}{}".format(*(c[int(i)] for c, i in zip(CHOICES, row, strict=True))) for row in choices]
    return f"Action: [{', '.join(numbers)}]"


@dataclass(frozen=True)
class Layout:
    """A prompt as tokens, its image expanded: prefix, image, suffix.

    positions: int64 `(3, L)`, time, row and column of each token, or `(1, L)` where a position is one number. image:
    bounds of the image's tokens; what stands before them is the same for every image of this size. ids: int64 `(L,)`,
    and grid: int64 `(1, 3)`, patches in time, height, width, where the model's own classes tell them. embeds:
    `(1, L, width)`, what the language model takes of the tokens, where the ids do not say it. masks_by_kind: whether
    the language model takes a mask for each kind of layer, not one for all. After the prompt all positions of a token
    are equal, and grow by one from `next_position`.
    """

    positions: torch.Tensor
    image: tuple[int, int]
    ids: torch.Tensor
    grid: torch.Tensor | None = None
    embeds: torch.Tensor | None = None
    masks_by_kind: bool = True

    @property
    def next_position(self) -> int:
        return int(self.positions.max()) + 1

    @classmethod
    def of(cls, model: Any, tokenizer: Any, prompt: Prompt, grid: torch.Tensor) -> Layout:
        """Raises UserError if the chat template does not show the image exactly once."""
        text = tokenizer.apply_chat_template(prompt.messages(), tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        marker = model.config.image_token_id
        if ids.count(marker) != 1:
            raise UserError(f"the model's chat template shows the image {ids.count(marker)} times in one prompt")
        start = ids.index(marker)
        tokens = int(grid.prod()) // model.config.vision_config.spatial_merge_size**2
        ids[start : start + 1] = [marker] * tokens
        row = torch.tensor([ids])
        positions, _ = model.model.get_rope_index(row, (row == marker).int(), image_grid_thw=grid.cpu())
        return cls(positions[:, 0], (start, start + tokens), row[0], grid)
