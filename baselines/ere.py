"""ERE: SAC that draws from ever more recent experience as an episode's updates go on.

Wang, Ross: Boosting Soft Actor-Critic: Emphasizing Recent Experience without Forgetting the Past, 2019 (arXiv
1906.04009). Update k of the K of an episode draws uniformly from the newest max(N eta^(1000 k / K), c_min) of N stored
steps; eta grows to 1, where that is all of them.

Two readings of N exist. Ours is the number of steps stored, a choice. The authors' code
(AutumnWu/Streamlined-Off-Policy-Learning, commit e2df8d8) has its buffer's capacity, `full_window=1000000`; in the
12,500 to 50,000 decisions of 100,000 environment steps of the six tasks its window then always holds all that is
stored, so that it is SAC.

The paper updates K times after an episode of K steps. Here there is one update per step, as in the rest of this suite,
so that k is the step in the running episode and K the length of the one before; a public replication of both finds
them alike (sunfex/weighted-sac). Images are SAC's: the combination with pixels has no published settings of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Fraction, Guidance
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.nets import linear_schedule
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """SAC's settings and the paper's."""

    image_size: PositiveInt = 84  # pixels, rendered
    eta_start: Fraction = 0.996
    eta_end: Fraction = 1.0  # at the end of the run
    smallest_window: PositiveInt = 5_000  # agent steps
    full_window: PositiveInt | None = None  # N, agent steps; None: those stored


class ERE(SoftActorCriticAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context))
        self.planned_agent_steps = max(1, context.total_env_steps // context.action_repeat)

    def window(self, replay: Replay, agent_step: int) -> int:
        """How many of the newest steps this update draws from."""
        config = self.config
        eta = linear_schedule(agent_step, config.eta_start, config.eta_end, self.planned_agent_steps)
        done, length = replay.progress()
        share = eta ** (1000 * min(done / length, 1)) if length else 1.0
        return max(int((config.full_window or len(replay)) * share), config.smallest_window)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount, newest=self.window(replay, agent_step))
        images, next_images = scaled(batch.obs, UNIT), scaled(batch.next_obs, UNIT)
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="ere",
    Config=Config,
    make=ERE,
    kind="visual-rl",
    paper="Wang, Ross 2019, arXiv 1906.04009",
    checked=(
        "three updates against the papers' arithmetic written out anew; its window by hand, with both "
        "readings of N; no score"
    ),
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}},  # as SAC's
)
