"""Network parts and update steps that several agents share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from covr_bench.kit import winograd
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PART = 256  # samples whose intermediate results are in memory at once: all of an ordinary batch


class PixelEncoder(nn.Module):
    """3x3 convolutions, strides 2, 1, 1, 1, ReLU after each: four of 32 filters in the SAC-AE family.

    Takes float32 `(B, C, H, W)` in channels-last memory, returns `(B, out_dim)`; 84x84 gives 39200. Features are
    flattened in (row, column, filter) order, a view in that memory layout; official code flattens (filter, row,
    column), so a linear layer that follows has its columns permuted against it.

    kernel: an agent hands on its `Context.conv_kernel`. `winograd` serves 32 filters of 32 and 64 of 64 on a CPU,
    with the same mathematics but not bit-equal; all else is torch's. Raises ValueError for another name.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        *,
        kernel: str,
        layers: int = 4,
        filters: int = 32,
        last_relu: bool = True,
    ) -> None:
        super().__init__()
        if kernel not in winograd.KERNELS:
            raise ValueError(f"unknown convolution kernel {kernel!r}; valid: {', '.join(winograd.KERNELS)}")
        self.kernel = kernel
        channels, height, width = obs_shape
        strides = (2, *[1] * (layers - 1))
        self.convs = nn.ModuleList(
            nn.Conv2d(filters if i else channels, filters, 3, stride) for i, stride in enumerate(strides)
        )
        check_size(obs_shape, strides)
        for stride in strides:
            height, width = (height - 3) // stride + 1, (width - 3) // stride + 1
        self.out_dim = filters * height * width
        self.last_relu = last_relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *inner, last = self.convs
        for conv in inner:
            x = conv_relu(x, conv, self.kernel)
        x = conv_relu(x, last, self.kernel) if self.last_relu else last(x)
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)


def check_size(obs_shape: tuple[int, ...], strides: Sequence[int]) -> None:
    """Raise UserError for frames, `(C, H, W)`, of which 3x3 convolutions with these strides leave nothing."""
    least = 1
    for stride in reversed(strides):
        least = (least - 1) * stride + 3
    if min(obs_shape[1:]) < least:
        height, width = obs_shape[1:]
        raise UserError(
            f"frames of {height} by {width} pixels are too small for this agent's {len(strides)} convolutions, which "
            f"need {least} by {least}: give a larger image_size, or env.image_size"
        )


def conv_relu(x: torch.Tensor, conv: Any, kernel: str) -> torch.Tensor:
    """relu(conv(x)) of `(B, C, H, W)`; on a CPU in one pass over memory, by that kernel where it can."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.relu(conv(x), inplace=True)
    if kernel == "winograd" and winograd.serves(conv):
        rows, columns = conv.padding
        padded = F.pad(x, [columns, columns, rows, rows]) if rows or columns else x
        return winograd.conv3x3_relu(padded, conv.weight, conv.bias)
    return _ConvReLU.apply(x, conv.weight, conv.bias, conv.stride, conv.padding)  # type: ignore[no-any-return,no-untyped-call]


class _ConvReLU(torch.autograd.Function):
    """oneDNN's convolution with ReLU as its last step, which saves writing and reading the pre-activation."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Any:
        y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, [1, 1], 1, "relu", [], None)
        ctx.save_for_backward(x, weight, y)
        ctx.stride, ctx.padding = stride, padding
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight, y = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0)
        needs = list(ctx.needs_input_grad[:3])
        return (
            *torch.ops.aten.convolution_backward(
                grad, x, weight, [len(weight)], ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, needs
            ),
            None,
            None,
        )


class Linear(nn.Linear):
    """`nn.Linear` with its float32 products on a CPU by oneDNN instead of MKL.

    MKL keeps to AVX2 on CPUs that are not Intel's. Where they have AVX-512, oneDNN is twice as fast; the results differ
    by rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ours = x.dim() == 2 and len(x) and x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if not ours or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return super().forward(x)
        return _Linear.apply(x, self.weight, self.bias)  # type: ignore[no-any-return,no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.t()) if needs_x else None,
            _product(grad.t(), x.t()) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`a b^T + bias` of matrices."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], None)
    return result


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these widths with a ReLU between each two."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        layers += [Linear(width_in, width_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def normed_mlp(*sizes: int, activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of these widths; a LayerNorm without weights and the activation between each two."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        layers += [Linear(width_in, width_out), nn.LayerNorm(width_out, elementwise_affine=False), activation()]
    return nn.Sequential(*layers[:-2])


def xavier_init(module: nn.Module) -> None:
    """Uniform weights after Glorot and Bengio 2010 with ReLU's gain, sqrt(2), and zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight, nn.init.calculate_gain("relu"))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def orthogonal_init(module: nn.Module) -> None:
    """Orthogonal weights and zero biases; gain sqrt(2) for convolutions, 1 for linear layers (DrQ, DrQ-v2)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(part.weight, 2**0.5 if isinstance(part, nn.Conv2d) else 1.0)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def delta_orthogonal_init(module: nn.Module) -> None:
    """As `orthogonal_init`, but a convolution starts as an orthogonal matrix at its centre tap, zero elsewhere.

    Xiao et al. 2018 (arXiv 1806.05393); the SAC-AE family's initialisation.
    """
    orthogonal_init(module)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            middle = part.weight.shape[-1] // 2
            nn.init.zeros_(part.weight)
            nn.init.orthogonal_(part.weight.data[:, :, middle, middle], 2**0.5)


@torch.no_grad()
def soft_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) * target + tau * online, parameter by parameter."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)


def adam(
    parameters: Iterable[nn.Parameter],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> torch.optim.Adam:
    """torch's Adam, its update fused into one pass; weight_decay is L2, added to the gradient."""
    return torch.optim.Adam(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def backward_in_parts(loss: Callable[..., tuple[torch.Tensor, ...]], *batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Backpropagate a mean over samples; a large batch is gone through in parts, of which only one is in memory.

    Gradients of the parts add up to those of the whole, up to rounding; a batch of `PART` samples or fewer is one part.

    Args:
        loss: Of some of the samples: their mean loss, and what else is wanted of them, each `(n, ...)`.
        *batch: What `loss` takes, each `(B, ...)`.

    Returns:
        The mean loss of the whole batch, then what else `loss` returned, each `(B, ...)`; all without gradient.
    """
    losses, others = [], []
    for part in zip(*(torch.split(whole, PART) for whole in batch), strict=True):
        mean, *rest = loss(*part)
        share = mean * (len(part[0]) / len(batch[0]))
        share.backward()  # type: ignore[no-untyped-call]
        losses.append(share.detach())
        others.append([other.detach() for other in rest])
    if len(losses) == 1:
        return losses[0], *others[0]
    return torch.stack(losses).sum(), *map(torch.cat, zip(*others, strict=True))


def linear_schedule(step: int, start: float, end: float, duration: int) -> float:
    """From `start` at step 0 to `end` at step `duration`, constant after."""
    mix = min(max(step / duration, 0.0), 1.0)
    return (1.0 - mix) * start + mix * end
