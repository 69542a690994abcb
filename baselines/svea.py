"""SVEA: SAC whose critic also has to value strongly augmented images right, against targets from plain ones.

Hansen, Su, Wang: Stabilizing Deep Q-Learning with ConvNets and Vision Transformers under Data Augmentation, 2021
(arXiv 2107.00644, Algorithm 1). Networks, settings and order are those of the official code
(nicklashansen/dmcontrol-generalization-benchmark, commit ff9c0aa): eleven convolutions without a ReLU after the last,
100 features that end in tanh, a shift of up to 4 pixels for s and s' each, and a first update that is a thousand.

The strong augmentation is that code's random convolution. The paper's other one overlays photographs of Places365,
which this suite does not hold.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, random_convolution, random_shift
from covr_bench.kit.nets import PixelEncoder
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """Official defaults: arguments.py, equal for all tasks; what is not here is SAC's."""

    feature_dim: PositiveInt = 100
    layers: PositiveInt = 11  # convolutions
    image_size: PositiveInt = 84  # pixels, rendered
    shift_pad: NonNegativeInt = 4  # pixels
    plain_weight: NonNegativeFloat = 0.5  # alpha, of the critic's loss on shifted images
    strong_weight: NonNegativeFloat = 0.5  # beta, of that on convolved ones
    initial_updates: PositiveInt | None = None  # back to back at the first; None: as many as random agent steps
    replay_capacity: PositiveInt = 500_000  # frames; officially every agent step of a run


class SVEA(SoftActorCriticAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        encoder = partial(PixelEncoder, layers=config.layers, last_relu=False)
        networks = SoftActorCritic(config, context.obs_shape, context, encoder=encoder, tanh=True)
        super().__init__(config, networks, config.initial_updates or config.random_agent_steps)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = (random_shift(obs, config.shift_pad, UNIT) for obs in (batch.obs, batch.next_obs))
        strong = random_convolution(images)
        target_q = sac.target_q(batch, next_images)
        strong_loss, plain_loss = (sac.critic_loss(batch, seen, target_q) for seen in (strong, images))
        sac.step_critic(config.plain_weight * plain_loss + config.strong_weight * strong_loss)
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="svea",
    Config=Config,
    make=SVEA,
    kind="visual-rl",
    paper="Hansen et al. 2021, arXiv 2107.00644",
    checked="three updates against the official code, float64, equal to rounding; no score",
)
