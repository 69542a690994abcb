"""Images and a text as a model's own processor prepares them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def inputs_of(
    model: Any, processor: Any, text: str, images: npt.NDArray[np.uint8], **settings: Any
) -> dict[str, torch.Tensor]:
    """All inputs of the model for one text about each of `images`, on its device.

    images: uint8 `(B, H, W, 3)`, or `(B, 2, H, W, 3)` for a text that shows two. settings: of the processor.
    Raises UserError if the processor refuses them.
    """
    frames = images if images.ndim == 5 else images[:, None]
    try:
        given = processor(
            text=[text] * len(frames),
            images=[list(shown) for shown in frames],
            return_tensors="pt",
            **_options(processor, text),
            **settings,
        )
    except (ValueError, TypeError) as error:  # of its own checks, such as the aspect ratio or the number of images
        shown = "two images" if images.ndim == 5 else "an image"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the VLM cannot be shown {shown} of {frames.shape[2:4]} pixels: {reason}") from error
    taken = inspect.signature(model.forward).parameters
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in given.items()
        if isinstance(value, torch.Tensor) and name != "labels" and (name in taken or "kwargs" in taken)
    }


def _options(processor: Any, text: str) -> dict[str, Any]:
    """Frames are channels last, though one of few pixels may look otherwise; a text begins once, also where the chat
    template writes the beginning that the tokenizer would add."""
    known = getattr(getattr(processor.image_processor, "valid_kwargs", None), "__annotations__", None)
    options: dict[str, Any] = {}
    if known is None or "input_data_format" in known:
        options["input_data_format"] = "channels_last"
    begin = processor.tokenizer.bos_token
    if begin and text.startswith(begin):
        options["add_special_tokens"] = False
    return options
