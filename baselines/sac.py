"""Soft actor-critic on pixels: a maximum-entropy policy and twin critics on shared convolutions, nothing else.

Haarnoja et al. 2018 (arXiv 1812.05905), in the pixel form of Yarats et al. 2019 (SAC-AE, arXiv 1910.01741) without its
decoder, as CURL (2004.04136) and RAD (2004.14990) compare against. There is no official code of that baseline; this is
RAD's (MishaLaskin/rad, commit 18d079e) with augmentation `no_aug`.

Networks and the steps of an update are `covr_bench.kit.sac`'s: the other methods of the family have them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """SAC's settings."""

    image_size: PositiveInt = 84  # pixels, rendered


class SAC(SoftActorCriticAgent):
    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context))

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        target_q = sac.target_q(batch, scaled(batch.next_obs, UNIT))
        images = scaled(batch.obs, UNIT)
        sac.update_critic(batch, images, target_q)
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="sac",
    Config=Config,
    make=SAC,
    kind="visual-rl",
    paper="Haarnoja et al. 2018, arXiv 1812.05905; pixels: Yarats et al. 2019, arXiv 1910.01741",
    checked="three updates against RAD's code without augmentation, float64, equal to rounding",
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}},  # CURL's table 3
)
