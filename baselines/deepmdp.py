"""DeepMDP: SAC whose encoder also learns to predict the next latent state and the reward.

Gelada et al. 2019 (arXiv 1906.02736), in the form control papers compare with: the baseline of DBC (Zhang et al. 2021,
arXiv 2006.10742), code facebookresearch/deep_bisim4control, commit 5967b6d, agent `deepmdp` with the deterministic
transition model and no decoder (`identity`; the pixel decoder fits one CARLA camera layout only). Compared with the
2019 paper it is plain regression: no Wasserstein distance, no Lipschitz penalty.

`LatentModelAgent` is the model and its loss; ResAct has them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from baselines.sac import Settings, SoftActorCritic, SoftActorCriticAgent
from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.nets import Linear, adam

if TYPE_CHECKING:
    from covr_bench.kit.replay import Batch, Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelSettings(Settings):
    """SAC's settings and the model's: train.py and run_*.sh of the official code, whose SAC values are RAD's."""

    model_dim: PositiveInt = 512  # transition_model.py
    encoder_lr: PositiveFloat = 1e-3  # the model loss's own Adam on the critic's encoder
    model_lr: PositiveFloat = 1e-3  # transition and reward head
    model_weight_decay: NonNegativeFloat = 1e-7


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(ModelSettings):
    """DeepMDP's settings."""

    image_size: PositiveInt = 84  # pixels, rendered
    initial_updates: PositiveInt = 1_000  # updates back to back at the first one, one for each random agent step
    replay_capacity: PositiveInt = 1_000_000  # frames


def model_head(size_in: int, width: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(Linear(size_in, width), nn.LayerNorm(width), nn.ReLU(), Linear(width, size_out))


class LatentModelAgent(SoftActorCriticAgent):
    """An agent whose critic's encoder also learns to predict the next latent state and the reward."""

    PARTS: ClassVar[tuple[str, ...]] = ("sac", "transition", "reward", "model_opt", "encoder_opt")

    def __init__(self, config: ModelSettings, sac: SoftActorCritic, initial_updates: int = 1) -> None:
        super().__init__(config, sac, initial_updates)
        size_in = config.feature_dim + sac.action_dim
        self.transition = model_head(size_in, config.model_dim, config.feature_dim).to(sac.device)
        self.reward = model_head(size_in, config.model_dim, 1).to(sac.device)
        self.model_opt = adam(
            [*self.transition.parameters(), *self.reward.parameters()],
            config.model_lr,
            weight_decay=config.model_weight_decay,
        )
        self.encoder_opt = adam(sac.encoder_parameters(), config.encoder_lr)  # a second Adam beside the critic's

    def update_model(self, batch: Batch, images: torch.Tensor, next_images: torch.Tensor) -> None:
        """One step of transition, reward and encoder on `|f(z, a) - z'|^2 / 2 + (r(z, a) - r)^2`, means over numbers.

        z and z' are both of the critic's encoder as it is; z' comes without gradient.
        """
        sac = self.sac
        with torch.no_grad():
            next_latent = sac.critic.head(sac.encoder(next_images))
        latent = sac.critic.head(sac.encoder(images))
        pair = torch.cat([latent, batch.action], dim=-1)
        transition_loss = 0.5 * F.mse_loss(self.transition(pair), next_latent)
        reward_loss = F.mse_loss(self.reward(pair), batch.reward)
        self.encoder_opt.zero_grad(set_to_none=True)
        self.model_opt.zero_grad(set_to_none=True)
        (transition_loss + reward_loss).backward()  # type: ignore[no-untyped-call]
        self.encoder_opt.step()
        self.model_opt.step()
        sac.metrics |= {"transition_loss": transition_loss.detach(), "reward_loss": reward_loss.detach()}


class DeepMDP(LatentModelAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context), config.initial_updates)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = scaled(batch.obs, UNIT), scaled(batch.next_obs, UNIT)
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        self.update_model(batch, images, next_images)
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="deepmdp",
    Config=Config,
    make=DeepMDP,
    kind="visual-rl",
    paper="Gelada et al. 2019, arXiv 1906.02736; control: Zhang et al. 2021, arXiv 2006.10742",
    checked="the official arithmetic",
)
