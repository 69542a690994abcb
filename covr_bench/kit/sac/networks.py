"""The SAC family's heads: of the policy, of the twin critics, and of a model of the latent state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from covr_bench.kit.nets import Linear, mlp, orthogonal_init


def feature_head(repr_dim: int, feature_dim: int, tanh: bool) -> nn.Sequential:
    """The linear layer and LayerNorm that read an encoder's features; SAC-AE, DrQ and SVEA end it in tanh."""
    layers: list[nn.Module] = [Linear(repr_dim, feature_dim), nn.LayerNorm(feature_dim)]
    return nn.Sequential(*layers, nn.Tanh()) if tanh else nn.Sequential(*layers)


class SquashedGaussianActor(nn.Module):
    """The SAC-AE family's policy: a Gaussian squashed by tanh (Haarnoja et al. 2018, arXiv 1812.05905, appendix C).

    Its own head reads the encoder's features, which come without gradient. `given` is what else a method lets the
    policy see, `given_dim` numbers.
    """

    LOG_STD = (-10.0, 2.0)

    def __init__(
        self, repr_dim: int, action_dim: int, feature_dim: int, hidden_dim: int, tanh: bool = False, given_dim: int = 0
    ) -> None:
        super().__init__()
        self.head = feature_head(repr_dim, feature_dim, tanh)
        self.policy = mlp(feature_dim + given_dim, hidden_dim, hidden_dim, 2 * action_dim)
        orthogonal_init(self)

    def forward(self, features: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the standard deviation before squashing, each `(B, A)`."""
        mean, log_std = self.policy(torch.cat([self.head(features), *given], dim=-1)).chunk(2, dim=-1)
        low, high = self.LOG_STD
        return mean, low + 0.5 * (high - low) * (torch.tanh(log_std) + 1)

    def sample(self, features: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A reparameterised action `(B, A)` in [-1, 1] and its log density `(B, 1)` in nats."""
        mean, log_std = self(features, *given)
        noise = torch.randn_like(mean)
        before = mean + noise * log_std.exp()
        action = torch.tanh(before)
        log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return action, (log_density - self.log_slope(before, action)).sum(dim=-1, keepdim=True)

    def log_slope(self, before: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Logarithm of the derivative of tanh where it took `before` to `action`; bounded, as SAC-AE has it."""
        return torch.log(F.relu(1 - action.square()) + 1e-6)


class TwinCritic(nn.Module):
    """Two Q functions on one head that reads the encoder's features (the SAC-AE family)."""

    def __init__(self, repr_dim: int, action_dim: int, feature_dim: int, hidden_dim: int, tanh: bool = False) -> None:
        super().__init__()
        self.head = feature_head(repr_dim, feature_dim, tanh)
        self.q1 = mlp(feature_dim + action_dim, hidden_dim, hidden_dim, 1)
        self.q2 = mlp(feature_dim + action_dim, hidden_dim, hidden_dim, 1)
        orthogonal_init(self)

    def forward(self, features: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both Q values, each `(B, 1)`."""
        h = torch.cat([self.head(features), action], dim=-1)
        return self.q1(h), self.q2(h)


def model_head(size_in: int, width: int, size_out: int) -> nn.Sequential:
    """One hidden layer of `width` with LayerNorm and ReLU: what predicts a latent state or a reward."""
    return nn.Sequential(Linear(size_in, width), nn.LayerNorm(width), nn.ReLU(), Linear(width, size_out))
