"""DrQ-v2: DDPG with image shifts, n-step returns and a decaying exploration noise.

Yarats, Fergus, Lazaric, Pinto: Mastering Visual Continuous Control, 2021 (arXiv 2107.09645, Algorithm 1).
Settings are those of the official code (facebookresearch/drqv2, commit c0c650b). It was only ever run at an action
repeat of 2, and its loop counts agent steps. At another repeat there are two readings, the same at 2:

- `clock=env`, the default and our choice: lengths are environment steps, so that a run of 100,000 has as many updates
  and as little noise in the end at any repeat.
- `clock=agent`, the official loop: updates, noise and random actions count agent steps, two clock steps each; updates
  begin after 4,000 environment steps. At a repeat of 8 a run of 100,000 has 6,000 updates instead of 24,000, and ends
  with a noise of 0.89 instead of 0.55.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Guidance, Metrics
from covr_bench.kit.augment import random_shift
from covr_bench.kit.ddpg import DDPGAgent, Settings
from covr_bench.kit.nets import soft_update

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """DrQ-v2's settings, with its official defaults."""


class DrQV2(DDPGAgent):
    def learn(self, replay: Replay, stddev: float, guidance: Guidance | None) -> Metrics:
        config = self.config
        batch = replay.sample(config.batch_size, config.nstep, config.discount)
        target_q = self.target_q(batch, stddev)
        features, metrics = self.update_critic(random_shift(batch.obs, config.shift_pad), batch.action, target_q)
        metrics |= self.update_actor(features, stddev, batch, guidance)
        soft_update(self.critic_target, self.critic, config.critic_target_tau)
        return metrics


_MEDIUM = {"stddev_steps": 1_000_000}  # clock steps; officially 500k agent steps
_WALKER = {"nstep": 1, "batch_size": 512}
_HUMANOID = {"stddev_steps": 4_000_000, "lr": 8e-5, "feature_dim": 100}  # officially 2M agent steps

AGENT = AgentSpec(
    name="drqv2",
    Config=Config,
    make=DrQV2,
    kind="visual-rl",
    paper="Yarats et al. 2021, arXiv 2107.09645",
    checked=(
        "three updates against the official code, float64, equal to rounding; the clock over 100k steps of "
        "the official loop; the start of an official curve; a score at 100k with each clock"
    ),
    task_defaults={  # cfgs/task/
        "dmc/walker_stand": _WALKER,
        "dmc/walker_walk": _WALKER,
        "dmc/walker_run": _WALKER | _MEDIUM,
        "dmc/acrobot_swingup": _MEDIUM,
        "dmc/cartpole_swingup_sparse": _MEDIUM,
        "dmc/cheetah_run": _MEDIUM,
        "dmc/finger_turn_easy": _MEDIUM,
        "dmc/finger_turn_hard": _MEDIUM,
        "dmc/hopper_hop": _MEDIUM,
        "dmc/quadruped_run": _MEDIUM,
        "dmc/quadruped_walk": _MEDIUM,
        "dmc/reacher_easy": _MEDIUM,
        "dmc/reacher_hard": _MEDIUM,
        "dmc/humanoid_stand": _HUMANOID,
        "dmc/humanoid_walk": _HUMANOID,
        "dmc/humanoid_run": _HUMANOID,
    },
)
