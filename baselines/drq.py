"""DrQ: SAC whose target and loss are averaged over randomly shifted views of the same images.

Kostrikov, Yarats, Fergus: Image Augmentation Is All You Need, 2020 (arXiv 2004.13649). Settings, networks and order are
those of the official code (denisyarats/drq, commit dd040f1): K = 2 shifts of s' in the target, M = 2 of s in the loss,
whose terms are added up, and the first of them for the policy. Acts on whole images. Beside SAC's networks of this
suite, heads end in tanh, convolutions start orthogonal as a whole, one rate averages the whole target critic, and the
policy's density has no floor where tanh saturates.

The code's batch of 128 is the default here; its paper reports 512, four times the computation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Fraction, Guidance
from covr_bench.kit.augment import UNIT, random_shift
from covr_bench.kit.nets import orthogonal_init
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic
from covr_bench.kit.sac.networks import SquashedGaussianActor

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """Official defaults where they are not SAC's: config.yaml and drq.py of the official code, equal for all tasks."""

    encoder_tau: Fraction = 0.01
    alpha_lr: PositiveFloat = 1e-3
    alpha_beta: Fraction = 0.9
    image_size: PositiveInt = 84  # pixels, rendered
    shift_pad: NonNegativeInt = 4  # pixels
    target_views: PositiveInt = 2  # K, shifts of s'
    loss_views: PositiveInt = 2  # M, shifts of s


class Actor(SquashedGaussianActor):
    def log_slope(self, before: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Exact however far `before` is out, so that the entropy term still pulls on a saturated policy."""
        return 2 * (math.log(2) - before - F.softplus(-2 * before))


class DrQ(SoftActorCriticAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        networks = SoftActorCritic(config, context.obs_shape, context, actor=Actor, init=orthogonal_init, tanh=True)
        super().__init__(config, networks)

    def shifted(self, obs: torch.Tensor, views: int) -> list[torch.Tensor]:
        """As many images of each, every one moved on its own."""
        return [random_shift(obs, self.config.shift_pad, UNIT) for _ in range(views)]

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        views = self.shifted(batch.obs, config.loss_views)
        next_views = self.shifted(batch.next_obs, config.target_views)
        target_q = torch.stack([sac.target_q(batch, view) for view in next_views]).mean(dim=0)
        sac.step_critic(torch.stack([sac.critic_loss(batch, view, target_q) for view in views]).sum())
        sac.update_policy_and_targets(agent_step, batch, views[0], guidance)


AGENT = AgentSpec(
    name="drq",
    Config=Config,
    make=DrQ,
    kind="visual-rl",
    paper="Kostrikov et al. 2020, arXiv 2004.13649",
    checked=(
        "three updates against the official code, float64, equal to rounding; no published score: returns of "
        "the short budget only"
    ),
)
