"""SPR: SAC on random crops whose encoder also learns to predict its own later features, step by step.

Schwarzer et al.: Data-Efficient Reinforcement Learning with Self-Predictive Representations, 2021 (arXiv 2007.05929),
for Atari. For control it is here as MLR compares with it: code microsoft/Mask-based-Latent-Reconstruction, commit
eefeb81, DMControl/src/spr_sac.py and configs/. There the call that takes this loss's step is commented out, so that the
file as published trains SAC on crops; here it is taken.

The networks that are compared, their loss and its step are `covr_bench.kit.sac.latent_prediction`, which PlayVirtual
and MLR have too. With 64 filters and batches of 512 images they are meant for a GPU: sixteen times the other agents'
computation before any sequence.
"""

from __future__ import annotations

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context
from covr_bench.kit.sac.latent_prediction import PredictingAgent, PredictionSettings, rollout
from covr_bench.kit.sac.networks import model_head


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(PredictionSettings):
    """SPR's settings."""

    steps: PositiveInt = 6  # K, predicted from each observation
    model_dim: PositiveInt = 512  # of the transition model


class SPR(PredictingAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        transition = model_head(config.feature_dim + context.action_dim, config.model_dim, config.feature_dim)
        length = config.steps + 1  # the first observation, and those predicted from it
        super().__init__("spr", config, context, transition, length)

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        """One step on sequences: uint8 `(steps + 1, n, C, H, W)`, float32 `(steps + 1, n, A)`."""
        prediction = self.prediction
        predicted = rollout(prediction.model, prediction.latents(obs[0]), action[:-1])
        targets = prediction.targets(obs[1:].flatten(0, 1))
        prediction.step(self.config.steps * prediction.loss(predicted.flatten(0, 1), targets))


AGENT = AgentSpec(
    name="spr",
    Config=Config,
    make=SPR,
    kind="visual-rl",
    paper="Schwarzer et al. 2021, arXiv 2007.05929; control: Yu et al. 2022, arXiv 2201.12096",
    checked="three updates against MLR's code with its call made, float64, equal to rounding; no score",
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}, "dmc/walker_walk": {"momentum_tau": 0.1}},  # configs/
)
