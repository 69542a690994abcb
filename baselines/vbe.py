"""VBE: the frozen VLM acts, in training and in evaluation; nothing is learnt.

A baseline of the COVR paper (AAAI 2026, arXiv 2601.06122). The VLM is asked at the first step of each episode and then
every `query_every` environment steps, and its action is held in between (`covr.vlm_policy.VLMPolicy`, which COVR's own
scores of the VLM come from). An answer that states no action leaves the one before standing.

The VLM is needed wherever this agent acts. It sees the observation's frames, so the environment draws them at the size
the VLM is shown: `image_size` follows `vlm_image_size`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass

from covr.acting_vlm import ActingVLM
from covr.advice import open_frozen
from covr.config import VLMConfig
from covr.vlm.open import labels
from covr_bench.kit.api import AgentSpec, Context, Metrics

if TYPE_CHECKING:
    from covr.vlm.base import Proposer
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(VLMConfig):
    image_size: PositiveInt = Field(default_factory=lambda settings: settings["vlm_image_size"])  # of the observation


class VBE(ActingVLM):
    def __init__(self, config: Config, context: Context) -> None:
        self.vlm = open_frozen(config, context)
        super().__init__("vbe", config, context)

    def answering(self, explore: bool) -> Proposer:
        return self.vlm

    def update(self, replay: Replay, step: int) -> Metrics:
        self.answers.store(step)
        return {}

    def describe(self) -> dict[str, Any]:
        """Provenance: the VLM."""
        return {"vlm": dict(self.vlm.describe())}


AGENT = AgentSpec(
    name="vbe",
    Config=Config,
    make=VBE,
    kind="vlm",
    paper="baseline in Xia et al. 2026, arXiv 2601.06122",
    checked="what covr scores its VLM by",
    needs_vlm=True,
    labels=labels,
    replay_frames=0,
)
