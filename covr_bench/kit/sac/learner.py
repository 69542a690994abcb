"""Soft actor-critic on pixels: its settings, its networks, and the steps of one update.

Haarnoja et al. 2018 (arXiv 1812.05905), in the pixel form of Yarats et al. 2019 (SAC-AE, arXiv 1910.01741) without its
decoder, as CURL (2004.04136) and RAD (2004.14990) compare against. There is no official code of that baseline; this is
RAD's (MishaLaskin/rad, commit 18d079e) with augmentation `no_aug`.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import Context, Fraction, Guidance
from covr_bench.kit.nets import PixelEncoder, adam, delta_orthogonal_init, soft_update
from covr_bench.kit.sac.networks import SquashedGaussianActor, TwinCritic

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from covr_bench.kit.replay import Batch


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What the family shares: defaults of RAD's train.py where nothing else is said."""

    batch_size: PositiveInt = 128  # RAD's and DBC's scripts; the papers report 512, four times the computation
    lr: PositiveFloat = 1e-3  # actor, and critic with the convolutions
    feature_dim: PositiveInt = 50
    hidden_dim: PositiveInt = 1024
    critic_tau: Fraction = 0.01  # target Q functions
    encoder_tau: Fraction = 0.05  # target convolutions, linear layer and LayerNorm
    discount: Fraction = 0.99  # per agent step
    init_temperature: PositiveFloat = 0.1
    alpha_lr: PositiveFloat = 1e-4
    alpha_beta: Fraction = 0.5  # Adam's first beta of the temperature; 0.9 elsewhere
    actor_every: PositiveInt = 2  # agent steps per update of actor and temperature
    target_every: PositiveInt = 2  # agent steps per update of the target networks
    random_agent_steps: NonNegativeInt = 1_000  # agent steps: transitions of uniform actions before the first update
    replay_capacity: PositiveInt = 100_000  # frames


class SoftActorCritic:
    """Networks, optimisers and the steps of one update, to be called in the order they stand here.

    Images are float32 `(B, *obs_shape)` in [0, 1], or whatever else `encoder` takes. Actor and critic share the
    convolutions, each has its own head on them. The critic's loss trains the convolutions; the actor's stops before
    them. `given` is what the policy sees beside the images, if its class wants more.

    encoder, actor, init, tanh: what a method has in place of SAC's networks, their initialisation and plain heads.
    """

    def __init__(
        self,
        settings: Settings,
        obs_shape: tuple[int, ...],
        context: Context,
        *,
        encoder: Callable[..., Any] = PixelEncoder,
        actor: type[SquashedGaussianActor] = SquashedGaussianActor,
        init: Callable[[nn.Module], None] = delta_orthogonal_init,
        tanh: bool = False,
    ) -> None:
        self.settings = settings
        self.device = torch.device(context.device)
        self.action_dim = context.action_dim
        self.encoder = encoder(obs_shape, kernel=context.conv_kernel)
        init(self.encoder)
        sizes = (self.encoder.out_dim, context.action_dim, settings.feature_dim, settings.hidden_dim, tanh)
        self.actor = actor(*sizes).to(self.device)
        self.critic = TwinCritic(*sizes).to(self.device)
        self.encoder.to(self.device)
        self.target_encoder, self.target_critic = copy.deepcopy(self.encoder), copy.deepcopy(self.critic)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.init_temperature), device=self.device))
        self.critic_opt = adam([*self.encoder.parameters(), *self.critic.parameters()], settings.lr)
        self.actor_opt = adam(self.actor.parameters(), settings.lr)
        self.alpha_opt = adam([self.log_alpha], settings.alpha_lr, (settings.alpha_beta, 0.999))
        self.metrics: dict[str, torch.Tensor] = {}  # newest value of each

    def random_action(self) -> npt.NDArray[np.float32]:
        return torch.empty(self.action_dim).uniform_(-1, 1).numpy()

    @torch.no_grad()
    def act(self, images: torch.Tensor, explore: bool, *given: torch.Tensor) -> npt.NDArray[np.float32]:
        """For one image: a sample of the policy, or tanh of its mean."""
        features = self.encoder(images)
        action = self.actor.sample(features, *given)[0] if explore else torch.tanh(self.actor(features, *given)[0])
        return action[0].cpu().numpy()

    @torch.no_grad()
    def q_value(self, images: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The lower of both Q values, `(B,)` on the CPU."""
        q: torch.Tensor = torch.min(*self.critic(self.encoder(images), action.to(self.device)))
        return q[:, 0].cpu()

    @torch.no_grad()
    def target_q(self, batch: Batch, next_images: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        """`r + discount * (min Q'(s', a') - alpha * log pi(a'|s'))`, a' from the policy as it is: `(B, 1)`."""
        next_action, log_pi = self.actor.sample(self.encoder(next_images), *given)
        next_q = torch.min(*self.target_critic(self.target_encoder(next_images), next_action))
        soft_value: torch.Tensor = next_q - self.log_alpha.exp() * log_pi
        return batch.reward + batch.discount * soft_value

    def update_critic(self, batch: Batch, images: torch.Tensor, target_q: torch.Tensor) -> None:
        self.step_critic(self.critic_loss(batch, images, target_q))

    def critic_loss(self, batch: Batch, images: torch.Tensor, target_q: torch.Tensor) -> torch.Tensor:
        q1, q2 = self.q_values(batch, images, target_q)
        return F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q)

    def q_values(self, batch: Batch, images: torch.Tensor, target_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the actions taken, each `(B, 1)`, to be held against the target."""
        q1, q2 = self.critic(self.encoder(images), batch.action)
        self.metrics |= {"q": q1.detach().mean(), "target_q": target_q.mean()}
        return q1, q2

    def step_critic(self, loss: torch.Tensor) -> None:
        self.critic_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic_opt.step()
        self.metrics["critic_loss"] = loss.detach()

    def update_policy_and_targets(
        self,
        agent_step: int,
        batch: Batch,
        images: torch.Tensor,
        guidance: Guidance | None,
        *given: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> None:
        """Actor and temperature, then the target networks, each if this agent step is one of theirs."""
        if agent_step % self.settings.actor_every == 0:
            self.update_actor_and_alpha(batch, images, guidance, *given, features=features)
        if agent_step % self.settings.target_every == 0:
            self.update_targets()

    def update_actor_and_alpha(
        self,
        batch: Batch,
        images: torch.Tensor,
        guidance: Guidance | None,
        *given: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> None:
        """features: the encoder's of these images, without gradient, where a method has them at hand."""
        if features is None:
            with torch.no_grad():
                features = self.encoder(images)  # tied: one pass serves the actor and the critic
        action, log_pi = self.actor.sample(features, *given)
        alpha = self.log_alpha.exp()
        loss = (alpha.detach() * log_pi - torch.min(*self.critic(features, action))).mean()
        if guidance is not None:
            loss = loss + guidance(batch, action)
        self.actor_opt.zero_grad(set_to_none=True)
        # The critic's own gradients are not computed.
        loss.backward(inputs=list(self.actor.parameters()))
        self.actor_opt.step()
        entropy = -log_pi.detach().mean()
        alpha_loss = alpha * (entropy + self.action_dim)  # the target entropy is -action_dim
        self.alpha_opt.zero_grad(set_to_none=True)
        alpha_loss.backward()  # type: ignore[no-untyped-call]
        self.alpha_opt.step()
        losses = {"actor_loss": loss, "alpha_loss": alpha_loss, "alpha": alpha, "entropy": entropy}
        self.metrics |= {name: value.detach() for name, value in losses.items()}

    def update_targets(self) -> None:
        soft_update(self.target_critic.q1, self.critic.q1, self.settings.critic_tau)
        soft_update(self.target_critic.q2, self.critic.q2, self.settings.critic_tau)
        soft_update(self.target_critic.head, self.critic.head, self.settings.encoder_tau)
        soft_update(self.target_encoder, self.encoder, self.settings.encoder_tau)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Of the critic's encoder, for an auxiliary loss: convolutions and head."""
        return [*self.encoder.parameters(), *self.critic.head.parameters()]

    def entropy(self) -> float:
        """`-mean log pi` in nats over the batch of the newest actor update; NaN before the first."""
        return float(self.metrics.get("entropy", math.nan))

    def parts(self) -> dict[str, Any]:
        names = "encoder actor critic target_encoder target_critic critic_opt actor_opt alpha_opt"
        return {name: getattr(self, name) for name in names.split()}

    def state_dict(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self.parts().items()}
        return parts | {"log_alpha": self.log_alpha.detach(), "metrics": dict(self.metrics)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.log_alpha.data.copy_(state["log_alpha"])
        self.metrics = {name: value.to(self.device) for name, value in state["metrics"].items()}
