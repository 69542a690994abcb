"""COVR with rounds that teach its VLM more, and no trust in those that do not: no gain for the agent (docs/effect.md).

As published but for five things. EDDF and RALW rank by return-to-go, which for most of an episode ranks time: here the
critic ranks what was done against what the policy would do, and the best 30 % are learnt with equal weights. A round is
kept only if it answers held-out samples better than before, and better than always answering their mean; one that is
kept makes the answers before it void.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from covr.config import COVRConfig
from covr.loop import CARLA, make
from covr.selection import Rule, Score
from covr.vlm.open import labels
from covr_bench.kit.api import AgentSpec, Fraction


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class COVRPlusConfig(COVRConfig):
    """The paper's settings, less those that the study found to keep a VLM from learning."""

    old_priors: Literal["keep", "relabel", "drop"] = "drop"
    score: Score = "q_advantage"
    rule: Rule = "top"
    top_share: Fraction = 0.3
    weights: Literal["ralw", "uniform", "random"] = "uniform"
    accept: Literal["always", "better", "never"] = "better"


AGENT = AgentSpec(
    name="covr_plus",
    Config=COVRPlusConfig,
    make=make,
    kind="vlm",
    paper="Xia et al. 2026, arXiv 2601.06122",
    checked="its parts as those of covr",
    needs_vlm=True,
    labels=labels,
    wraps="base",
    follows="covr",
    task_defaults={"carla/hw": CARLA, "carla/gp": CARLA, "carla/a": CARLA},
)
