"""APL: a frozen VLM guides the RL agent with a weight that is annealed to 0.

One of the VLM-assisted baselines of the COVR paper (AAAI 2026, arXiv 2601.06122): `dpl` with a decreasing lambda. The
paper does not print the schedule; here it is linear in environment steps, from lambda at the first to 0 at the last.

    every `query_every` steps    a_v = VLM(o_t), kept beside the transition
    every actor update           loss += lambda * (1 - t / T) * |a_v - a_r|^2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from covr.config import GuidedConfig
from covr.guided import FrozenGuided, GuidedPolicy, make_frozen
from covr.vlm.open import labels
from covr_bench.kit.api import AgentSpec

if TYPE_CHECKING:
    from covr_bench.kit.api import Context, Metrics
    from covr_bench.kit.replay import Replay


class APL(FrozenGuided):
    def update(self, replay: Replay, step: int) -> Metrics:
        self.weight = self.config.guidance_weight * max(0.0, 1.0 - step / self.context.total_env_steps)
        metrics = super().update(replay, step)
        return dict(metrics) | {"guidance_weight": torch.tensor(self.weight)} if metrics else {}


def make(config: GuidedConfig, context: Context) -> GuidedPolicy | FrozenGuided:
    """APL in a run, and its policy where a trained one only acts."""
    return make_frozen(APL, config, context)


CARLA = {"guidance_weight": 2.0}  # lambda of the paper for driving

AGENT = AgentSpec(
    name="apl",
    Config=GuidedConfig,
    make=make,
    kind="vlm",
    paper="baseline in Xia et al. 2026, arXiv 2601.06122",
    checked="Eq. 4 written out; its base by itself at weight 0",
    needs_vlm=True,
    labels=labels,
    wraps="base",
    task_defaults={"carla/hw": CARLA, "carla/gp": CARLA, "carla/a": CARLA},
)
