"""PlayVirtual: SPR's prediction, and cycles of imagined actions that are to end where they began.

Yu, Lan, Zeng, Feng, Zhang, Chen: PlayVirtual: Augmenting Cycle-Consistent Virtual Trajectories for Reinforcement
Learning, 2021 (arXiv 2106.04152). Networks, order and settings are those of the official code (microsoft/Playvirtual,
commit 54200a5: DMControl/src/cycdm_sac.py, transition_model.py and configs/). A dynamics model (DM) predicts later
features from real actions, as in SPR. From the same features it also follows random actions, and a backward model (BDM)
follows these back; what it arrives at is compared with the first observation. So both models learn from actions that
nobody took. Where paper and code leave a choice, the code's is taken, since the published numbers are its own:

- each of the copies that go through a cycle is compared with an augmentation of its own.
- the cycle's loss grows in during the first 50,000 environment steps. The code has `warmup: false` in configs/, and
  never reads it.
- two Adams with the same rate own the encoder and step on the same gradient, after it was clipped by itself and then
  with the models' one. Their moments are equal, so one Adam with the sum of both rates takes the same way.
- the reward head, of weight 0, is left out, and so is the target of the first observation, which no loss reads.

A window ends where its episode does, at the latest. The code refuses windows that reach an episode's last transition,
draws twice as many as it needs and takes what is left, so that its batch is now and then smaller than 128.

With 64 filters and batches of 512 images it is meant for a GPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context
from covr_bench.kit.nets import adam
from covr_bench.kit.sac.latent_prediction import PredictingAgent, PredictionSettings, rollout
from covr_bench.kit.sac.networks import model_head

if TYPE_CHECKING:
    from covr_bench.kit.api import Guidance
    from covr_bench.kit.replay import Replay

ENCODER_STEPS = 2  # of the two Adams that own the encoder
RAMP_SHARPNESS = 5.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(PredictionSettings):
    """PlayVirtual's settings."""

    steps: PositiveInt = 6  # K, predicted from each observation
    cycle_steps: PositiveInt = 6  # there, and as many back
    cycles: PositiveInt = 10  # M, from each observation
    model_dim: PositiveInt = 512  # of DM and BDM
    ramp_env_steps: PositiveInt = 50_000  # until the cycle's loss has its whole weight


def ramp(env_step: int, duration: int) -> float:
    """The weight of the cycle's loss: from exp(-5) to 1 in environment steps."""
    left = max(0.0, 1 - (env_step + 1) / duration)
    return math.exp(-RAMP_SHARPNESS * left**2)


class PlayVirtual(PredictingAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        sizes = (config.feature_dim + context.action_dim, config.model_dim, config.feature_dim)
        self.dm, self.bdm = model_head(*sizes), model_head(*sizes)
        models = nn.ModuleDict({"dm": self.dm, "bdm": self.bdm})
        super().__init__("playvirtual", config, context, models, length=config.steps + 1)
        prediction, encoder = self.prediction, self.sac.encoder_parameters()
        prediction.clipped = [encoder, prediction.trained]
        prediction.model_opt = adam(encoder, ENCODER_STEPS * config.lr / 2)
        prediction.model_opt.add_param_group({"params": prediction.heads, "lr": config.lr / 2})
        self.action_repeat = context.action_repeat
        self.cycle_weight = ramp(0, config.ramp_env_steps)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        self.cycle_weight = ramp(agent_step * self.action_repeat, self.config.ramp_env_steps)
        super().learn(replay, agent_step, guidance)

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        """One step on sequences: uint8 `(steps + 1, n, C, H, W)`, float32 `(steps + 1, n, A)`."""
        latents = self.prediction.latents(obs[0])
        forward_loss = self.forward_loss(latents, obs[1:], action[:-1])
        cycle_loss = self.cycle_loss(latents, obs[0])
        self.prediction.step(self.config.steps * forward_loss + self.cycle_weight * cycle_loss)
        self.sac.metrics |= {"forward_loss": forward_loss.detach(), "cycle_loss": cycle_loss.detach()}

    def forward_loss(self, latents: torch.Tensor, next_obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """What DM predicts of real actions, against what came of them; latents: `(n, feature_dim)`."""
        predicted = rollout(self.dm, latents, action)
        return self.prediction.loss(predicted.flatten(0, 1), self.prediction.targets(next_obs.flatten(0, 1)))

    def cycle_loss(self, latents: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
        """Where copies of the latents are after imagined actions and the same ones back, against where they began."""
        config, prediction = self.config, self.prediction
        copies = latents.repeat(config.cycles, 1)
        action = self.imagined_actions(len(copies))
        there = rollout(self.dm, copies, action)[-1]
        back = rollout(self.bdm, there, action.flip(0))[-1]
        # Copy by copy, so that a batch of observations is in memory once.
        targets = torch.cat([prediction.targets(obs) for _ in range(config.cycles)])
        return prediction.loss(back, targets)

    def imagined_actions(self, count: int) -> torch.Tensor:
        """Uniform in [-1, 1]: `(cycle_steps, count, A)`."""
        shape = (self.config.cycle_steps, count, self.sac.action_dim)
        return 2 * torch.rand(shape, device=self.sac.device) - 1


AGENT = AgentSpec(
    name="playvirtual",
    Config=Config,
    make=PlayVirtual,
    kind="visual-rl",
    paper="Yu et al. 2021, arXiv 2106.04152",
    checked="four updates against the official code, float64, equal to rounding; no score",
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}},  # configs/
)
