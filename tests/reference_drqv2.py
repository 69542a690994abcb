"""DrQ-v2's arithmetic as the official code does it: channel-first floats, bilinear shifts, one Adam per network.

Written from the paper (arXiv 2107.09645, section 3 and appendix) and the official settings, sharing nothing with
`baselines.drqv2` and the kit: the test holds the agent's losses and weights against it, the benchmark its speed.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def bilinear_shift(images: torch.Tensor, shift: torch.Tensor, pad: int = 4) -> torch.Tensor:
    """Shift float `(B, C, H, H)` images by `shift - pad` pixels; shift `(B, 2)` in 0..2*pad as (x, y)."""
    size = images.shape[-1] + 2 * pad
    padded = F.pad(images, (pad,) * 4, mode="replicate")
    centres = (torch.arange(images.shape[-1]) * 2 + 1) / size - 1  # of the padded image's first pixels
    ys, xs = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([xs, ys], dim=-1)[None] + (shift.float() * 2 / size)[:, None, None]
    return F.grid_sample(padded, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def exact_shift(images: torch.Tensor, shift: torch.Tensor, pad: int = 4) -> torch.Tensor:
    """The same shift by cropping the padded image."""
    size = images.shape[-1]
    padded = F.pad(images, (pad,) * 4, mode="replicate")
    return torch.stack([p[:, y : y + size, x : x + size] for p, (x, y) in zip(padded, shift.tolist(), strict=True)])


def linear_layers(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ReferenceDrQV2:
    """All tensors are float32; batches are uint8 observations as sampled."""

    def __init__(self, action_dim: int = 1, lr: float = 1e-4, feature_dim: int = 50, hidden_dim: int = 1024) -> None:
        self.encoder = nn.Sequential()
        for channels, stride in ((9, 2), (32, 1), (32, 1), (32, 1)):
            self.encoder.extend([nn.Conv2d(channels, 32, 3, stride), nn.ReLU()])
        self.encoder.append(nn.Flatten())

        def trunk() -> nn.Sequential:
            return nn.Sequential(nn.Linear(32 * 35 * 35, feature_dim), nn.LayerNorm(feature_dim), nn.Tanh())

        self.actor = nn.ModuleDict(
            {"trunk": trunk(), "policy": linear_layers(feature_dim, hidden_dim, hidden_dim, action_dim)}
        )
        q_sizes = (feature_dim + action_dim, hidden_dim, hidden_dim, 1)
        self.critic = nn.ModuleDict({"trunk": trunk(), "q1": linear_layers(*q_sizes), "q2": linear_layers(*q_sizes)})
        self.target = copy.deepcopy(self.critic)
        self.encoder_opt = torch.optim.Adam(self.encoder.parameters(), lr=lr)
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), lr=lr)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images / 255.0 - 0.5)

    def mean_action(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.actor["policy"](self.actor["trunk"](features)))

    @staticmethod
    def q_values(critic: nn.ModuleDict, features: torch.Tensor, action: torch.Tensor) -> list[torch.Tensor]:
        h = torch.cat([critic["trunk"](features), action], dim=1)
        return [critic["q1"](h), critic["q2"](h)]

    @staticmethod
    def act(mean: torch.Tensor, noise: torch.Tensor, stddev: float, clip: float) -> torch.Tensor:
        raw = mean + torch.clamp(noise * stddev, -clip, clip)
        held = raw.detach().clamp(-1 + 1e-6, 1 - 1e-6)
        return raw - raw.detach() + held

    def update(self, batch, shifts, noises, stddev: float, clip: float = 0.3, tau: float = 0.01, shift=bilinear_shift):
        """One step; shifts: two `(B, 2)` in 0..8 (x, y); noises: two standard normal `(B, A)`. Returns both losses."""
        obs, action, reward, discount, next_obs = batch[:5]
        features = self.encode(shift(obs.float(), shifts[0]))
        with torch.no_grad():
            next_features = self.encode(shift(next_obs.float(), shifts[1]))
            next_action = self.act(self.mean_action(next_features), noises[0], stddev, clip)
            target_q = reward + discount * torch.minimum(*self.q_values(self.target, next_features, next_action))
        q1, q2 = self.q_values(self.critic, features, action)
        critic_loss = ((q1 - target_q) ** 2).mean() + ((q2 - target_q) ** 2).mean()
        self.encoder_opt.zero_grad()
        self.critic_opt.zero_grad()
        critic_loss.backward()
        self.critic_opt.step()
        self.encoder_opt.step()
        features = features.detach()
        chosen = self.act(self.mean_action(features), noises[1], stddev, clip)
        actor_loss = -torch.minimum(*self.q_values(self.critic, features, chosen)).mean()
        self.actor_opt.zero_grad()
        actor_loss.backward()
        self.actor_opt.step()
        with torch.no_grad():
            for new, old in zip(self.critic.parameters(), self.target.parameters(), strict=True):
                old.mul_(1 - tau).add_(new, alpha=tau)
        return critic_loss.item(), actor_loss.item()


def episodes_sample(episodes, rng: np.random.Generator, n: int, nstep: int, discount: float):
    """The official replay's way: transitions one by one from stored episodes of whole stacks, then collated."""
    rows = []
    for _ in range(n):
        episode = episodes[rng.integers(len(episodes))]
        i = rng.integers(len(episode["action"]) - nstep + 1)
        reward, factor = np.zeros(1, np.float32), np.ones(1, np.float32)
        for k in range(nstep):
            reward += factor * episode["reward"][i + k]
            factor *= discount * episode["discount"][i + k]
        rows.append((episode["obs"][i], episode["action"][i], reward, factor, episode["obs"][i + nstep]))
    return tuple(torch.stack([torch.as_tensor(x) for x in column]) for column in zip(*rows, strict=True))
