"""Image augmentation of uint8 batches, fused with the conversion to the network's input.

Output is float32 in channels-last memory, the layout in which CPU and GPU convolutions are fastest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy.typing as npt

CENTRED = (np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)).astype(np.float32)
"""DrQ-v2's scaling: a byte to [-0.5, 0.5]."""


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
    batch, channels, height, width = obs.shape
    if obs.device.type == "cpu":
        out = torch.empty((batch, height, width, channels))
        _shift_numba(obs.numpy(), shift.numpy(), table, out.numpy())
        return out.permute(0, 3, 1, 2)
    rows = (torch.arange(height, device=obs.device) + shift[:, :1]).clamp_(0, height - 1)  # (B, H)
    cols = (torch.arange(width, device=obs.device) + shift[:, 1:]).clamp_(0, width - 1)  # (B, W)
    image = torch.arange(batch, device=obs.device)[:, None, None]
    moved = obs.permute(0, 2, 3, 1)[image, rows[:, :, None], cols[:, None, :]]  # (B, H, W, C)
    return F.embedding(moved.int(), torch.as_tensor(table, device=obs.device)[:, None]).squeeze(-1).permute(0, 3, 1, 2)


def scaled(obs: torch.Tensor, table: npt.NDArray[np.float32] = CENTRED) -> torch.Tensor:
    """The images unshifted, as `shifted` returns them."""
    return shifted(obs, torch.zeros((len(obs), 2), dtype=torch.int64, device=obs.device), table)


@numba.njit(cache=True, boundscheck=False)
def _shift_numba(
    obs: npt.NDArray[np.uint8],
    shift: npt.NDArray[np.int64],
    table: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    batch, channels, height, width = obs.shape
    for b in range(batch):
        dy, dx = shift[b]
        for y in range(height):
            row = min(max(y + dy, 0), height - 1)
            for x in range(width):
                col = min(max(x + dx, 0), width - 1)
                for c in range(channels):
                    out[b, y, x, c] = table[obs[b, c, row, col]]
