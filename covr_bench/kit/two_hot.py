"""Numbers of any size as a distribution over bins, learned by cross-entropy (Hafner et al. 2023, arXiv 2301.04104)."""

from __future__ import annotations

import torch


def symexp_bins(count: int, largest: float) -> torch.Tensor:
    """`sign(x) * (exp(|x|) - 1)` of `count` evenly spaced x from `-largest` to `largest`, float32 `(count,)`."""
    x = torch.linspace(-largest, largest, count)
    return x.sign() * x.abs().expm1()


def two_hot(value: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Weights of the two bins around each value, of which it is the mean; a value beyond the bins is the last one.

    value: float32 `(n,)`. bins: float32 `(count,)`, rising. Returns float32 `(n, count)`.
    """
    value = value.clamp(bins[0], bins[-1])
    upper = torch.searchsorted(bins, value, right=True).clamp(max=len(bins) - 1)  # no bin is above the largest value
    share = (value - bins[upper - 1]) / (bins[upper] - bins[upper - 1])
    weights = torch.zeros(len(value), len(bins), device=value.device)
    weights.scatter_(1, (upper - 1)[:, None], 1 - share[:, None])
    return weights.scatter_(1, upper[:, None], share[:, None])
