"""MR.Q: Q-learning on features that were trained to predict the next features, the reward and the end of the episode.

Fujimoto, D'Oro, Zhang, Tian, Rabbat: Towards General-Purpose Model-Free Reinforcement Learning, ICLR 2025 (arXiv
2501.16142). Written from the paper and from facts about the official code (facebookresearch/MRQ, commit 8a44a7d, whose
licence forbids commercial use): settings are its, no line is. One set of settings serves all of the paper's tasks.

    every `target_period` updates    targets <- networks, then as many updates of the encoder, back to back
    every agent step                 one update of the value functions, one of the policy

On pixels it was only ever run at an action repeat of 2, and its loop counts agent steps, as all lengths here: at 8 a
run of 100,000 environment steps has 2,500 updates, at 2 it has 40,000. An end by a time limit is no termination, and
windows never cross it; a window that meets a termination ends there.

Where this differs. The official n-step return drops the reward of a terminal step and keeps those after it; here it is
the paper's. Only the six stacks of a window that are encoded are shifted. Where both are silent: no LayerNorm has
weights; losses are means over the batch, summed over steps and value functions; the reward scale is 1 at first.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context, Fraction, Guidance, Metrics
from covr_bench.kit.augment import random_shift, scaled
from covr_bench.kit.nets import Linear, check_size, normed_mlp, xavier_init
from covr_bench.kit.priorities import Priorities
from covr_bench.kit.two_hot import symexp_bins, two_hot

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from covr_bench.kit.replay import Batch, Replay, Window


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    """Defaults of the official code's MRQ.py, the same as the paper's; widths are those of its models.py."""

    batch_size: PositiveInt = 256
    random_agent_steps: NonNegativeInt = 10_000  # agent steps of uniform actions before the first update
    target_period: PositiveInt = 250  # updates between two copies into the targets
    discount: Fraction = 0.99  # per agent step
    nstep: PositiveInt = 3  # of the value's target
    horizon: PositiveInt = 5  # steps that the encoder is rolled out
    exploration_noise: NonNegativeFloat = 0.2  # standard deviation, constant
    target_noise: NonNegativeFloat = 0.2
    target_noise_clip: NonNegativeFloat = 0.3
    priority_exponent: NonNegativeFloat = 0.4  # LAP, Fujimoto et al. 2020 (arXiv 2007.06049)
    smallest_priority: PositiveFloat = 1.0
    image_size: PositiveInt = 84  # pixels, rendered; of 32 its convolutions would leave a single place
    shift_pad: NonNegativeInt = 4  # pixels
    hidden_dim: PositiveInt = 512  # of all layers and of both features
    action_features: PositiveInt = 256
    reward_bins: Annotated[int, Field(ge=2)] = 65
    reward_range: PositiveFloat = 10.0  # bins are symexp of as many numbers between its negative and itself
    dynamics_weight: NonNegativeFloat = 1.0
    reward_weight: NonNegativeFloat = 0.1
    terminal_weight: NonNegativeFloat = 0.1  # 0 while the replay holds no termination
    pre_activation_weight: NonNegativeFloat = 1e-5  # of the policy's output before its tanh
    encoder_lr: PositiveFloat = 1e-4
    value_lr: PositiveFloat = 3e-4
    policy_lr: PositiveFloat = 3e-4
    weight_decay: NonNegativeFloat = 1e-4  # AdamW's
    max_gradient_norm: PositiveFloat = 20.0  # of the value functions
    replay_capacity: PositiveInt = 1_000_000  # frames


class Encoder(nn.Module):
    """Features z of images and z_sa of z and an action, and what is predicted linearly from z_sa."""

    def __init__(self, obs_shape: tuple[int, ...], action_dim: int, config: Config) -> None:
        super().__init__()
        width = config.hidden_dim
        convs: list[nn.Module] = []
        check_size(obs_shape, (2, 2, 2, 1))
        for channels, stride in ((obs_shape[0], 2), (32, 2), (32, 2), (32, 1)):
            convs += [nn.Conv2d(channels, 32, 3, stride), nn.ELU(inplace=True)]
        self.convs = nn.Sequential(*convs, nn.Flatten())
        out_dim = self.convs(torch.zeros(1, *obs_shape)).shape[1]
        self.state = nn.Sequential(Linear(out_dim, width), nn.LayerNorm(width, elementwise_affine=False), nn.ELU())
        self.action = nn.Sequential(Linear(action_dim, config.action_features), nn.ELU())
        self.state_action = normed_mlp(width + config.action_features, width, width, width, activation=nn.ELU)
        self.sizes = [1, width, config.reward_bins]
        self.model = Linear(width, sum(self.sizes))
        xavier_init(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """z, `(B, hidden_dim)`, of images `(B, C, H, W)`."""
        return self.state(self.convs(images))  # type: ignore[no-any-return]

    def with_action(self, z: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """z_sa, `(B, hidden_dim)`."""
        return self.state_action(torch.cat([z, self.action(action)], dim=1))  # type: ignore[no-any-return]

    def predict(self, z: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Whether the step is terminal `(B, 1)`, the next z, and logits of the reward's bins `(B, reward_bins)`."""
        return self.model(self.with_action(z, action)).split(self.sizes, dim=1)  # type: ignore[no-any-return]


class Value(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = (*[config.hidden_dim] * 4, 1)
        self.q1, self.q2 = normed_mlp(*sizes, activation=nn.ELU), normed_mlp(*sizes, activation=nn.ELU)
        xavier_init(self)

    def forward(self, z_sa: torch.Tensor) -> torch.Tensor:
        """Both Q values, `(B, 2)`, in units of the reward scale."""
        return torch.cat([self.q1(z_sa), self.q2(z_sa)], dim=1)


class MRQ:
    only_learning = ("value", "target_encoder", "target_policy", "target_value", "priorities")

    def __init__(self, config: Config, context: Context) -> None:
        self.config, self.action_dim = config, context.action_dim
        self.device = torch.device(context.device)
        width = config.hidden_dim
        self.encoder = Encoder(context.obs_shape, context.action_dim, config).to(self.device)
        self.policy = normed_mlp(width, width, width, context.action_dim, activation=nn.ReLU)  # before its tanh
        xavier_init(self.policy.to(self.device))
        self.value = Value(config).to(self.device)
        self.target_encoder = copy.deepcopy(self.encoder)
        self.target_policy = copy.deepcopy(self.policy)
        self.target_value = copy.deepcopy(self.value)
        self.encoder_opt = self.adamw(self.encoder.parameters(), config.encoder_lr)
        self.policy_opt = self.adamw(self.policy.parameters(), config.policy_lr)
        self.value_opt = self.adamw(self.value.parameters(), config.value_lr)
        self.bins = symexp_bins(config.reward_bins, config.reward_range).to(self.device)
        self.priorities = Priorities(config.priority_exponent)
        self.reward_scale = self.target_reward_scale = 1.0
        self.has_terminations = False
        self.agent_steps = self.updates = 0
        self.metrics: dict[str, torch.Tensor] = {}  # of the newest burst

    def adamw(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.AdamW:
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=self.config.weight_decay, fused=True)

    @torch.no_grad()
    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        if explore and self.agent_steps < self.config.random_agent_steps:
            return torch.empty(self.action_dim).uniform_(-1, 1).numpy()
        action = torch.tanh(self.policy(self.encoder(scaled(torch.from_numpy(obs)[None].to(self.device)))))
        if explore:
            action = (action + self.config.exploration_noise * torch.randn_like(action)).clamp(-1, 1)
        return action[0].cpu().numpy()

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        config = self.config
        agent_step, self.agent_steps = self.agent_steps, self.agent_steps + 1
        ready = self.updates > 0 or replay.can_sample(max(config.horizon, config.nstep))
        if agent_step < config.random_agent_steps or not ready:
            return {}
        if self.updates % config.target_period == 0:
            self.update_targets(replay)
            self.metrics = self.learn_features(replay)
        self.updates += 1
        slots, _ = self.priorities.draw(replay, config.batch_size, config.nstep)
        batch = replay.at(slots, config.nstep, config.discount)
        z, learnt = self.update_value(batch)
        return self.metrics | learnt | self.update_policy(z, batch, guidance)

    def update_targets(self, replay: Replay) -> None:
        """Copy the networks, measure the rewards' scale, and see whether any episode was terminated."""
        for name in ("encoder", "policy", "value"):
            getattr(self, f"target_{name}").load_state_dict(getattr(self, name).state_dict())
        steps = replay.starts() % replay.capacity
        self.target_reward_scale = self.reward_scale
        self.reward_scale = float(abs(replay.reward[steps]).mean()) or 1.0
        self.has_terminations = bool((replay.discount[steps] == 0).any())

    def learn_features(self, replay: Replay) -> dict[str, torch.Tensor]:
        """As many updates of the encoder as the period has steps; their batches do not change the priorities."""
        config = self.config
        slots, _ = self.priorities.draw(replay, config.target_period * config.batch_size, config.horizon)
        for start in slots.reshape(config.target_period, config.batch_size):
            loss = self.update_encoder(replay, replay.window(start, config.horizon))
        return {"encoder_loss": loss}

    def update_encoder(self, replay: Replay, window: Window) -> torch.Tensor:
        z = self.encoder(self.shifted(replay, window.slot[0]))
        going = torch.ones_like(window.discount[0])  # 0 after a termination
        loss = torch.zeros((), device=self.device)
        for i in range(self.config.horizon):
            with torch.no_grad():
                target_z = self.target_encoder(self.shifted(replay, window.slot[i + 1]))
            terminal, z, reward_logits = self.encoder.predict(z, window.action[i])
            losses = self.prediction_losses(window, i, terminal[:, 0], z - target_z, reward_logits)
            loss = loss + (going * losses).mean()
            going = going * window.discount[i]
        self.encoder_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.encoder_opt.step()
        return loss.detach()

    def prediction_losses(
        self, window: Window, i: int, terminal: torch.Tensor, z_error: torch.Tensor, reward_logits: torch.Tensor
    ) -> torch.Tensor:
        """Of the window's step i, `(B,)`."""
        config = self.config
        dynamics = z_error.square().mean(dim=1)
        reward = F.cross_entropy(reward_logits, two_hot(window.reward[i], self.bins), reduction="none")
        ends = (terminal - (1 - window.discount[i])).square()
        terminal_weight = config.terminal_weight * self.has_terminations
        return config.dynamics_weight * dynamics + config.reward_weight * reward + terminal_weight * ends

    def shifted(self, replay: Replay, slot: npt.NDArray[np.int64]) -> torch.Tensor:
        return random_shift(replay.obs(slot).to(self.device), self.config.shift_pad)

    def update_value(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Also returns z of `batch.obs`, `(B, hidden_dim)` without gradient."""
        config = self.config
        with torch.no_grad():
            z = self.encoder(random_shift(batch.obs, config.shift_pad))
            z_sa = self.encoder.with_action(z, batch.action)
            target_q = self.target_q(batch)
        q = self.value(z_sa)
        loss = 2 * F.smooth_l1_loss(q, target_q.expand(-1, 2))  # of both, each a mean over the batch
        self.value_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.value.parameters(), config.max_gradient_norm)
        self.value_opt.step()
        error = (q.detach() - target_q).abs().amax(dim=1)
        self.priorities.update(batch.slot, error.clamp(min=config.smallest_priority))
        values = {"q": q.detach().mean() * self.reward_scale, "target_q": target_q.mean() * self.reward_scale}
        return z, {"critic_loss": loss.detach()} | values

    def target_q(self, batch: Batch) -> torch.Tensor:
        """`(B, 1)`, in units of the present reward scale."""
        config = self.config
        z = self.target_encoder(random_shift(batch.next_obs, config.shift_pad))
        action = torch.tanh(self.target_policy(z))
        clip = config.target_noise_clip
        noise = (config.target_noise * torch.randn_like(action)).clamp(-clip, clip)
        next_q = self.target_value(self.target_encoder.with_action(z, (action + noise).clamp(-1, 1)))
        lower: torch.Tensor = next_q.amin(dim=1, keepdim=True) * self.target_reward_scale
        return (batch.reward + batch.discount * lower) / self.reward_scale

    def update_policy(self, z: torch.Tensor, batch: Batch, guidance: Guidance | None) -> dict[str, torch.Tensor]:
        """By the mean of both Q values, through the encoder's z_sa."""
        output = self.policy(z)
        action = torch.tanh(output)
        q = self.value(self.encoder.with_action(z, action))
        loss = -q.mean() + self.config.pre_activation_weight * output.square().mean()
        if guidance is not None:
            loss = loss + guidance(batch, action)
        self.policy_opt.zero_grad(set_to_none=True)
        loss.backward(inputs=list(self.policy.parameters()))  # nothing of the encoder and of the value functions
        self.policy_opt.step()
        return {"actor_loss": loss.detach()}

    def entropy(self, step: int) -> float:
        """Of the Gaussian exploration noise, before the action is held inside its range."""
        noise = self.config.exploration_noise
        return self.action_dim * (math.log(noise) + 0.5 * math.log(2 * math.pi * math.e)) if noise else -math.inf

    @torch.no_grad()
    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        z_sa = self.encoder.with_action(self.encoder(scaled(obs.to(self.device))), action.to(self.device))
        q: torch.Tensor = self.value(z_sa).amin(dim=1) * self.reward_scale
        return q.cpu()

    def parts(self) -> dict[str, Any]:
        names = ("encoder", "policy", *self.only_learning, "encoder_opt", "policy_opt", "value_opt")
        return {name: getattr(self, name) for name in names}

    def counters(self) -> dict[str, Any]:
        names = ("reward_scale", "target_reward_scale", "has_terminations", "agent_steps", "updates", "metrics")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts().items()} | self.counters()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for name in self.counters():
            setattr(self, name, state[name])
        self.metrics = {name: value.to(self.device) for name, value in self.metrics.items()}


AGENT = AgentSpec(
    name="mrq",
    Config=Config,
    make=MRQ,
    kind="visual-rl",
    paper="Fujimoto et al. 2025, arXiv 2501.16142",
    checked="three updates against the paper's arithmetic written out anew, not the official code; one short run",
)
