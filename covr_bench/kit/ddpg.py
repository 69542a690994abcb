"""DDPG on pixels in DrQ-v2's form: its settings, its networks, the steps of one update, the agent.

Yarats, Fergus, Lazaric, Pinto: Mastering Visual Continuous Control, 2021 (arXiv 2107.09645). Settings are those of the
official code (facebookresearch/drqv2, commit c0c650b).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import Context, Fraction, Guidance, Metrics
from covr_bench.kit.augment import random_shift, scaled
from covr_bench.kit.nets import (
    Linear,
    PixelEncoder,
    adam,
    backward_in_parts,
    linear_schedule,
    mlp,
    orthogonal_init,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from covr_bench.kit.replay import Batch, Replay


OFFICIAL_REPEAT = 2  # environment steps of an agent step in every official run


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Official defaults: cfgs/config.yaml, cfgs/task/easy.yaml and drqv2.py of the official code.

    A clock step is an environment step, or half an agent step: see `clock`.
    """

    batch_size: PositiveInt = 256
    lr: PositiveFloat = 1e-4  # encoder, actor and critic
    feature_dim: PositiveInt = 50
    hidden_dim: PositiveInt = 1024
    critic_target_tau: Fraction = 0.01
    discount: Fraction = 0.99  # per agent step
    nstep: PositiveInt = 3
    shift_pad: NonNegativeInt = 4  # pixels
    stddev_start: NonNegativeFloat = 1.0
    stddev_end: NonNegativeFloat = 0.1
    clock: Literal["env", "agent"] = "env"  # what clock steps count; the official loop's is `agent`
    stddev_steps: PositiveInt = 200_000  # clock steps; officially 100k agent steps ("easy")
    stddev_clip: NonNegativeFloat = 0.3  # in updates; acting is not clipped
    seed_steps: NonNegativeInt = 4_000  # env steps before the first update; clock steps of uniform actions
    update_every: PositiveInt = 4  # clock steps per update; officially 2 agent steps
    replay_capacity: PositiveInt = 1_000_000  # frames


def feature_trunk(repr_dim: int, feature_dim: int) -> nn.Sequential:
    """What reads an encoder's features: `(B, repr_dim)` to `(B, feature_dim)` in (-1, 1)."""
    return nn.Sequential(Linear(repr_dim, feature_dim), nn.LayerNorm(feature_dim), nn.Tanh())


class Actor(nn.Module):
    def __init__(self, repr_dim: int, action_dim: int, config: Settings) -> None:
        super().__init__()
        self.trunk = feature_trunk(repr_dim, config.feature_dim)
        self.policy = mlp(config.feature_dim, config.hidden_dim, config.hidden_dim, action_dim)
        orthogonal_init(self)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The mean action, `(B, action_dim)` in (-1, 1), of encoder features `(B, repr_dim)`."""
        return torch.tanh(self.policy(self.trunk(features)))


class Critic(nn.Module):
    def __init__(self, repr_dim: int, action_dim: int, config: Settings) -> None:
        super().__init__()
        self.trunk = feature_trunk(repr_dim, config.feature_dim)
        self.q1 = mlp(config.feature_dim + action_dim, config.hidden_dim, config.hidden_dim, 1)
        self.q2 = mlp(config.feature_dim + action_dim, config.hidden_dim, config.hidden_dim, 1)
        orthogonal_init(self)

    def forward(self, features: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both Q values, each `(B, 1)`."""
        h = torch.cat([self.trunk(features), action], dim=-1)
        return self.q1(h), self.q2(h)


def noisy(mean: torch.Tensor, stddev: float, clip: float | None = None) -> torch.Tensor:
    """`mean` plus Gaussian noise, held inside the action range; the gradient passes as if it were not held."""
    noise = torch.randn_like(mean) * stddev
    if clip is not None:
        noise = noise.clamp(-clip, clip)
    action = mean + noise
    return action + (action.clamp(-1 + 1e-6, 1 - 1e-6) - action).detach()


class DDPGAgent:
    """What the agents share: acting, when they learn, the steps of an update, their state.

    A method says in `learn` what one update is and in `parts` what else it trains. q_action_dim: numbers of an action
    as Q takes it, if those are not the action's own. window: agent steps of one episode that an update's sample needs.
    """

    only_learning: Sequence[str] = ("critic", "critic_target")

    def __init__(self, config: Settings, context: Context, q_action_dim: int | None = None) -> None:
        self.config = config
        self.window = config.nstep
        self.device = torch.device(context.device)
        self.encoder = PixelEncoder(context.obs_shape, kernel=context.conv_kernel).to(self.device)
        orthogonal_init(self.encoder)
        self.actor = Actor(self.encoder.out_dim, context.action_dim, config).to(self.device)
        sizes = (self.encoder.out_dim, q_action_dim or context.action_dim, config)
        self.critic = Critic(*sizes).to(self.device)
        self.critic_target = Critic(*sizes).to(self.device)
        self.critic_target.load_state_dict(self.critic.state_dict())
        # The official code's separate optimisers of encoder and critic share one rate: one Adam does the same.
        self.critic_opt = adam([*self.encoder.parameters(), *self.critic.parameters()], config.lr)
        self.actor_opt = adam(self.actor.parameters(), config.lr)
        self.action_dim = context.action_dim
        self.agent_steps = 0
        self.tick = context.action_repeat if config.clock == "env" else OFFICIAL_REPEAT  # clock steps of an agent step
        self.previous_time = -self.tick  # clock of the agent step before

    def time(self, step: int) -> int:
        """Clock steps at the present agent step, before environment step `step`."""
        return step if self.config.clock == "env" else self.agent_steps * self.tick

    def stddev(self, time: int) -> float:
        config = self.config
        return linear_schedule(time, config.stddev_start, config.stddev_end, config.stddev_steps)

    @torch.no_grad()
    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        mean = self.actor(self.encoder(scaled(torch.from_numpy(obs)[None].to(self.device))))
        if not explore:
            action = mean
        elif (time := self.time(step)) < self.config.seed_steps:
            action = torch.empty_like(mean).uniform_(-1, 1)
        else:
            action = noisy(mean, self.stddev(time))
        return action[0].cpu().numpy()  # type: ignore[no-any-return]

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        config, time = self.config, self.time(step)
        # At most an action's repeats ago: fewer where an episode ended within them.
        previous = max(self.previous_time, time - self.tick)
        self.previous_time, self.agent_steps = time, self.agent_steps + 1
        if step < config.seed_steps or not replay.can_sample(self.window):
            return {}
        metrics: Metrics = {}
        for _ in range(time // config.update_every - previous // config.update_every):
            metrics = self.learn(replay, self.stddev(time), guidance)
        return metrics

    def learn(self, replay: Replay, stddev: float, guidance: Guidance | None) -> Metrics:
        raise NotImplementedError

    def q_values(
        self, critic: Critic, features: torch.Tensor, action: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both Q values of `critic`, each `(B, 1)`, of actions `(B, action_dim)`: here, as they are."""
        q: tuple[torch.Tensor, torch.Tensor] = critic(features, action)
        return q

    @torch.no_grad()
    def target_q(self, batch: Batch, stddev: float) -> torch.Tensor:
        features = self.encoder(random_shift(batch.next_obs, self.config.shift_pad))
        action = noisy(self.actor(features), stddev, self.config.stddev_clip)
        next_q: torch.Tensor = torch.min(*self.q_values(self.critic_target, features, action))
        return batch.reward + batch.discount * next_q

    def update_critic(
        self, images: torch.Tensor, action: torch.Tensor, target_q: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Also returns the encoder's features, `(B, repr_dim)` without gradient."""
        self.critic_opt.zero_grad(set_to_none=True)
        loss, features, q = backward_in_parts(self.critic_loss, images, action, target_q)
        self.critic_opt.step()
        return features, {"critic_loss": loss, "q": q.mean(), "target_q": target_q.mean()}

    def critic_loss(
        self, images: torch.Tensor, action: torch.Tensor, target_q: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The mean over samples, the features `(B, repr_dim)` and the first Q value `(B, 1)`."""
        features = self.encoder(images)
        q1, q2 = self.q_values(self.critic, features, action)
        return F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q), features, q1

    def update_actor(
        self, features: torch.Tensor, stddev: float, batch: Batch, guidance: Guidance | None
    ) -> dict[str, torch.Tensor]:
        action = noisy(self.actor(features), stddev, self.config.stddev_clip)
        loss = -torch.min(*self.q_values(self.critic, features, action)).mean()
        if guidance is not None:
            loss = loss + guidance(batch, action)
        self.actor_opt.zero_grad(set_to_none=True)
        # The critic's own gradients are not computed.
        loss.backward(inputs=list(self.actor.parameters()))  # type: ignore[no-untyped-call]
        self.actor_opt.step()
        return {"actor_loss": loss.detach()}

    def guide_encoder(self, batch: Batch, guidance: Guidance) -> None:
        """A step of the encoder alone down the gradient of the guidance on the actor's mean."""
        action = self.actor(self.encoder(random_shift(batch.obs, self.config.shift_pad)))
        self.critic_opt.zero_grad(set_to_none=True)
        guidance(batch, action).backward(inputs=list(self.encoder.parameters()))  # type: ignore[no-untyped-call]
        self.critic_opt.step()

    def entropy(self, step: int) -> float:
        """Of the Gaussian exploration noise at that step, before it is held inside the action range."""
        stddev = self.stddev(self.time(step))
        if stddev == 0:
            return -math.inf
        return self.action_dim * (math.log(stddev) + 0.5 * math.log(2 * math.pi * math.e))

    @torch.no_grad()
    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        features = self.encoder(scaled(obs.to(self.device)))
        return torch.min(*self.q_values(self.critic, features, action.to(self.device)))[:, 0].cpu()

    def parts(self) -> dict[str, Any]:
        names = ("encoder", "actor", "critic", "critic_target", "critic_opt", "actor_opt")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Any]:
        counted = {"previous_time": self.previous_time, "agent_steps": self.agent_steps}
        return {name: part.state_dict() for name, part in self.parts().items()} | counted

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        # Earlier versions had no other clock than the environment's, and the first of them did not store it.
        self.previous_time = state.get("previous_time", state.get("previous_step", -self.tick))
        self.agent_steps = state.get("agent_steps", 0)
