"""What a model's vision part makes of an image, as a map over it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from covr.vlm.families.paths import ANY, PatchPath
from covr.vlm.families.prompting import prompt_text
from covr.vlm.families.seeing import inputs_of
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from covr.vlm.checkpoint import Checkpoint
    from covr.vlm.families.paths import Path

WHOLE = {"do_image_splitting": False, "crop_to_patches": False, "do_pan_and_scan": False}  # no tiles beside the image


def image_map(checkpoint: Checkpoint, path: Path, images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Features `(B, rows, columns, width)`, one for each block of patches.

    Raises:
        UserError: The model has no features of an image by themselves, or they do not lie in rows and columns.
    """
    if isinstance(path, PatchPath):
        _, grid = path.pixels(images[:1])
        merge = checkpoint.model.config.vision_config.spatial_merge_size
        rows, columns = (int(side) // merge for side in grid[0, 1:])
        features = path.image_embeds(images)
        return features.view(len(images), rows, columns, features.shape[-1])
    if images.ndim == 5:
        raise UserError(f"{checkpoint.name} makes a map of one frame: set vlm_frames=1")
    for features in _features(checkpoint, images, getattr(path, "marks", "")):
        for left_out in (0, 1):  # a summary of the image may stand before its map, as of Florence-2
            tokens = features.shape[1] - left_out
            if tokens and (sides := _grid(tokens, images.shape[1] / images.shape[2])) is not None:
                return features[:, left_out:].reshape(len(images), *sides, -1)
    raise UserError(f"the features that {checkpoint.name} makes of an image do not lie in rows and columns")


@torch.no_grad()
def _features(checkpoint: Checkpoint, images: npt.NDArray[np.uint8], marks: str) -> list[torch.Tensor]:
    """`(B, tokens, width)`: as the language model takes them, and those of the first tile, which is the whole image."""
    model = checkpoint.model
    features_of = getattr(model, "get_image_features", None)
    if features_of is None:
        raise UserError(f"{checkpoint.name} ({model.config.model_type}) has no features of an image by themselves")
    known = getattr(getattr(checkpoint.image_processor, "valid_kwargs", None), "__annotations__", {})
    whole = {name: value for name, value in WHOLE.items() if name in known}
    text = prompt_text(checkpoint.processor, ANY, marks=marks)
    given = inputs_of(model, checkpoint.processor, text, images, **whole)
    taken = inspect.signature(getattr(model.base_model, "get_image_features", features_of)).parameters
    projected: list[torch.Tensor] = []
    projector = getattr(model.base_model, "multi_modal_projector", None)
    hook = projector and projector.register_forward_hook(lambda module, args, out: projected.append(out))
    try:
        out: Any = features_of(**{name: value for name, value in given.items() if name in taken}, return_dict=True)
    finally:
        if hook:
            hook.remove()
    found = out.pooler_output if hasattr(out, "pooler_output") else out
    rows = torch.cat([each.reshape(-1, each.shape[-1]) for each in found])
    every = [rows.reshape(len(images), -1, rows.shape[-1])]
    if projected and projected[-1].ndim == 3 and len(tiles := projected[-1]) % len(images) == 0:
        every.append(tiles.reshape(len(images), -1, *tiles.shape[1:])[:, 0])
    return every


def _grid(tokens: int, aspect: float) -> tuple[int, int] | None:
    """Rows and columns of so many tokens for an image whose height is `aspect` times its width."""
    sides = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    near = min(sides, key=lambda side: abs(side[0] / side[1] - aspect))
    return near if abs(near[0] / near[1] - aspect) <= 0.25 * aspect else None
