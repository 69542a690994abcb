"""Which path a model is asked by: the first fast one that answers as the plain one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr.vlm.families.intact import reason
from covr.vlm.families.paths import ANY, PatchPath, PlainPath, SegmentPath
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.checkpoint import Checkpoint
    from covr.vlm.families.intact import reason
from covr.vlm.families.paths import Path

SIDE = 84  # pixels of the images that are tried
TOLERANCE = {torch.float32: 1e-4}  # of logits, relative to the largest
COARSE = 5e-2  # in bfloat16 and for quantised weights
TRIED = np.array([[0.37], [-0.25]], np.float32)  # the answers that are scored


def choose(checkpoint: Checkpoint) -> tuple[Path, str]:
    """The path, and why it is the plain one (empty for a fast one).

    Raises:
        UserError: This model cannot be asked at all; says why.
    """
    images = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    plain, expected = _plain(checkpoint, images)
    if expected is None:
        return plain, "its tokenizer gives a number's digits no tokens of their own"
    makers: list[Callable[[], Any]] = [
        lambda: PatchPath(checkpoint),
        lambda: SegmentPath(checkpoint, plain, masks_by_kind=False),
        lambda: SegmentPath(checkpoint, plain, masks_by_kind=True),
    ]
    reasons: list[str] = []
    lacking: list[str] = []
    for make in makers:
        path = None
        try:
            path = make()
            if _agrees(_logits(path, path.reader(images, ANY), images), expected, checkpoint.model.dtype):
                return path, ""
            reasons.append("the fast path would read other answers than its own steps")
        except UserError as error:
            reasons.append(str(error).splitlines()[0])
        except Exception as error:  # whatever a family lacks that the path asks for
            lacking.append(f"the fast path does not fit its classes ({type(error).__name__})")
        if isinstance(path, PatchPath):
            path.undo()
    return plain, (reasons or lacking)[-1]


def _plain(checkpoint: Checkpoint, images: npt.NDArray[np.uint8]) -> tuple[PlainPath, torch.Tensor | None]:
    """The plain path with the logits of the tried answers, None if it can only write freely."""
    family = checkpoint.model.config.model_type
    try:
        plain = PlainPath(checkpoint)
        try:
            reader = plain.reader(images, ANY)
        except UserError:
            plain.generate(images, ANY, 2)
            return plain, None
        logits = _logits(plain, reader, images)
        if not bool(logits.logsumexp(-1).isfinite().all()):
            raise UserError("its logits for images of noise are NaN or infinite, as those of damaged weights are")
        if torch.equal(logits[0, 0], logits[1, 0]):
            raise UserError("it takes two images of noise for one and the same, so what it answers is not what it sees")
        return plain, logits
    except UserError as error:
        raise UserError(f"{checkpoint.name} ({family}) cannot be asked for actions: {error}") from error
    except Exception as error:  # a family that does not keep to what transformers' generate asks of it
        raise UserError(
            f"{checkpoint.name} ({family}) cannot be asked for actions: its own forward fails on one image and one "
            f"question, {reason(error)}"
        ) from error


@torch.no_grad()
def _logits(path: Path, reader: Any, images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Of the tried answers' tokens, `(2, T, vocabulary)`."""
    embeds = path.image_embeds(images)
    labels = torch.from_numpy(reader.template.answer_ids(TRIED)).to(embeds.device)
    return reader.answer_logits(embeds, labels)  # type: ignore[no-any-return]


def _agrees(got: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    if got.shape != expected.shape:
        return False
    apart = float((got - expected).abs().max()) / float(expected.abs().max())
    return apart <= TOLERANCE.get(dtype, COARSE)
