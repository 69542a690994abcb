"""DrQ-v2: DDPG with image shifts, n-step returns and a decaying exploration noise.

Yarats, Fergus, Lazaric, Pinto: Mastering Visual Continuous Control, 2021 (arXiv 2107.09645, Algorithm 1).
Settings are those of the official code (facebookresearch/drqv2, commit c0c650b). It was only ever run at an action
repeat of 2, and its loop counts agent steps. At another repeat there are two readings, the same at 2:

- `clock=env`, the default and our choice: lengths are environment steps, so that a run of 100,000 has as many updates
  and as little noise in the end at any repeat.
- `clock=agent`, the official loop: updates, noise and random actions count agent steps, two clock steps each; updates
  begin after 4,000 environment steps. At a repeat of 8 a run of 100,000 has 6,000 updates instead of 24,000, and ends
  with a noise of 0.89 instead of 0.55.
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

from covr_bench.kit.api import AgentSpec, Context, Fraction, Guidance, Metrics
from covr_bench.kit.augment import random_shift, scaled
from covr_bench.kit.nets import (
    Linear,
    PixelEncoder,
    adam,
    backward_in_parts,
    linear_schedule,
    mlp,
    orthogonal_init,
    soft_update,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr_bench.kit.replay import Batch, Replay


OFFICIAL_REPEAT = 2  # environment steps of an agent step in every official run


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
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


class Actor(nn.Module):
    def __init__(self, repr_dim: int, action_dim: int, config: Config) -> None:
        super().__init__()
        self.trunk = nn.Sequential(Linear(repr_dim, config.feature_dim), nn.LayerNorm(config.feature_dim), nn.Tanh())
        self.policy = mlp(config.feature_dim, config.hidden_dim, config.hidden_dim, action_dim)
        orthogonal_init(self)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The mean action, `(B, action_dim)` in (-1, 1), of encoder features `(B, repr_dim)`."""
        return torch.tanh(self.policy(self.trunk(features)))


class Critic(nn.Module):
    def __init__(self, repr_dim: int, action_dim: int, config: Config) -> None:
        super().__init__()
        self.trunk = nn.Sequential(Linear(repr_dim, config.feature_dim), nn.LayerNorm(config.feature_dim), nn.Tanh())
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


class DrQV2:
    def __init__(self, config: Config, context: Context) -> None:
        self.config = config
        self.device = torch.device(context.device)
        self.encoder = PixelEncoder(context.obs_shape, kernel=context.conv_kernel).to(self.device)
        orthogonal_init(self.encoder)
        sizes = (self.encoder.out_dim, context.action_dim, config)
        self.actor = Actor(*sizes).to(self.device)
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
        if step < config.seed_steps or not replay.can_sample(config.nstep):
            return {}
        metrics: Metrics = {}
        for _ in range(time // config.update_every - previous // config.update_every):
            metrics = self.learn(replay, self.stddev(time), guidance)
        return metrics

    def learn(self, replay: Replay, stddev: float, guidance: Guidance | None) -> Metrics:
        config = self.config
        batch = replay.sample(config.batch_size, config.nstep, config.discount)
        target_q = self.target_q(batch, stddev)
        features, metrics = self.update_critic(random_shift(batch.obs, config.shift_pad), batch.action, target_q)
        metrics |= self.update_actor(features, stddev, batch, guidance)
        soft_update(self.critic_target, self.critic, config.critic_target_tau)
        return metrics

    @torch.no_grad()
    def target_q(self, batch: Batch, stddev: float) -> torch.Tensor:
        features = self.encoder(random_shift(batch.next_obs, self.config.shift_pad))
        action = noisy(self.actor(features), stddev, self.config.stddev_clip)
        next_q: torch.Tensor = torch.min(*self.critic_target(features, action))
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
        q1, q2 = self.critic(features, action)
        return F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q), features, q1

    def update_actor(
        self, features: torch.Tensor, stddev: float, batch: Batch, guidance: Guidance | None
    ) -> dict[str, torch.Tensor]:
        action = noisy(self.actor(features), stddev, self.config.stddev_clip)
        loss = -torch.min(*self.critic(features, action)).mean()
        if guidance is not None:
            loss = loss + guidance(batch, action)
        self.actor_opt.zero_grad(set_to_none=True)
        # The critic's own gradients are not computed.
        loss.backward(inputs=list(self.actor.parameters()))
        self.actor_opt.step()
        return {"actor_loss": loss.detach()}

    def entropy(self, step: int) -> float:
        """Of the Gaussian exploration noise at that step, before it is held inside the action range."""
        stddev = self.stddev(self.time(step))
        if stddev == 0:
            return -math.inf
        return self.action_dim * (math.log(stddev) + 0.5 * math.log(2 * math.pi * math.e))

    @torch.no_grad()
    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        q: torch.Tensor = torch.min(*self.critic(self.encoder(scaled(obs.to(self.device))), action.to(self.device)))
        return q[:, 0].cpu()

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


_MEDIUM = {"stddev_steps": 1_000_000}  # clock steps; officially 500k agent steps
_WALKER = {"nstep": 1, "batch_size": 512}
_HUMANOID = {"stddev_steps": 4_000_000, "lr": 8e-5, "feature_dim": 100}  # officially 2M agent steps

AGENT = AgentSpec(
    name="drqv2",
    Config=Config,
    make=DrQV2,
    kind="visual-rl",
    paper="Yarats et al. 2021, arXiv 2107.09645",
    checked=(
        "three updates against the official code, float64, equal to rounding; the clock over 100k steps of "
        "the official loop; the start of an official curve; a score at 100k with each clock"
    ),
    task_defaults={  # cfgs/task/
        "dmc/walker_stand": _WALKER,
        "dmc/walker_walk": _WALKER,
        "dmc/walker_run": _WALKER | _MEDIUM,
        "dmc/acrobot_swingup": _MEDIUM,
        "dmc/cartpole_swingup_sparse": _MEDIUM,
        "dmc/cheetah_run": _MEDIUM,
        "dmc/finger_turn_easy": _MEDIUM,
        "dmc/finger_turn_hard": _MEDIUM,
        "dmc/hopper_hop": _MEDIUM,
        "dmc/quadruped_run": _MEDIUM,
        "dmc/quadruped_walk": _MEDIUM,
        "dmc/reacher_easy": _MEDIUM,
        "dmc/reacher_hard": _MEDIUM,
        "dmc/humanoid_stand": _HUMANOID,
        "dmc/humanoid_walk": _HUMANOID,
        "dmc/humanoid_run": _HUMANOID,
    },
)
