"""SPR: SAC on random crops whose encoder also learns to predict its own later features, step by step.

Schwarzer et al.: Data-Efficient Reinforcement Learning with Self-Predictive Representations, 2021 (arXiv 2007.05929),
for Atari. For control it is here as MLR compares with it: code microsoft/Mask-based-Latent-Reconstruction, commit
eefeb81, DMControl/src/spr_sac.py and configs/. There the call that takes this loss's step is commented out, so that the
file as published trains SAC on crops; here it is taken.

`LatentPredictionAgent` is what MLR has too: the networks that are compared, their loss, its step. With 64 filters and
batches of 512 images they are meant for a GPU: sixteen times the other agents' computation before any sequence.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from baselines.crops import CroppingAgent, CropSettings
from baselines.deepmdp import model_head
from covr_bench.kit.api import AgentSpec, Context, Fraction, Guidance
from covr_bench.kit.augment import UNIT, cropped, random_corner
from covr_bench.kit.nets import PixelEncoder, adam, mlp, soft_update

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


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(PredictionSettings):
    """SPR's settings."""

    steps: PositiveInt = 6  # K, predicted from each observation
    model_dim: PositiveInt = 512  # of the transition model


class LatentPredictionAgent(CroppingAgent):
    """An agent whose critic's encoder also learns to predict what a slowly moving copy of it makes of other frames."""

    PARTS: ClassVar[tuple[str, ...]] = (
        *("sac", "model", "projector", "predictor", "target_encoder", "target_head", "target_projector", "model_opt"),
    )
    config: PredictionSettings

    def __init__(self, name: str, config: PredictionSettings, context: Context, model: nn.Module) -> None:
        super().__init__(name, config, context, encoder=partial(PixelEncoder, filters=config.filters))
        sac, sizes = self.sac, (config.feature_dim, config.projection_dim, config.feature_dim)
        self.model = model.to(sac.device)
        # The targets' projector starts apart from the other, as the code has it.
        self.projector, self.predictor, self.target_projector = (mlp(*sizes).to(sac.device) for _ in range(3))
        self.target_encoder, self.target_head = copy.deepcopy(sac.encoder), copy.deepcopy(sac.critic.head)
        heads = [parameter for part in (model, self.projector, self.predictor) for parameter in part.parameters()]
        self.trained = [*sac.encoder_parameters(), *heads]
        self.model_opt = adam(self.trained, config.lr / 2)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = map(self.random_crop, (batch.obs, batch.next_obs))
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        if replay.can_sample(self.length):
            self.update_model(*replay.sequences(config.model_batch_size, self.length))
        sac.update_policy_and_targets(agent_step, batch, images, guidance)
        if agent_step % config.target_every == 0:
            soft_update(self.target_encoder, sac.encoder, config.momentum_tau)
            soft_update(self.target_head, sac.critic.head, config.momentum_tau)
            soft_update(self.target_projector, self.projector, config.momentum_tau)

    @property
    def length(self) -> int:
        """Steps of a sequence that a prediction is made of."""
        raise NotImplementedError

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        """One step on sequences: uint8 `(length, n, C, H, W)`, float32 `(length, n, A)`."""
        raise NotImplementedError

    def augmented(self, obs: torch.Tensor) -> torch.Tensor:
        """Each image cut out at any place, and made brighter or darker as a whole."""
        images = cropped(obs, self.config.window, random_corner(obs, self.config.window), UNIT)
        noise = torch.randn(len(images), 1, 1, 1, device=images.device).clamp(-2, 2)
        return images * (1 + self.config.jitter * noise)

    def latents(self, obs: torch.Tensor) -> torch.Tensor:
        return self.sac.critic.head(self.sac.encoder(self.augmented(obs)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def targets(self, obs: torch.Tensor) -> torch.Tensor:
        return self.target_projector(self.target_head(self.target_encoder(self.augmented(obs))))  # type: ignore[no-any-return]

    def step_model(self, latents: torch.Tensor, targets: torch.Tensor, weight: float = 1.0) -> None:
        """On the mean of `2 - 2 cos` between what is predicted from latents and targets, each `(..., feature_dim)`.

        Vectors shorter than 1e-3, as small initial weights make them, are divided by that and not by their length.
        """
        predicted = self.predictor(self.projector(latents))
        distance = F.normalize(predicted, dim=-1, eps=1e-3) - F.normalize(targets, dim=-1, eps=1e-3)
        loss = weight * distance.square().sum(dim=-1).mean()
        self.model_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained, self.config.max_gradient_norm)
        self.model_opt.step()
        self.sac.metrics["prediction_loss"] = loss.detach()


class SPR(LatentPredictionAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        transition = model_head(config.feature_dim + context.action_dim, config.model_dim, config.feature_dim)
        super().__init__("spr", config, context, transition)

    @property
    def length(self) -> int:
        return self.config.steps + 1

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        latents = [self.latents(obs[0])]
        for taken in action[:-1]:
            latents.append(self.model(torch.cat([latents[-1], taken], dim=-1)))
        targets = self.targets(obs[1:].flatten(0, 1))
        self.step_model(torch.cat(latents[1:]), targets, weight=self.config.steps)


AGENT = AgentSpec(
    name="spr",
    Config=Config,
    make=SPR,
    kind="visual-rl",
    paper="Schwarzer et al. 2021, arXiv 2007.05929; control: Yu et al. 2022, arXiv 2201.12096",
    checked="the official arithmetic",
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}, "dmc/walker_walk": {"momentum_tau": 0.1}},  # configs/
)
