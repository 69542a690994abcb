"""A loss that lets the critic's encoder predict what a slowly moving copy of it makes of other frames.

SPR (arXiv 2007.05929), PlayVirtual (arXiv 2106.04152) and MLR (arXiv 2201.12096) share it: networks, loss and step are
those of MLR's official code (microsoft/Mask-based-Latent-Reconstruction, commit eefeb81, DMControl/), which go back to
PlayVirtual's. Each has a model of its own that predicts.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import Context, Fraction, Guidance
from covr_bench.kit.augment import UNIT, cropped, random_corner
from covr_bench.kit.nets import PixelEncoder, adam, mlp, soft_update
from covr_bench.kit.sac.crops import CroppingAgent, CropSettings
from covr_bench.kit.sac.learner import SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PredictionSettings(CropSettings):
    """SAC's settings, the crop's and the prediction's: configs/*.yaml."""

    batch_size: PositiveInt = 512
    filters: PositiveInt = 64
    model_batch_size: PositiveInt = 128  # sequences
    projection_dim: PositiveInt = 100  # hidden layer of projector and predictor
    momentum_tau: Fraction = 0.05  # of the networks that make the targets
    jitter: NonNegativeFloat = 0.05  # standard deviation of an image's brightness, cut off at two of them
    max_gradient_norm: PositiveFloat = 10.0


class LatentPrediction:
    """The networks that are compared, their loss and its step. model: predicts latents, as each method does."""

    PARTS = ("model", "projector", "predictor", "target_encoder", "target_head", "target_projector", "model_opt")

    def __init__(self, settings: PredictionSettings, sac: SoftActorCritic, model: nn.Module) -> None:
        self.settings, self.sac = settings, sac
        sizes = (settings.feature_dim, settings.projection_dim, settings.feature_dim)
        self.model = model.to(sac.device)
        # The targets' projector starts apart from the other, as the code has it.
        self.projector, self.predictor, self.target_projector = (mlp(*sizes).to(sac.device) for _ in range(3))
        self.target_encoder, self.target_head = copy.deepcopy(sac.encoder), copy.deepcopy(sac.critic.head)
        self.heads = [parameter for part in (model, self.projector, self.predictor) for parameter in part.parameters()]
        self.trained = [*sac.encoder_parameters(), *self.heads]
        self.clipped = [self.trained]  # sets of parameters whose gradient's norm is bounded, one after the other
        self.model_opt = adam(self.trained, settings.lr / 2)

    def latents(self, obs: torch.Tensor) -> torch.Tensor:
        """The critic's features, `(n, feature_dim)`, of augmented images uint8 `(n, C, H, W)`."""
        return self.sac.critic.head(self.sac.encoder(self.augmented(obs)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def targets(self, obs: torch.Tensor) -> torch.Tensor:
        """What the slow copies make of them, augmented anew: `(n, feature_dim)` without gradient."""
        return self.target_projector(self.target_head(self.target_encoder(self.augmented(obs))))  # type: ignore[no-any-return]

    def augmented(self, obs: torch.Tensor) -> torch.Tensor:
        """Each image cut out at any place, and made brighter or darker as a whole: `(n, C, window, window)`."""
        images = cropped(obs, self.settings.window, random_corner(obs, self.settings.window), UNIT)
        noise = torch.randn(len(images), 1, 1, 1, device=images.device).clamp(-2, 2)
        return images * (1 + self.settings.jitter * noise)

    def loss(self, latents: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean of `2 - 2 cos` between what is predicted from latents and targets, each `(..., feature_dim)`.

        Vectors shorter than 1e-3, as small initial weights make them, are divided by that and not by their length.
        """
        predicted = self.predictor(self.projector(latents))
        distance = F.normalize(predicted, dim=-1, eps=1e-3) - F.normalize(targets, dim=-1, eps=1e-3)
        return distance.square().sum(dim=-1).mean()

    def step(self, loss: torch.Tensor) -> None:
        self.model_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for parameters in self.clipped:
            nn.utils.clip_grad_norm_(parameters, self.settings.max_gradient_norm)
        self.model_opt.step()
        self.sac.metrics["prediction_loss"] = loss.detach()

    def update_targets(self, agent_step: int) -> None:
        """The slow copies, if this agent step is one of the targets'."""
        if agent_step % self.settings.target_every == 0:
            soft_update(self.target_encoder, self.sac.encoder, self.settings.momentum_tau)
            soft_update(self.target_head, self.sac.critic.head, self.settings.momentum_tau)
            soft_update(self.target_projector, self.projector, self.settings.momentum_tau)

    def parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in a checkpoint."""
        return {name: getattr(self, name) for name in self.PARTS}


def rollout(model: nn.Module, latents: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """The latents that follow from the first, `(n, Z)`, by each of the actions `(steps, n, A)`: `(steps, n, Z)`."""
    steps = []
    for taken in action:
        latents = model(torch.cat([latents, taken], dim=-1))
        steps.append(latents)
    return torch.stack(steps)


class PredictingAgent(CroppingAgent):
    """SAC on crops with a step on sequences between the critic's and the actor's: a method's `update_model`.

    name: the method's, for errors. model: predicts latents. length: of a sequence, in steps.
    """

    config: PredictionSettings
    only_learning = (*CroppingAgent.only_learning, *LatentPrediction.PARTS)

    def __init__(self, name: str, config: PredictionSettings, context: Context, model: nn.Module, length: int) -> None:
        super().__init__(name, config, context, encoder=partial(PixelEncoder, filters=config.filters))
        self.prediction = LatentPrediction(config, self.sac, model)
        self.length = length

    def parts(self) -> dict[str, Any]:
        return super().parts() | self.prediction.parts()

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = map(self.random_crop, (batch.obs, batch.next_obs))
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        if replay.can_sample(self.length):
            self.update_model(*replay.sequences(config.model_batch_size, self.length))
        sac.update_policy_and_targets(agent_step, batch, images, guidance)
        self.prediction.update_targets(agent_step)

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        """One step on sequences: uint8 `(length, n, C, H, W)`, float32 `(length, n, A)`."""
        raise NotImplementedError
