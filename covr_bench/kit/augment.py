"""Image augmentation of uint8 batches, fused with the conversion to the network's input.

Output is float32 in channels-last memory, the layout in which CPU and GPU convolutions are fastest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
import torch.nn.functional as F

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

CENTRED = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)).astype(np.float32)
"""DrQ-v2's scaling: a byte to [-0.5, 0.5]."""
UNIT = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)
"""The scaling of SAC-AE, RAD and CURL: a byte to [0, 1]."""


def random_shift(obs: torch.Tensor, pad: int, table: npt.NDArray[np.float32] = CENTRED) -> torch.Tensor:
    """Shift each image by an integer in [-pad, pad] per axis, edges replicated (Yarats et al. 2021, section 3.1).

    obs: uint8 `(B, C, H, W)`; all channels of one image share its shift. table: float32 `(256,)`, value of each byte.
    Returns float32 `(B, C, H, W)` in channels-last memory. The official code reaches the same pixels through bilinear
    grid sampling, exact up to its rounding. Shifts are drawn from torch's global generator of the images' device.
    """
    shift = torch.randint(0, 2 * pad + 1, (len(obs), 2), device=obs.device) - pad
    return shifted(obs, shift, table)


def shifted(obs: torch.Tensor, shift: torch.Tensor, table: npt.NDArray[np.float32] = CENTRED) -> torch.Tensor:
    """`out[b, :, y, x] = table[obs[b, :, clip(y + shift[b, 0]), clip(x + shift[b, 1])]]`; shift is int64 `(B, 2)`."""
    return _window(obs, shift, obs.shape[2:], table)


def random_corner(obs: torch.Tensor, size: int) -> torch.Tensor:
    """Upper left corners of squares of `size` pixels, uniform over all that lie inside the image: int64 `(B, 2)`.

    Drawn from torch's global generator of the images' device.
    """
    room = [side - size + 1 for side in obs.shape[2:]]
    return torch.stack([torch.randint(0, r, (len(obs),), device=obs.device) for r in room], dim=1)


def cropped(
    obs: torch.Tensor, size: int, corner: torch.Tensor | None = None, table: npt.NDArray[np.float32] = CENTRED
) -> torch.Tensor:
    """`out[b, :, y, x] = table[obs[b, :, y + corner[b, 0], x + corner[b, 1]]]`, `(B, C, size, size)`.

    corner: int64 `(B, 2)`, the square inside the image; None for the centre. `random_corner` makes this RAD's crop
    (Laskin et al. 2020, arXiv 2004.14990).
    """
    corner = centre(obs, size) if corner is None else corner
    return _window(obs, corner, (size, size), table)


def random_convolution(images: torch.Tensor) -> torch.Tensor:
    """A random 3x3 convolution of RGB to RGB and a sigmoid, another kernel for each image (SVEA, arXiv 2107.00644).

    images: float32 `(B, C, H, W)`; all frames of one stack share its kernel, edges are replicated. Returns their like,
    between 0 and 1, in channels-last memory. After Lee et al. 2020 (arXiv 1910.05396), who use no sigmoid. Kernels are
    standard normal, drawn from torch's global generator of the images' device.
    """
    batch, channels, height, width = images.shape
    kernels = torch.randn(batch * 3, 3, 3, 3, device=images.device)
    # One group of three channels for each image, its frames along the batch axis.
    frames = (
        images.reshape(batch, channels // 3, 3, height, width).transpose(0, 1).reshape(-1, batch * 3, height, width)
    )
    mixed = torch.sigmoid(F.conv2d(F.pad(frames, [1] * 4, mode="replicate"), kernels, groups=batch))
    stacks = mixed.reshape(-1, batch, 3, height, width).transpose(0, 1).reshape(images.shape)
    return stacks.contiguous(memory_format=torch.channels_last)


def check_window(agent: str, window: int, obs_shape: tuple[int, ...], room: int = 0) -> None:
    """Raises UserError unless a square of `window` pixels lies inside the image with `room` pixels to spare."""
    _, height, width = obs_shape
    if window + room > min(height, width):
        raise UserError(
            f"{agent}'s window={window} does not fit images of {height}x{width} pixels; set image_size to at least "
            f"{window + room}"
        )


def translated(
    obs: torch.Tensor, size: int, corner: torch.Tensor | None = None, table: npt.NDArray[np.float32] = CENTRED
) -> torch.Tensor:
    """The central `size` pixels of each image pasted with their corner at `corner` on a black image of the full size.

    corner: int64 `(B, 2)` as (y, x), the square inside the image; None for the centre. `random_corner` makes this
    RAD's translation. Returns as `scaled`. Raises ValueError for a square that leaves the image.
    """
    corner = centre(obs, size) if corner is None else corner
    taken = centre(obs, size)
    batch, channels, height, width = obs.shape
    if obs.device.type == "cpu":
        if corner.min() < 0 or (corner + size > torch.tensor([height, width])).any():
            raise ValueError(f"a square of {size} pixels leaves the {height}x{width} image at {corner.tolist()}")
        out = torch.empty((batch, height, width, channels))
        _translate_numba(obs.numpy(), taken.numpy(), corner.numpy(), size, table, out.numpy())
        return out.permute(0, 3, 1, 2)
    rows, cols = (torch.arange(side, device=obs.device) - corner[:, i, None] for i, side in enumerate((height, width)))
    inside = ((rows >= 0) & (rows < size))[:, None, :, None] & ((cols >= 0) & (cols < size))[:, None, None, :]
    moved = _window(obs, taken - corner, (height, width), table)
    return torch.where(inside, moved, float(table[0])).contiguous(memory_format=torch.channels_last)


def centre(obs: torch.Tensor, size: int) -> torch.Tensor:
    """Upper left corners, int64 `(B, 2)`, of the central `size` pixels."""
    _, _, height, width = obs.shape
    return torch.tensor([(height - size) // 2, (width - size) // 2], device=obs.device).repeat(len(obs), 1)


def scaled(obs: torch.Tensor, table: npt.NDArray[np.float32] = CENTRED) -> torch.Tensor:
    """The images unshifted, as `shifted` returns them."""
    return shifted(obs, torch.zeros((len(obs), 2), dtype=torch.int64, device=obs.device), table)


def _window(
    obs: torch.Tensor, corner: torch.Tensor, shape: tuple[int, ...], table: npt.NDArray[np.float32]
) -> torch.Tensor:
    """Pixels from `corner` on, `shape` of them; where the image ends, its edge is repeated."""
    batch, channels, height, width = obs.shape
    if obs.device.type == "cpu":
        out = torch.empty((batch, *shape, channels))
        _window_numba(obs.numpy(), corner.numpy(), table, out.numpy())
        return out.permute(0, 3, 1, 2)
    rows = (torch.arange(shape[0], device=obs.device) + corner[:, :1]).clamp_(0, height - 1)  # (B, rows)
    cols = (torch.arange(shape[1], device=obs.device) + corner[:, 1:]).clamp_(0, width - 1)  # (B, cols)
    image = torch.arange(batch, device=obs.device)[:, None, None]
    moved = obs.permute(0, 2, 3, 1)[image, rows[:, :, None], cols[:, None, :]]  # (B, rows, cols, C)
    return F.embedding(moved.int(), torch.as_tensor(table, device=obs.device)[:, None]).squeeze(-1).permute(0, 3, 1, 2)


@numba.njit(cache=True, boundscheck=False)
def _window_numba(
    obs: npt.NDArray[np.uint8],
    corner: npt.NDArray[np.int64],
    table: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    batch, rows, cols, channels = out.shape
    height, width = obs.shape[2:]
    for b in range(batch):
        dy, dx = corner[b]
        for y in range(rows):
            row = min(max(y + dy, 0), height - 1)
            for x in range(cols):
                col = min(max(x + dx, 0), width - 1)
                for c in range(channels):
                    out[b, y, x, c] = table[obs[b, c, row, col]]


@numba.njit(cache=True, boundscheck=False)
def _translate_numba(
    obs: npt.NDArray[np.uint8],
    taken: npt.NDArray[np.int64],
    corner: npt.NDArray[np.int64],
    size: int,
    table: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    batch, channels = obs.shape[:2]
    out[:] = table[0]
    for b in range(batch):
        (top, left), (dy, dx) = taken[b], corner[b]
        for y in range(size):
            for x in range(size):
                for c in range(channels):
                    out[b, dy + y, dx + x, c] = table[obs[b, c, top + y, left + x]]
