"""Network parts and update steps that several agents share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class PixelEncoder(nn.Module):
    """Four 3x3 convolutions of 32 filters, strides 2, 1, 1, 1, ReLU after each (the SAC-AE family's encoder).

    Takes float32 `(B, C, H, W)` in channels-last memory, returns `(B, out_dim)`; 84x84 gives 39200. Features are
    flattened in (row, column, filter) order, a view in that memory layout; official code flattens (filter, row,
    column), so a linear layer that follows has its columns permuted against it.

    conv_kernel: `torch`, or `winograd` for the compiled CPU kernel (same mathematics, not bit-equal).
    """

    def __init__(self, obs_shape: tuple[int, int, int], conv_kernel: str = "torch") -> None:
        super().__init__()
        channels, height, width = obs_shape
        strides = (2, 1, 1, 1)
        self.convs = nn.ModuleList(nn.Conv2d(32 if i else channels, 32, 3, stride) for i, stride in enumerate(strides))
        for stride in strides:
            height, width = (height - 3) // stride + 1, (width - 3) // stride + 1
        self.out_dim = 32 * height * width
        self.conv_kernel = conv_kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, conv in enumerate(self.convs):
            x = conv_relu(x, conv, self.conv_kernel if i else "torch")
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def conv_relu(x: torch.Tensor, conv: Any, kernel: str) -> torch.Tensor:
    """relu(conv(x)); on a CPU in one pass over memory."""
    if x.device.type != "cpu":
        return F.relu(conv(x), inplace=True)
    if kernel == "winograd":
        from covr_bench.winograd import conv3x3_relu

        return conv3x3_relu(x, conv.weight, conv.bias)
    return _ConvReLU.apply(x, conv.weight, conv.bias, conv.stride)  # type: ignore[no-any-return,no-untyped-call]


class _ConvReLU(torch.autograd.Function):
    """oneDNN's convolution with ReLU as its last step, which saves writing and reading the pre-activation."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: tuple[int, int]) -> Any:
        y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, [0, 0], stride, [1, 1], 1, "relu", [], None)
        ctx.save_for_backward(x, weight, y)
        ctx.stride = stride
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, y = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        needs = list(ctx.needs_input_grad[:3])
        return *torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], ctx.stride, [0, 0], [1, 1], False, [0, 0], 1, needs
        ), None


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these widths with a ReLU between each two."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        layers += [nn.Linear(width_in, width_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def orthogonal_init(module: nn.Module) -> None:
    """Orthogonal weights and zero biases; gain sqrt(2) for convolutions, 1 for linear layers (DrQ, DrQ-v2)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(part.weight, 2**0.5 if isinstance(part, nn.Conv2d) else 1.0)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) * target + tau * online, parameter by parameter."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)


def adam(parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """torch's Adam, its update fused into one pass."""
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)


def linear_schedule(step: int, start: float, end: float, duration: int) -> float:
    """From `start` at step 0 to `end` at step `duration`, constant after."""
    mix = min(max(step / duration, 0.0), 1.0)
    return (1.0 - mix) * start + mix * end
