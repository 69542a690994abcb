"""The contract between an agent and a vision-language model (VLM) that proposes actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

Dtype = Literal["auto", "float32", "bfloat16", "int8", "int4"]
"""Of a model's weights in this process. `auto`: bfloat16 on a GPU, float32 on a CPU. `int8`, `int4`: the language
model's matrices are quantised, by bitsandbytes or torchao."""


@dataclass(frozen=True)
class Proposals:
    """One answer per image.

    Attributes:
        actions: float32 `(B, A)` in [-1, 1]; rows that are not valid are 0 and mean nothing.
        valid: bool `(B,)`, whether the answer states an action.
        texts: What the model wrote, B texts.
        statuses: Why an answer is not valid, B of `grammar.Status`; `ok` for a valid one.
        seconds: Wall time of all B answers together.
        variance: float32 `(B, A)`, of each number given the numbers before it; only with the decode mode `expect`.
        valid_mass: float32 `(B,)`, mean probability that the unconstrained model gives to the tokens the template
            allows, over its free positions. Constrained answers always parse; this is low where the form is unknown.
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
    """What a VLM is fine-tuned on; `len` gives N.

    Attributes:
        images: uint8 `(N, H, W, 3)`, of two frames `(N, 2, H, W, 3)`.
        actions: float32 `(N, A)` in [-1, 1], the answers to learn.
        weights: float32 `(N,)` in [0, 1], how much each sample counts (RALW).

    Raises:
        UserError: Images of another form, arrays of different lengths, or weights that are negative or not finite.
    """

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
class FinetuneSettings:
    """How a round of fine-tuning is done.

    Attributes:
        rank: Of LoRA. A rank above the narrowest adapted matrix is cut to it, alpha in proportion.
        alpha: Of LoRA; 16 is the paper's for DMControl.
        lr: Of AdamW.
        epochs: Passes over the samples, at least.
        min_steps: Optimiser steps, at least: epochs are added until there are so many.
        batch_size: Samples of an optimiser step.
        micro_batch: Samples of a pass through the model; gradients are accumulated to `batch_size`.
        label_smoothing: Of the token loss; the paper gives no value.
        max_grad_norm: Gradients are clipped to this norm.
        heldout: Share of the samples that is set aside to measure the error.
        max_heldout: Samples set aside, at most.
        seed: Of the order of the samples.

    Raises:
        UserError: A count below 1, or a rate or share out of range.
    """

    rank: int = 128
    alpha: float = 16.0
    lr: float = 1e-3
    epochs: int = 2
    min_steps: int = 1
    batch_size: int = 32
    micro_batch: int = 32
    label_smoothing: float = 0.1
    max_grad_norm: float = 1.0
    heldout: float = 0.2
    max_heldout: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "batch_size", "micro_batch"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"{name} of fine-tuning is {value}; it must be at least 1")
        if not (0 <= self.label_smoothing < 1 and 0 <= self.heldout < 1 and self.max_heldout >= 0):
            raise UserError("fine-tuning needs label_smoothing and heldout in [0, 1), and max_heldout of at least 0")
        if not (self.lr > 0 and self.alpha > 0 and self.max_grad_norm > 0):
            raise UserError("fine-tuning needs lr > 0, alpha > 0 and max_grad_norm > 0")


@dataclass(frozen=True)
class FinetuneReport:
    """What one round did. Errors are NaN where nothing was held out or the held-out actions do not vary.

    Attributes:
        samples: Trained on; the held-out ones are apart.
        steps: Optimiser steps.
        loss: Eq. 6, mean of the last epoch.
        first_loss: Eq. 6 of the first step.
        seconds: Wall time of the round.
        heldout_error: Mean squared error of the held-out actions over that of always answering the training mean,
            after the round.
        heldout_error_weighted: The same with each sample counted by its weight, as in training.
        error_before: As `heldout_error`, before the round.
        error_before_weighted: As `heldout_error_weighted`, before the round.
        batch_halved: Memory ran out once, and each step was computed in twice as many parts.
        finite: Whether the loss of every step was.
        undone: The round made NaN or infinite numbers, and the adapter is what it was before.
    """

    samples: int
    steps: int
    loss: float
    first_loss: float
    seconds: float
    heldout_error: float
    heldout_error_weighted: float
    error_before: float
    error_before_weighted: float
    batch_halved: bool = False
    finite: bool = True
    undone: bool = False


class Proposer(Protocol):
    """What proposes actions for images."""

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        """Answer each image with an action. An answer that is no action is masked, never replaced.

        Args:
            images: uint8 `(B, H, W, 3)`, or of two consecutive frames `(B, 2, H, W, 3)`.
            prompt: The question; its `action_dim` is A.

        Returns:
            B answers.

        Raises:
            UserError: Images of another shape or type.
        """
        ...


class Adviser(Proposer, Protocol):
    """A model that proposes actions for images and says what it is."""

    @property
    def tunable(self) -> bool:
        """Whether `finetune` can be called; a server's model that is tuned elsewhere says False."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Facts for provenance, as JSON values.

        Returns:
            At least `name`, `decode` (the way answers are read), `parameters` (their number, None if unknown) and
            `stand_in` (whether it stands in for a real VLM).
        """
        ...


class VisionLanguagePrior(Adviser, Protocol):
    """An adviser that can be tuned to propose better actions. One that is not `tunable` may lack what follows."""

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        """Learn to answer these actions.

        Args:
            samples: At least one image with its action and weight.
            prompt: The question that the actions answer.

        Raises:
            UserError: The model cannot be tuned, or there are no samples.
        """
        ...

    def save_adapter(self, folder: Path) -> None:
        """Write what fine-tuning changed into a folder."""
        ...

    def load_adapter(self, folder: Path) -> None:
        """Take up what `save_adapter` wrote. Raises UserError if it does not fit."""
        ...

    def reset_adapter(self) -> None:
        """Forget what fine-tuning changed: be as the VLM came."""
        ...


@dataclass(frozen=True)
class VLMOptions:
    """What a VLM is opened with.

    Attributes:
        decode: How answers are read; None leaves it to the VLM.
        device: Where a model in this process runs, such as `cpu` or `cuda:1`.
        settings: Of fine-tuning.
        seed: Of everything that is drawn: a fresh adapter, the order of samples.
        dtype: Of the weights of a model in this process.
    """

    decode: DecodeMode | None = None
    device: str = "cpu"
    settings: FinetuneSettings = field(default_factory=FinetuneSettings)
    seed: int = 0
    dtype: Dtype = "auto"


@dataclass(frozen=True)
class VLMSpec:
    """A VLM that is known by name; a VLM file ends in `VLM = VLMSpec(...)`.

    Attributes:
        name: What `--vlm` calls it, and what rows made with it are marked with.
        make: Opens it.
        stand_in: Whether it stands in for a real VLM; rows made with it are marked as such.
        doc: What it is, in a sentence.
    """

    name: str
    make: Callable[[VLMOptions], VisionLanguagePrior]
    stand_in: bool = False
    doc: str = ""


def check_images(images: Any) -> npt.NDArray[np.uint8]:
    """Images as one array.

    Raises:
        UserError: They are not uint8 `(B, H, W, 3)` or `(B, 2, H, W, 3)`.
    """
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
    """Proposals of parsed answers.

    Args:
        texts, statuses: What the model wrote, and what became of each answer, B each.
        actions: Of each answer float32 `(A,)`, None if it states none.
        action_dim: A.
        seconds: Wall time of all answers together.
    """
    rows = np.zeros((len(texts), action_dim), np.float32)
    valid = np.array([action is not None for action in actions], np.bool_)
    for row, action in zip(rows, actions, strict=True):
        if action is not None:
            row[:] = action
    return Proposals(rows, valid, tuple(texts), tuple(statuses), seconds)
