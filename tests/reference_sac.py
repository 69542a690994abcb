"""SAC-AE-family arithmetic as the official codes do it: whole networks, nothing shared but the convolutions' weights.

Written from the papers (SAC 1812.05905 with appendix C, SAC-AE 1910.01741, RAD 2004.14990, DeepMDP 1906.02736 as in
2006.10742) and the published settings, sharing nothing with `baselines`: the tests hold losses and weights against it,
the benchmark its speed. Channel-first floats, one Adam per network, gradients computed whether used or not.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn


def crop(images: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """uint8 `(B, C, H, W)`, corners `(B, 2)` as (y, x): one image at a time."""
    return np.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)])


def translate(images: np.ndarray, corners: np.ndarray, size: int) -> np.ndarray:
    """The central `size` pixels put on a black image of the old size."""
    margin = (images.shape[-1] - size) // 2
    canvas = np.zeros_like(images)
    for b, (y, x) in enumerate(corners):
        canvas[b, :, y : y + size, x : x + size] = images[b, :, margin : margin + size, margin : margin + size]
    return canvas


def linear_layers(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    def __init__(self, side: int, feature_dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(9, 32, 3, 2)] + [nn.Conv2d(32, 32, 3) for _ in range(3)])
        self.out_side = (side - 3) // 2 + 1 - 6
        self.fc = nn.Linear(32 * self.out_side**2, feature_dim)
        self.ln = nn.LayerNorm(feature_dim)

    def forward(self, pixels: torch.Tensor, detach: bool = False) -> torch.Tensor:
        h = pixels
        for conv in self.convs:
            h = torch.relu(conv(h))
        h = h.flatten(1)
        return self.ln(self.fc(h.detach() if detach else h))


class Actor(nn.Module):
    def __init__(self, side: int, feature_dim: int, hidden_dim: int, action_dim: int) -> None:
        super().__init__()
        self.encoder = Encoder(side, feature_dim)
        self.trunk = linear_layers(feature_dim, hidden_dim, hidden_dim, 2 * action_dim)

    def forward(self, pixels: torch.Tensor, noise: torch.Tensor, detach: bool = False):
        """A squashed Gaussian action and its log probability, the density of tanh by the change of variables."""
        mean, raw = self.trunk(self.encoder(pixels, detach)).chunk(2, dim=1)
        std = torch.exp(-10 + (2 - -10) * (torch.tanh(raw) + 1) / 2)
        before = mean + std * noise
        normal = -((before - mean) ** 2) / (2 * std**2) - torch.log(std) - math.log(math.sqrt(2 * math.pi))
        action = torch.tanh(before)
        jacobian = torch.log(torch.relu(1 - action**2) + 1e-6)
        return action, (normal - jacobian).sum(1, keepdim=True)


class Critic(nn.Module):
    def __init__(self, side: int, feature_dim: int, hidden_dim: int, action_dim: int) -> None:
        super().__init__()
        self.encoder = Encoder(side, feature_dim)
        self.q1 = linear_layers(feature_dim + action_dim, hidden_dim, hidden_dim, 1)
        self.q2 = linear_layers(feature_dim + action_dim, hidden_dim, hidden_dim, 1)

    def forward(self, pixels: torch.Tensor, action: torch.Tensor, detach: bool = False):
        h = torch.cat([self.encoder(pixels, detach), action], dim=1)
        return self.q1(h), self.q2(h)


def moving_average(online: nn.Module, target: nn.Module, tau: float) -> None:
    with torch.no_grad():
        for new, old in zip(online.parameters(), target.parameters(), strict=True):
            old.copy_(tau * new + (1 - tau) * old)


class ReferenceSAC:
    """Pixels come as float32 in [0, 1], already augmented."""

    def __init__(
        self, side: int = 84, action_dim: int = 1, lr: float = 1e-3, feature_dim: int = 50, hidden_dim: int = 1024
    ) -> None:
        sizes = (side, feature_dim, hidden_dim, action_dim)
        self.actor, self.critic = Actor(*sizes), Critic(*sizes)
        self.target = copy.deepcopy(self.critic)
        for mine, theirs in zip(self.actor.encoder.convs, self.critic.encoder.convs, strict=True):
            mine.weight, mine.bias = theirs.weight, theirs.bias
        self.log_alpha = torch.tensor(math.log(0.1), requires_grad=True)
        self.target_entropy = -action_dim
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), lr=lr)
        self.alpha_opt = torch.optim.Adam([self.log_alpha], lr=1e-4, betas=(0.5, 0.999))

    def update_critic(self, obs, action, reward, discount, next_obs, noise) -> float:
        with torch.no_grad():
            next_action, log_pi = self.actor(next_obs, noise)
            q1, q2 = self.target(next_obs, next_action)
            y = reward + discount * (torch.minimum(q1, q2) - self.log_alpha.exp() * log_pi)
        q1, q2 = self.critic(obs, action)
        loss = ((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()
        self.critic_opt.zero_grad()
        loss.backward()
        self.critic_opt.step()
        return loss.item()

    def update_actor_and_alpha(self, obs, noise) -> tuple[float, float]:
        action, log_pi = self.actor(obs, noise, detach=True)
        q1, q2 = self.critic(obs, action, detach=True)
        loss = (self.log_alpha.exp().detach() * log_pi - torch.minimum(q1, q2)).mean()
        self.actor_opt.zero_grad()
        loss.backward()
        self.actor_opt.step()
        alpha_loss = (self.log_alpha.exp() * (-log_pi - self.target_entropy).detach()).mean()
        self.alpha_opt.zero_grad()
        alpha_loss.backward()
        self.alpha_opt.step()
        return loss.item(), alpha_loss.item()

    def update_target(self) -> None:
        moving_average(self.critic.q1, self.target.q1, 0.01)
        moving_average(self.critic.q2, self.target.q2, 0.01)
        moving_average(self.critic.encoder, self.target.encoder, 0.05)

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        """One step; transitions: obs, action, reward, discount, next_obs; noises: two standard normal `(B, A)`."""
        losses = {"critic_loss": self.update_critic(*transitions, noises[0])}
        losses |= self.update_model(*transitions)
        if even:
            losses["actor_loss"], losses["alpha_loss"] = self.update_actor_and_alpha(transitions[0], noises[1])
            self.update_target()
        return losses

    def update_model(self, obs, action, reward, discount, next_obs) -> dict[str, float]:
        return {}


class ReferenceDeepMDP(ReferenceSAC):
    """With transition and reward model; the encoder has a second Adam for their loss."""

    def __init__(self, side: int = 84, action_dim: int = 1, feature_dim: int = 50, hidden_dim: int = 1024) -> None:
        super().__init__(side, action_dim, 1e-3, feature_dim, hidden_dim)

        def model(outputs: int) -> nn.Sequential:
            size = feature_dim + action_dim
            return nn.Sequential(nn.Linear(size, 512), nn.LayerNorm(512), nn.ReLU(), nn.Linear(512, outputs))

        self.transition, self.reward = model(feature_dim), model(1)
        self.encoder_opt = torch.optim.Adam(self.critic.encoder.parameters(), lr=1e-3)
        models = [*self.transition.parameters(), *self.reward.parameters()]
        self.model_opt = torch.optim.Adam(models, lr=1e-3, weight_decay=1e-7)

    def update_model(self, obs, action, reward, discount, next_obs) -> dict[str, float]:
        z, next_z = self.critic.encoder(obs), self.critic.encoder(next_obs).detach()
        pair = torch.cat([z, action], dim=1)
        transition_loss = (0.5 * (self.transition(pair) - next_z) ** 2).mean()  # sigma is 1, its logarithm 0
        reward_loss = ((self.reward(pair) - reward) ** 2).mean()
        self.encoder_opt.zero_grad()
        self.model_opt.zero_grad()
        (transition_loss + reward_loss).backward()
        self.encoder_opt.step()
        self.model_opt.step()
        return {"transition_loss": transition_loss.item(), "reward_loss": reward_loss.item()}


class ReferenceReplay:
    """Whole stacks of s and s' side by side, as the official codes store them."""

    def __init__(self, obs: np.ndarray, next_obs: np.ndarray, action_dim: int = 1) -> None:
        self.obs, self.next_obs = obs, next_obs
        self.action = np.random.default_rng(0).uniform(-1, 1, (len(obs), action_dim)).astype(np.float32)
        self.reward = np.ones((len(obs), 1), np.float32)

    def sample(self, rng: np.random.Generator, n: int, augmentation: str, window: int):
        """A batch as network input: augmentation `none`, `crop` or `translate`."""
        at = rng.integers(len(self.obs), size=n)
        obs, next_obs = self.obs[at], self.next_obs[at]
        if augmentation == "crop":
            corners = rng.integers(0, obs.shape[-1] - window + 1, (2, n, 2))
            obs, next_obs = crop(obs, corners[0], window), crop(next_obs, corners[1], window)
        elif augmentation == "translate":
            corners = rng.integers(0, obs.shape[-1] - window + 1, (n, 2))
            obs, next_obs = translate(obs, corners, window), translate(next_obs, corners, window)
        obs, next_obs = (torch.as_tensor(x).float() / 255.0 for x in (obs, next_obs))
        action, reward = torch.as_tensor(self.action[at]), torch.as_tensor(self.reward[at])
        return obs, action, reward, torch.full_like(reward, 0.99), next_obs
