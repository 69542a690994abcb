"""DeepMDP: SAC whose encoder also learns to predict the next latent state and the reward.

Gelada et al. 2019 (arXiv 1906.02736), in the form control papers compare with: the baseline of DBC (Zhang et al. 2021,
arXiv 2006.10742), code facebookresearch/deep_bisim4control, commit 5967b6d, agent `deepmdp` with the deterministic
transition model and no decoder (`identity`; the pixel decoder fits one CARLA camera layout only). Compared with the
2019 paper it is plain regression: no Wasserstein distance, no Lipschitz penalty.

The model and its loss are `covr_bench.kit.sac.latent_model`, which ResAct has too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.latent_model import LatentModel, ModelSettings
from covr_bench.kit.sac.learner import SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(ModelSettings):
    """DeepMDP's settings."""

    image_size: PositiveInt = 84  # pixels, rendered
    initial_updates: PositiveInt | None = None  # back to back at the first; None: as many as random agent steps
    replay_capacity: PositiveInt = 1_000_000  # frames


class DeepMDP(SoftActorCriticAgent):
    config: Config
    only_learning = (*SoftActorCriticAgent.only_learning, *LatentModel.NETWORKS)

    def __init__(self, config: Config, context: Context) -> None:
        networks = SoftActorCritic(config, context.obs_shape, context)
        super().__init__(config, networks, config.initial_updates or config.random_agent_steps)
        self.model = LatentModel(config, self.sac)

    def parts(self) -> dict[str, Any]:
        return super().parts() | self.model.parts()

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = scaled(batch.obs, UNIT), scaled(batch.next_obs, UNIT)
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        self.model.update(batch, images, next_images)
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="deepmdp",
    Config=Config,
    make=DeepMDP,
    kind="visual-rl",
    paper="Gelada et al. 2019, arXiv 1906.02736; control: Zhang et al. 2021, arXiv 2006.10742",
    checked="three updates against DBC's code, float64, equal to rounding; no score",
)
