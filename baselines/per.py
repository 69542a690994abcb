"""PER: SAC that draws transitions the more often, the more its critics were wrong about them.

Schaul, Quan, Antonoglou, Silver: Prioritized Experience Replay, 2016 (arXiv 1511.05952), the proportional variant. With
soft actor-critic as Wang and Ross compare with it (arXiv 1906.04009; code AutumnWu/Streamlined-Off-Policy-Learning,
commit e2df8d8, SOP_per.py), whose settings these are: a priority is the mean error of both critics, and beta grows over
the planned updates. Only the critics' loss carries the weights, as in the 2016 paper; that code's policy loss has them
too. Images are SAC's: the combination with pixels has no published settings of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Fraction, Guidance
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.nets import linear_schedule
from covr_bench.kit.priorities import Priorities
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """SAC's settings and the sampling's: SOP_per.py, equal to the 2016 paper's."""

    image_size: PositiveInt = 84  # pixels, rendered
    priority_exponent: NonNegativeFloat = 0.6  # alpha; 0 draws uniformly
    beta_start: Fraction = 0.4  # of the importance weights; 1 undoes the sampling's bias
    beta_end: Fraction = 1.0
    smallest_priority: PositiveFloat = 1e-5  # added to every error


class PER(SoftActorCriticAgent):
    config: Config
    only_learning = (*SoftActorCriticAgent.only_learning, "priorities")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context))
        self.priorities = Priorities(config.priority_exponent)
        self.planned_updates = max(1, context.total_env_steps // context.action_repeat - config.random_agent_steps)

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"priorities": self.priorities}

    def beta(self, agent_step: int) -> float:
        config = self.config
        done = agent_step - config.random_agent_steps
        return linear_schedule(done, config.beta_start, config.beta_end, self.planned_updates)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        starts, rarity = self.priorities.draw(replay, config.batch_size)
        batch = replay.at(starts, 1, config.discount)
        weight = torch.from_numpy((rarity ** self.beta(agent_step)).astype(np.float32)[:, None]).to(sac.device)
        images, next_images = scaled(batch.obs, UNIT), scaled(batch.next_obs, UNIT)
        target_q = sac.target_q(batch, next_images)
        errors = [q - target_q for q in sac.q_values(batch, images, target_q)]
        sac.step_critic((weight * (errors[0].square() + errors[1].square())).mean())
        error = (errors[0].abs() + errors[1].abs()).detach() / 2
        self.priorities.update(batch.slot, error.double() + config.smallest_priority)
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="per",
    Config=Config,
    make=PER,
    kind="visual-rl",
    paper="Schaul et al. 2016, arXiv 1511.05952; on SAC: Wang, Ross 2019, arXiv 1906.04009",
    checked=(
        "three updates against the papers' arithmetic written out anew; priorities against the authors' "
        "buffer, equal; no score"
    ),
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}},  # as SAC's
)
