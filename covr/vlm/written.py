"""Free text of a model, and whether its numbers were sound while it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class Written(NamedTuple):
    """Free text. finished: whether the model ended it itself. finite: whether all its logits were."""

    text: str
    finished: bool
    finite: bool


class Watch:
    """Stands among the processors of `generate`'s logits, and changes none: sees whether they are finite."""

    def __init__(self, batch: int) -> None:
        self.finite = torch.ones(batch, dtype=torch.bool)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.finite &= scores.logsumexp(-1).isfinite().cpu()
        return scores

    def ended(self, rows: list[list[int]], stop: Sequence[int], tokenizer: Any) -> list[Written]:
        """What was written, of rows of tokens: each up to its first stop."""
        found = []
        for row, finite in zip(rows, self.finite.tolist(), strict=True):
            end = next((i for i, token in enumerate(row) if token in stop), None)
            text = tokenizer.decode(row[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            found.append(Written(text, end is not None, finite))
        return found
