"""A model of the next latent state and the reward, which trains the critic's encoder beside the critic.

DeepMDP (Gelada et al. 2019, arXiv 1906.02736) in the form control papers compare with, which ResAct has too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.nets import adam
from covr_bench.kit.sac.learner import Settings, SoftActorCritic
from covr_bench.kit.sac.networks import model_head

if TYPE_CHECKING:
    from covr_bench.kit.replay import Batch


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelSettings(Settings):
    """SAC's settings and the model's: train.py and run_*.sh of DBC's code, whose SAC values are RAD's."""

    model_dim: PositiveInt = 512  # transition_model.py
    encoder_lr: PositiveFloat = 1e-3  # the model loss's own Adam on the critic's encoder
    model_lr: PositiveFloat = 1e-3  # transition and reward head
    model_weight_decay: NonNegativeFloat = 1e-7


class LatentModel:
    """Both heads, and the step that trains them and the encoder of `sac`."""

    NETWORKS = ("transition", "reward")

    def __init__(self, settings: ModelSettings, sac: SoftActorCritic) -> None:
        self.sac = sac
        size_in = settings.feature_dim + sac.action_dim
        self.transition = model_head(size_in, settings.model_dim, settings.feature_dim).to(sac.device)
        self.reward = model_head(size_in, settings.model_dim, 1).to(sac.device)
        self.model_opt = adam(
            [*self.transition.parameters(), *self.reward.parameters()],
            settings.model_lr,
            weight_decay=settings.model_weight_decay,
        )
        self.encoder_opt = adam(sac.encoder_parameters(), settings.encoder_lr)  # a second Adam beside the critic's

    def update(self, batch: Batch, images: torch.Tensor, next_images: torch.Tensor) -> None:
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

    def parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in a checkpoint."""
        return {name: getattr(self, name) for name in (*self.NETWORKS, "model_opt", "encoder_opt")}
