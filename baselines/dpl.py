"""DPL: a frozen VLM guides the RL agent with a constant weight, from the first step to the last.

One of the VLM-assisted baselines of the COVR paper (AAAI 2026, arXiv 2601.06122): Eq. 4 with constant lambda and a VLM
that never learns. No cold start: the VLM is at the beginning what it is at the end.

    every `query_every` steps    a_v = VLM(o_t), kept beside the transition
    every actor update           loss += lambda * |a_v - a_r|^2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from covr.config import GuidedConfig
from covr.guided import FrozenGuided, GuidedPolicy, make_frozen
from covr.vlm.open import labels
from covr_bench.kit.api import AgentSpec

if TYPE_CHECKING:
    from covr_bench.kit.api import Context


def make(config: GuidedConfig, context: Context) -> GuidedPolicy | FrozenGuided:
    """DPL in a run, and its policy where a trained one only acts."""
    return make_frozen(FrozenGuided, config, context)


CARLA = {"guidance_weight": 2.0}  # lambda of the paper for driving

AGENT = AgentSpec(
    name="dpl",
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
