"""A stranger's VLM, whose answers are held to the contract: one that breaks it would teach the agent nonsense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from covr.vlm.base import Proposals
from covr.vlm.grammar import STATUSES
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from covr.vlm.base import VisionLanguagePrior
    from covr.vlm.prompts import Prompt


class Held:
    """Answers as `vlm` does, in the types of the contract; everything else is the VLM's own."""

    def __init__(self, vlm: VisionLanguagePrior, name: str) -> None:
        self.vlm, self.name = vlm, name

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "vlm":  # not there yet: a copy is being made
            raise AttributeError(attribute)
        return getattr(self.vlm, attribute)

    def propose(self, images: Any, prompt: Prompt) -> Proposals:
        """Raises UserError where the answer breaks the contract."""
        answer = self.vlm.propose(images, prompt)
        for problem in problems(answer, len(images), prompt.action_dim):
            raise UserError(f"VLM {self.name}: {problem}; see covr.vlm.base.Proposals")
        return answer


def problems(answer: Any, asked: int, action_dim: int) -> Iterator[str]:
    """What breaks the contract in an answer to so many images, a phrase each."""
    if not isinstance(answer, Proposals):
        yield f"propose gave a {type(answer).__name__}, and no Proposals"
        return
    actions, valid = np.asarray(answer.actions), np.asarray(answer.valid)
    if actions.dtype != np.float32 or actions.shape != (asked, action_dim):
        yield f"its actions are {actions.dtype} {actions.shape}, for float32 {(asked, action_dim)}"
        return
    if valid.dtype != np.bool_ or valid.shape != (asked,) or len(answer.texts) != asked:
        yield f"valid is {valid.dtype} {valid.shape} with {len(answer.texts)} texts, for bool {(asked,)} and {asked}"
        return
    if unknown := set(answer.statuses) - set(STATUSES):
        yield f"its statuses hold {sorted(map(str, unknown))}, which are none of {', '.join(STATUSES)}"
    elif [status == "ok" for status in answer.statuses] != valid.tolist():
        yield "statuses are not 'ok' where valid is True, and nowhere else"
    stated = actions[valid]
    if wrong := [row.tolist() for row in stated if not (np.abs(row) <= 1).all()]:  # NaN compares false
        yield f"it calls {wrong[0]} a valid action; components are finite and in [-1, 1]"
