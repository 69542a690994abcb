"""SAC-AE-family arithmetic as the official codes do it: whole networks, nothing shared but the convolutions' weights.

Written from the papers (SAC 1812.05905 with appendix C, SAC-AE 1910.01741, RAD 2004.14990, DeepMDP 1906.02736 as in
2006.10742, CURL 2004.04136, DrQ 2004.13649, SVEA 2107.00644, ResAct of AAAI 2025) and the published settings, sharing
nothing with `baselines`: the tests hold losses and weights against it, the benchmark its speed. Channel-first floats,
one Adam per network, gradients computed whether used or not.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

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
    """scale: what bytes are divided by in every pass, as CURL's and DrQ's encoders do; 1 where they come divided."""

    def __init__(
        self,
        side: int,
        feature_dim: int,
        layers: int = 4,
        last_relu: bool = True,
        tanh: bool = False,
        scale: float = 1.0,
        filters: int = 32,
    ) -> None:
        super().__init__()
        self.scale, self.filters = scale, filters
        self.convs = self.new_convs(layers)
        self.last_relu, self.tanh = last_relu, tanh
        self.out_side = (side - 3) // 2 + 1 - 2 * (layers - 1)
        self.fc = nn.Linear(filters * self.out_side**2, feature_dim)
        self.ln = nn.LayerNorm(feature_dim)

    def new_convs(self, layers: int) -> nn.ModuleList:
        n = self.filters
        return nn.ModuleList([nn.Conv2d(9, n, 3, 2)] + [nn.Conv2d(n, n, 3) for _ in range(layers - 1)])

    def convolved(self, pixels: torch.Tensor, convs: nn.ModuleList) -> torch.Tensor:
        h = pixels if self.scale == 1 else pixels / self.scale
        for i, conv in enumerate(convs):
            h = conv(h)
            if i < len(convs) - 1 or self.last_relu:
                h = torch.relu(h)
        return h.flatten(1)

    def features(self, pixels) -> torch.Tensor:
        return self.convolved(pixels, self.convs)

    def forward(self, pixels, detach: bool = False) -> torch.Tensor:
        h = self.features(pixels)
        h = self.ln(self.fc(h.detach() if detach else h))
        return torch.tanh(h) if self.tanh else h


class DifferenceEncoder(Encoder):
    """ResAct's: of a pair (previous stack, current stack)."""

    def __init__(self, side: int, feature_dim: int) -> None:
        super().__init__(side, feature_dim)
        self.prev_convs = self.new_convs(4)

    def features(self, pixels) -> torch.Tensor:
        previous, current = pixels
        return self.convolved(current, self.convs) - self.convolved(previous, self.prev_convs)


class Actor(nn.Module):
    def __init__(self, encoder: Encoder, inputs: int, hidden_dim: int, action_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.trunk = linear_layers(inputs, hidden_dim, hidden_dim, 2 * action_dim)

    def forward(self, pixels, noise: torch.Tensor, detach: bool = False):
        """A squashed Gaussian action and its log probability, the density of tanh by the change of variables."""
        mean, raw = self.trunk(self.encoder(pixels, detach)).chunk(2, dim=1)
        return self.squashed(mean, raw, noise)

    def squashed(self, mean: torch.Tensor, raw: torch.Tensor, noise: torch.Tensor):
        std = torch.exp(-10 + (2 - -10) * (torch.tanh(raw) + 1) / 2)
        before = mean + std * noise
        normal = -((before - mean) ** 2) / (2 * std**2) - torch.log(std) - math.log(math.sqrt(2 * math.pi))
        return torch.tanh(before), (normal - self.log_jacobian(before)).sum(1, keepdim=True)

    def log_jacobian(self, before: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.relu(1 - torch.tanh(before) ** 2) + 1e-6)


class ExactActor(Actor):
    """DrQ's: the derivative of tanh is 1 / cosh^2."""

    def log_jacobian(self, before: torch.Tensor) -> torch.Tensor:
        return -2 * (torch.logaddexp(before, -before) - math.log(2))


class ResidualActor(Actor):
    """ResAct's: pixels is (pair of stacks, previous action); the residual is drawn, then added to that action."""

    def forward(self, pixels, noise: torch.Tensor, detach: bool = False):
        pair, previous = pixels
        residual, raw = self.trunk(torch.cat([self.encoder(pair, detach), previous], dim=1)).chunk(2, dim=1)
        return self.squashed(previous + residual, raw, noise)


class Critic(nn.Module):
    def __init__(self, encoder: Encoder, feature_dim: int, hidden_dim: int, action_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.q1 = linear_layers(feature_dim + action_dim, hidden_dim, hidden_dim, 1)
        self.q2 = linear_layers(feature_dim + action_dim, hidden_dim, hidden_dim, 1)

    def forward(self, pixels, action: torch.Tensor, detach: bool = False):
        h = torch.cat([self.encoder(pixels, detach), action], dim=1)
        return self.q1(h), self.q2(h)


def moving_average(online: nn.Module, target: nn.Module, tau: float) -> None:
    with torch.no_grad():
        for new, old in zip(online.parameters(), target.parameters(), strict=True):
            old.copy_(tau * new + (1 - tau) * old)


class ReferenceSAC:
    """Pixels come as float32 in [0, 1], already augmented."""

    actor_class = Actor

    def __init__(
        self,
        side: int = 84,
        action_dim: int = 1,
        lr: float = 1e-3,
        feature_dim: int = 50,
        hidden_dim: int = 1024,
        encoder: Any = Encoder,
        given: int = 0,
        **shape: Any,
    ) -> None:
        encoders = [encoder(side, feature_dim, **shape) for _ in range(2)]
        self.actor = self.actor_class(encoders[0], feature_dim + given, hidden_dim, action_dim)
        self.critic = Critic(encoders[1], feature_dim, hidden_dim, action_dim)
        self.target = copy.deepcopy(self.critic)
        for name in ("convs", "prev_convs"):
            for mine, theirs in zip(*(getattr(e, name, ()) for e in encoders), strict=True):
                mine.weight, mine.bias = theirs.weight, theirs.bias
        self.log_alpha = torch.tensor(math.log(0.1), requires_grad=True)
        self.target_entropy = -action_dim
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), lr=lr)
        self.alpha_opt = torch.optim.Adam([self.log_alpha], lr=1e-4, betas=(0.5, 0.999))

    def update_critic(self, obs, action, reward, discount, next_obs, noise) -> float:
        with torch.no_grad():
            next_action, log_pi = self.policy(next_obs, noise)
            q1, q2 = self.target(next_obs, next_action)
            y = reward + discount * (torch.minimum(q1, q2) - self.log_alpha.exp() * log_pi)
        loss = self.critic_loss(obs, action, y)
        self.critic_opt.zero_grad()
        loss.backward()
        self.critic_opt.step()
        return loss.item()

    def policy(self, obs, noise, **options):
        return self.actor(obs, noise, **options)

    def critic_loss(self, obs, action, y) -> torch.Tensor:
        q1, q2 = self.critic(obs, action)
        return ((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()

    def update_actor_and_alpha(self, obs, noise) -> tuple[float, float]:
        action, log_pi = self.policy(obs, noise, detach=True)
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

    decay = 1e-7

    def __init__(
        self,
        side: int = 84,
        action_dim: int = 1,
        lr: float = 1e-3,
        feature_dim: int = 50,
        hidden_dim: int = 1024,
        encoder_lr: float = 1e-3,
        **shape: Any,
    ) -> None:
        super().__init__(side, action_dim, lr, feature_dim, hidden_dim, **shape)

        def model(outputs: int) -> nn.Sequential:
            size = feature_dim + action_dim
            return nn.Sequential(nn.Linear(size, 512), nn.LayerNorm(512), nn.ReLU(), nn.Linear(512, outputs))

        self.transition, self.reward = model(feature_dim), model(1)
        self.encoder_opt = torch.optim.Adam(self.critic.encoder.parameters(), lr=encoder_lr)
        models = [*self.transition.parameters(), *self.reward.parameters()]
        self.model_opt = torch.optim.Adam(models, lr=1e-3, weight_decay=self.decay)

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


class ReferencePER(ReferenceSAC):
    """Transitions end with importance weights; keeps the error of each transition."""

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        *transitions, self.weight = transitions
        return super().update(transitions, noises, even)

    def critic_loss(self, obs, action, y) -> torch.Tensor:
        q1, q2 = self.critic(obs, action)
        self.error = ((q1 - y).abs() + (q2 - y).abs()).detach()[:, 0] / 2
        return (self.weight * (q1 - y) ** 2).mean() + (self.weight * (q2 - y) ** 2).mean()


class ReferenceCURL(ReferenceSAC):
    """Transitions end with another crop of obs; two optimisers own the query's encoder, both step."""

    def __init__(self, *args: Any, lr: float = 1e-3, feature_dim: int = 50, **sizes: Any) -> None:
        super().__init__(*args, lr=lr, feature_dim=feature_dim, **sizes)
        self.bilinear = torch.rand(feature_dim, feature_dim, requires_grad=True)
        self.encoder_opt = torch.optim.Adam(self.critic.encoder.parameters(), lr=lr)
        self.cpc_opt = torch.optim.Adam([*self.critic.encoder.parameters(), self.bilinear], lr=lr)

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        *transitions, positive = transitions
        losses = super().update(transitions, noises, even)
        return losses | {"contrastive_loss": self.update_contrast(transitions[0], positive)}

    def update_contrast(self, anchor, positive) -> float:
        queries = self.critic.encoder(anchor)
        with torch.no_grad():
            keys = self.target.encoder(positive)
        similarities = queries @ (self.bilinear @ keys.T)  # row: a query, column: a key
        similarities = similarities - similarities.max(dim=1, keepdim=True).values
        own = similarities.diagonal().exp() / similarities.exp().sum(dim=1)
        loss = -torch.log(own).mean()
        self.encoder_opt.zero_grad()
        self.cpc_opt.zero_grad()
        loss.backward()
        self.encoder_opt.step()
        self.cpc_opt.step()
        return loss.item()


class ReferenceDrQ(ReferenceSAC):
    """obs and next_obs are pairs of views; three noises."""

    actor_class = ExactActor

    def __init__(self, side: int = 84, action_dim: int = 1, hidden_dim: int = 1024, scale: float = 1.0) -> None:
        super().__init__(side, action_dim, hidden_dim=hidden_dim, tanh=True, scale=scale)
        self.alpha_opt = torch.optim.Adam([self.log_alpha], lr=1e-3)

    def update_critic(self, views, action, reward, discount, next_views, *noises) -> float:
        targets = []
        for view, noise in zip(next_views, noises, strict=True):
            with torch.no_grad():
                next_action, log_pi = self.actor(view, noise)
                q1, q2 = self.target(view, next_action)
                value = torch.minimum(q1, q2) - self.log_alpha.exp() * log_pi
                targets.append(reward + discount * value)
        y = (targets[0] + targets[1]) / 2
        loss = torch.zeros(())
        for view in views:
            for q in self.critic(view, action):
                loss = loss + ((q - y) ** 2).mean()
        self.critic_opt.zero_grad()
        loss.backward()
        self.critic_opt.step()
        return loss.item()

    def update_target(self) -> None:
        moving_average(self.critic, self.target, 0.01)

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        losses = {"critic_loss": self.update_critic(*transitions, *noises[:2])}
        if even:
            losses["actor_loss"], losses["alpha_loss"] = self.update_actor_and_alpha(transitions[0][0], noises[2])
            self.update_target()
        return losses


class ReferenceSVEA(ReferenceSAC):
    """Transitions end with obs convolved; 11 convolutions, a ReLU between each two."""

    def __init__(self, side: int = 84, action_dim: int = 1, lr: float = 1e-3, hidden_dim: int = 1024) -> None:
        shape = {"layers": 11, "last_relu": False, "tanh": True}
        super().__init__(side, action_dim, lr, feature_dim=100, hidden_dim=hidden_dim, **shape)

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        *transitions, self.convolved = transitions
        return super().update(transitions, noises, even)

    def critic_loss(self, obs, action, y) -> torch.Tensor:
        """Both halves in one batch, as the official code has it where the weights are equal."""
        q1, q2 = self.critic(torch.cat([obs, self.convolved]), torch.cat([action, action]))
        y = torch.cat([y, y])
        return ((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()


class ReferenceResAct(ReferenceDeepMDP):
    """obs and next_obs are pairs of stacks; transitions end with the previous action."""

    actor_class = ResidualActor
    decay = 0.0

    def __init__(self, side: int = 108, action_dim: int = 1, **sizes: Any) -> None:
        super().__init__(side, action_dim, encoder=DifferenceEncoder, given=action_dim, **sizes)

    def update(self, transitions, noises, even: bool = True) -> dict[str, float]:
        obs, action, reward, discount, next_obs, previous_action = transitions
        self.given_next, self.given = action, previous_action
        return super().update((obs, action, reward, discount, next_obs), noises, even)

    def policy(self, obs, noise, **options):
        given = self.given if options.get("detach") else self.given_next
        return self.actor((obs, given), noise, **options)


class ReferencePrediction:
    """SPR's and MLR's auxiliary step; `reconstruct` and its parameters are the method's own."""

    def __init__(self, side: int, model: nn.Module, reconstruct: Any, lr: float = 5e-4, filters: int = 64) -> None:
        self.encoder = Encoder(side, 50, filters=filters)
        self.target_encoder = copy.deepcopy(self.encoder)
        self.model, self.reconstruct = model, reconstruct
        self.projector, self.predictor, self.target_projector = (linear_layers(50, 100, 50) for _ in range(3))
        parts = (self.encoder, model, self.projector, self.predictor)
        self.parameters = [p for part in parts for p in part.parameters()]
        self.opt = torch.optim.Adam(self.parameters, lr=lr)

    def update(self, seen, targets, action, weight: float = 1.0) -> float:
        """seen, targets: pixels `(T, B, C, H, W)`, already augmented."""
        latents = torch.stack([self.encoder(frame) for frame in seen])
        predicted = self.predictor(self.projector(self.reconstruct(self.model, latents, action)))
        with torch.no_grad():
            aimed = torch.stack([self.target_projector(self.target_encoder(frame)) for frame in targets])
        # Unit length, but for vectors that are nearly zero: those of the small initial weights are.
        predicted, aimed = (v / v.norm(dim=-1, keepdim=True).clamp(min=1e-3) for v in (predicted, aimed))
        loss = weight * ((predicted - aimed) ** 2).sum(-1).mean()
        self.opt.zero_grad()
        loss.backward()
        total = torch.sqrt(sum((p.grad**2).sum() for p in self.parameters))
        for p in self.parameters:
            p.grad *= min(1.0, 10 / (float(total) + 1e-6))
        self.opt.step()
        return loss.item()

    def update_targets(self, tau: float) -> None:
        moving_average(self.encoder, self.target_encoder, tau)
        moving_average(self.projector, self.target_projector, tau)


class ReferenceReplay:
    """Whole stacks of s and s' side by side, as the official codes store them."""

    def __init__(self, obs: np.ndarray, next_obs: np.ndarray, action_dim: int = 1, scale: float = 255.0) -> None:
        self.obs, self.next_obs, self.scale = obs, next_obs, scale
        self.action = np.random.default_rng(0).uniform(-1, 1, (len(obs), action_dim)).astype(np.float32)
        self.reward = np.ones((len(obs), 1), np.float32)

    def sample(self, rng: np.random.Generator, n: int, augmentation: str, window: int):
        """A batch as the networks get it: augmentation `none`, `crop`, `translate`, or `curl` and `drq` for theirs."""
        at = rng.integers(len(self.obs), size=n)
        obs, next_obs = self.obs[at], self.next_obs[at]
        room = obs.shape[-1] - window + 1
        if augmentation in ("crop", "curl"):
            stacks = (obs, next_obs, obs) if augmentation == "curl" else (obs, next_obs)
            images = [self.floats(crop(stack, rng.integers(0, room, (n, 2)), window)) for stack in stacks]
        elif augmentation == "translate":
            corners = rng.integers(0, room, (n, 2))
            images = [self.floats(translate(stack, corners, window)) for stack in (obs, next_obs)]
        elif augmentation == "drq":
            images = [[shift(self.floats(stack), rng, 4) for _ in range(2)] for stack in (obs, next_obs)]
        else:
            images = [self.floats(obs), self.floats(next_obs)]
        action, reward = torch.as_tensor(self.action[at]), torch.as_tensor(self.reward[at])
        return images[0], action, reward, torch.full_like(reward, 0.99), *images[1:]

    def floats(self, images: np.ndarray) -> torch.Tensor:
        pixels = torch.as_tensor(images).float()
        return pixels if self.scale == 1 else pixels / self.scale


def shift(images: torch.Tensor, rng: np.random.Generator, pad: int) -> torch.Tensor:
    """Padded with edge pixels, then cut out at a random place."""
    side = images.shape[-1]
    padded = nn.functional.pad(images, [pad] * 4, mode="replicate").numpy()
    return torch.as_tensor(crop(padded, rng.integers(0, 2 * pad + 1, (len(images), 2)), side))
