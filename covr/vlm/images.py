"""Images as patches: what the vision part of a Qwen model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt


def cut_by_matmul(visual: Any) -> None:
    """Embed patches by one matrix product: the same sums as the model's 3-D convolution, whose stride is its kernel,
    at a third of the time on a CPU."""
    projection = visual.patch_embed.proj

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        weight = projection.weight.flatten(1)
        return F.linear(hidden_states.view(-1, weight.shape[1]).to(weight.dtype), weight, projection.bias)

    visual.patch_embed.forward = forward


def patches(images: npt.NDArray[np.uint8], processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as the processor cuts them: float32 `(B * patches, values)`, grid int64 `(B, 3)`.

    Two frames `(B, 2, H, W, 3)` fill the two time slots of each patch, which for one frame hold it twice.
    """
    frames = images if images.ndim == 5 else images[:, None]
    factor = processor.patch_size * processor.merge_size
    height, width = frames.shape[2:4]
    low, high = processor.size["shortest_edge"], processor.size["longest_edge"]
    whole = height % factor == width % factor == 0 and low <= height * width <= high
    if not (whole and _usual(processor)):
        return _resized_patches(frames, processor)
    mean = np.asarray(processor.image_mean, np.float32) * 255
    std = np.asarray(processor.image_std, np.float32) * 255
    pixels = np.broadcast_to((frames - mean) / std, (len(frames), 2, height, width, 3))
    size, merge = processor.patch_size, processor.merge_size
    rows, columns = height // size, width // size
    cut = pixels.reshape(len(frames), 2, rows // merge, merge, size, columns // merge, merge, size, 3)
    # image, block row and column, row and column in the block | channel, time, row and column in the patch
    cut = cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    values = np.ascontiguousarray(cut).reshape(len(frames) * rows * columns, -1)
    return torch.from_numpy(values), torch.tensor([[1, rows, columns]]).repeat(len(frames), 1)


def _usual(processor: Any) -> bool:
    """Whether the processor's settings are those that the cutting here keeps to: scaled to 0..1, then normalised."""
    scaled = processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6
    return bool(scaled and processor.do_normalize and processor.temporal_patch_size == 2)


def _resized_patches(frames: npt.NDArray[np.uint8], processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """By the checkpoint's own processor, which also resizes, and has settings of its own."""
    try:
        times = [
            processor(images=list(frames[:, t]), return_tensors="pt", input_data_format="channels_last")
            for t in range(frames.shape[1])
        ]
    except ValueError as error:  # of its own checks, such as the aspect ratio
        raise UserError(f"the VLM cannot be shown images of {frames.shape[2:4]} pixels: {error}") from error
    values = times[0]["pixel_values"]
    if len(times) == 2:
        side = processor.patch_size**2
        views = [t["pixel_values"].view(len(values), 3, processor.temporal_patch_size, side) for t in times]
        values = torch.stack([views[0][:, :, 0], views[1][:, :, 1]], 2).reshape(len(values), -1)
    return values, times[0]["image_grid_thw"]
