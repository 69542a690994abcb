"""The contract between an agent and a vision-language model that proposes actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from covr.vlm.grammar import Status
    from covr.vlm.prompts import Prompt

DecodeMode = Literal["generate", "forced", "expect"]
"""`generate`: free text, the paper's way. `forced`: fixed template, only the digits free. `expect`: mean of the digits'
exact distribution."""


@dataclass(frozen=True)
class Proposals:
    """One answer per image.

    actions: float32 `(B, A)`; rows that are not valid are 0 and mean nothing. valid: bool `(B,)`.
    texts: what the model wrote. statuses: why an answer is not valid, see `grammar.Status`. seconds: wall time.
    variance: float32 `(B, A)`, of each number given the numbers before it; only with the decode mode `expect`.
    valid_mass: float32 `(B,)`, mean probability the unconstrained model gives to the tokens the template allows, over
    the template's free positions. Constrained answers always parse; this shows a model that does not know the format.
    """

    actions: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    texts: tuple[str, ...]
    statuses: tuple[Status, ...]
    seconds: float
    variance: npt.NDArray[np.float32] | None = None
    valid_mass: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Samples:
    """What to fine-tune on: images uint8 `(N, H, W, 3)` or `(N, 2, H, W, 3)`, actions float32 `(N, A)` in [-1, 1],
    weights float32 `(N,)` in [0, 1] (RALW)."""

    images: npt.NDArray[np.uint8]
    actions: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        check_images(self.images)
        sizes = len(self.images), len(self.actions), len(self.weights)
        if len(set(sizes)) > 1 or np.ndim(self.actions) != 2 or np.ndim(self.weights) != 1:
            shapes = self.images.shape, self.actions.shape, self.weights.shape
            raise UserError(f"fine-tuning samples do not fit together: images, actions, weights are {shapes}")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise UserError("fine-tuning weights must be finite and not negative")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class FinetuneReport:
    """What one round did.

    samples: trained on, after the held-out ones are set aside. steps: optimiser steps. loss: Eq. 6, mean of the last
    epoch; first_loss: of the first step. heldout_error: mean squared error of the held-out actions over that of always
    answering the training mean, after the round; heldout_error_weighted: with each sample counted by its weight, as in
    training; error_before: as heldout_error, before the round. NaN where nothing was held out or the held-out actions
    do not vary.
    batch_halved: memory ran out once and each step was computed in twice as many parts.
    """

    samples: int
    steps: int
    loss: float
    first_loss: float
    seconds: float
    heldout_error: float
    heldout_error_weighted: float
    error_before: float
    batch_halved: bool = False


def relative_error(
    answers: npt.NDArray[np.float32],
    actions: npt.NDArray[np.float32],
    mean: npt.NDArray[np.floating[Any]],
    weights: npt.NDArray[np.floating[Any]],
) -> float:
    """Mean squared error of answers `(N, A)` over that of always answering `mean` `(A,)`, weights `(N,)` on samples.

    NaN if there are no samples, none has weight, or none differs from the mean.
    """
    errors, spreads = (((guess - actions) ** 2).mean(1) @ weights for guess in (answers, mean))
    return float(errors / spreads) if spreads else float("nan")


class Proposer(Protocol):
    """What proposes actions for images."""

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        """One answer per image, uint8 `(B, H, W, 3)` or, for two consecutive frames, `(B, 2, H, W, 3)`.

        Raises UserError for images of another shape or type. An answer that is no action is masked, never replaced.
        """
        ...


class VisionLanguagePrior(Proposer, Protocol):
    """A model that proposes actions for images and can be tuned to propose better ones."""

    @property
    def tunable(self) -> bool:
        """Whether `finetune` can be called; a server's model that is tuned elsewhere says False."""
        ...

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        """Raises UserError where the model cannot be tuned, and for no samples."""
        ...

    def save_adapter(self, folder: Path) -> None:
        """Write what fine-tuning changed."""
        ...

    def load_adapter(self, folder: Path) -> None:
        """Take up what `save_adapter` wrote. Raises UserError if it does not fit."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """For provenance, JSON values: at least `name`, `decode`, `parameters`, `stand_in` (a model of the project's
        own, made to stand in for a real one)."""
        ...


def check_images(images: Any) -> npt.NDArray[np.uint8]:
    """Images as one array. Raises UserError naming what is wrong with them."""
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise UserError("images of one query must all have the same size") from error
    if array.dtype != np.uint8 or array.ndim not in (4, 5) or array.shape[-1] != 3 or 0 in array.shape:
        raise UserError(
            f"images are {array.dtype} {array.shape}; expected uint8 (B, height, width, 3), channels last, or "
            "(B, 2, height, width, 3) for two frames"
        )
    if array.ndim == 5 and array.shape[1] != 2:
        raise UserError(f"images show {array.shape[1]} frames each; one or two are understood")
    return array


def proposals_from_texts(
    texts: Sequence[str], statuses: Sequence[Status], actions: Sequence[Any], action_dim: int, seconds: float
) -> Proposals:
    """Proposals of parsed answers; actions: `(A,)` or None each."""
    rows = np.zeros((len(texts), action_dim), np.float32)
    valid = np.array([action is not None for action in actions], np.bool_)
    for row, action in zip(rows, actions, strict=True):
        if action is not None:
            row[:] = action
    return Proposals(rows, valid, tuple(texts), tuple(statuses), seconds)
