"""PER: SAC that draws transitions the more often, the more its critics were wrong about them.

Schaul, Quan, Antonoglou, Silver: Prioritized Experience Replay, 2016 (arXiv 1511.05952), the proportional variant. With
soft actor-critic as Wang and Ross compare with it (arXiv 1906.04009; code AutumnWu/Streamlined-Off-Policy-Learning,
commit e2df8d8, SOP_per.py), whose settings these are: a priority is the mean error of both critics, and beta grows over
the planned updates. Only the critics' loss carries the weights, as in the 2016 paper; that code's policy loss has them
too. Images are SAC's: the combination with pixels has no published settings of its own.

There is no tree: sums over 100,000 slots take 3 ms, under a hundredth of the update they are for.
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
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Batch, Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """SAC's settings and the sampling's: SOP_per.py, equal to the 2016 paper's."""

    image_size: PositiveInt = 84  # pixels, rendered
    priority_exponent: NonNegativeFloat = 0.6  # alpha; 0 draws uniformly
    beta_start: Fraction = 0.4  # of the importance weights; 1 undoes the sampling's bias
    beta_end: Fraction = 1.0
    smallest_priority: PositiveFloat = 1e-5  # added to every error


class Priorities:
    """Of a replay's slots, raised to the exponent. A new transition has the largest priority there was yet."""

    def __init__(self, exponent: float, smallest: float) -> None:
        self.exponent, self.smallest = exponent, smallest
        self.powers = np.zeros(0)  # by slot; as long as the replay, once it has been seen
        self.largest = 1.0
        self.seen = 0  # slots of the replay whose transitions have a priority

    def sample(self, replay: Replay, n: int, discount: float, beta: float) -> tuple[Batch, torch.Tensor]:
        """n transitions and their importance weights `(n, 1)`, at most 1: that of the rarest one stored."""
        self.see(replay)
        starts = replay.starts()
        powers = self.powers[starts % replay.capacity]
        total = powers.cumsum()
        drawn = np.searchsorted(total, replay.rng.random(n) * total[-1], side="right").clip(max=len(starts) - 1)
        weights = (powers.min() / powers[drawn]) ** beta
        batch = replay.at(starts[drawn], 1, discount)
        return batch, torch.from_numpy(weights.astype(np.float32)[:, None]).to(batch.reward.device)

    def see(self, replay: Replay) -> None:
        """Give transitions stored since the last time the largest priority.

        The newest slot has none yet: its action is still to be taken, and larger errors may be seen before.
        """
        if not len(self.powers):
            self.powers = np.zeros(replay.capacity)
        newest = replay.head - 1
        new = np.arange(max(self.seen, replay.head - replay.capacity), newest)
        self.powers[new % replay.capacity] = self.largest**self.exponent
        self.seen = newest

    def update(self, slot: torch.Tensor, error: torch.Tensor) -> None:
        """error: of each sampled transition, `(n, 1)`, not negative."""
        priority = error[:, 0].double().cpu().numpy() + self.smallest
        self.powers[slot.numpy() % len(self.powers)] = priority**self.exponent
        self.largest = max(self.largest, float(priority.max()))

    def state_dict(self) -> dict[str, Any]:
        return {"powers": torch.from_numpy(self.powers), "largest": self.largest, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.powers, self.largest, self.seen = state["powers"].numpy().copy(), state["largest"], state["seen"]


class PER(SoftActorCriticAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context))
        self.priorities = Priorities(config.priority_exponent, config.smallest_priority)
        self.planned_updates = max(1, context.total_env_steps // context.action_repeat - config.random_agent_steps)

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"priorities": self.priorities}

    def beta(self, agent_step: int) -> float:
        config = self.config
        done = agent_step - config.random_agent_steps
        return linear_schedule(done, config.beta_start, config.beta_end, self.planned_updates)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch, weight = self.priorities.sample(replay, config.batch_size, config.discount, self.beta(agent_step))
        images, next_images = scaled(batch.obs, UNIT), scaled(batch.next_obs, UNIT)
        target_q = sac.target_q(batch, next_images)
        errors = [q - target_q for q in sac.q_values(batch, images, target_q)]
        sac.step_critic((weight * (errors[0].square() + errors[1].square())).mean())
        self.priorities.update(batch.slot, (errors[0].abs() + errors[1].abs()).detach() / 2)
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
