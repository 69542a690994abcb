"""SPR: SAC on random crops whose encoder also learns to predict its own later features, step by step.

Schwarzer et al.: Data-Efficient Reinforcement Learning with Self-Predictive Representations, 2021 (arXiv 2007.05929),
for Atari. For control it is here as MLR compares with it: code microsoft/Mask-based-Latent-Reconstruction, commit
eefeb81, DMControl/src/spr_sac.py and configs/. There the call that takes this loss's step is commented out, so that the
file as published trains SAC on crops; here it is taken.

The networks that are compared, their loss and its step are `covr_bench.kit.sac.latent_prediction`, which MLR has too.
With 64 filters and batches of 512 images they are meant for a GPU: sixteen times the other agents' computation before
any sequence.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.nets import PixelEncoder
from covr_bench.kit.sac.crops import CroppingAgent
from covr_bench.kit.sac.latent_prediction import LatentPrediction, PredictionSettings
from covr_bench.kit.sac.networks import model_head

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(PredictionSettings):
    """SPR's settings."""

    steps: PositiveInt = 6  # K, predicted from each observation
    model_dim: PositiveInt = 512  # of the transition model


class SPR(CroppingAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        transition = model_head(config.feature_dim + context.action_dim, config.model_dim, config.feature_dim)
        super().__init__("spr", config, context, encoder=partial(PixelEncoder, filters=config.filters))
        self.prediction = LatentPrediction(config, self.sac, transition)

    def parts(self) -> dict[str, Any]:
        return super().parts() | self.prediction.parts()

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = map(self.random_crop, (batch.obs, batch.next_obs))
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        length = config.steps + 1  # the first observation, and those predicted from it
        if replay.can_sample(length):
            self.update_model(*replay.sequences(config.model_batch_size, length))
        sac.update_policy_and_targets(agent_step, batch, images, guidance)
        self.prediction.update_targets(agent_step)

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        """One step on sequences: uint8 `(steps + 1, n, C, H, W)`, float32 `(steps + 1, n, A)`."""
        prediction = self.prediction
        latents = [prediction.latents(obs[0])]
        for taken in action[:-1]:
            latents.append(prediction.model(torch.cat([latents[-1], taken], dim=-1)))
        targets = prediction.targets(obs[1:].flatten(0, 1))
        prediction.step(torch.cat(latents[1:]), targets, weight=self.config.steps)


AGENT = AgentSpec(
    name="spr",
    Config=Config,
    make=SPR,
    kind="visual-rl",
    paper="Schwarzer et al. 2021, arXiv 2007.05929; control: Yu et al. 2022, arXiv 2201.12096",
    checked="three updates against MLR's code with its call made, float64, equal to rounding; no score",
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}, "dmc/walker_walk": {"momentum_tau": 0.1}},  # configs/
)
