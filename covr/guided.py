"""A base agent whose actor is pulled towards what a VLM proposes: when the VLM is asked, and the term of Eq. 4.

    every `query_every` steps    a_v = VLM(o_t), kept beside the transition
    every actor update           loss += lambda * |a_v - a_r|^2                      (Eq. 4)

The base agent acts; its policy needs no VLM once trained. What the weight lambda does over the run, and whether the VLM
learns as well, is each method's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from covr.advice import Advice, open_frozen
from covr.answers import check_not_silent, tell_if_few, totals
from covr.controls import VLM
from covr.vlm.prompts import task_prompt
from covr_bench.kit.api import ActingOnly, GuidedAgent
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from covr.config import GuidedConfig
    from covr.vlm.base import VisionLanguagePrior
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.api import Context, Metrics
    from covr_bench.kit.replay import Batch, Replay


class BaseActs:
    """An agent that acts as its base does, in training and after it."""

    def __init__(self, config: GuidedConfig, context: Context) -> None:
        self.config, self.context = config, context
        self.base = _base(config, context)

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        return self.base.act(obs, step, explore)


class GuidedPolicy(ActingOnly, BaseActs):
    """A guided agent after its training: nothing but its base. The VLM can be opened to be asked beside it."""

    @property
    def prompt(self) -> Prompt:
        """What the VLM is asked. Raises UserError for a task without an instruction."""
        return task_prompt(self.context.instruction, self.context.action_dim)

    def open_vlm(self, folder: Path) -> VisionLanguagePrior:
        """The VLM as the run in `folder` left it: of these methods as it came. Raises UserError if it is gone."""
        return open_frozen(self.config, self.context)

    def state_dict(self) -> dict[str, Any]:
        return {"base": self.base.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what an agent in training saved, too."""
        self.base.load_state_dict(state["base"])


class Guided(BaseActs):
    """A guided agent in training: what COVR and the methods with a frozen VLM share."""

    def __init__(self, config: GuidedConfig, context: Context, advice: Advice) -> None:
        super().__init__(config, context)
        self.advice = advice
        self.weight = config.guidance_weight
        self.metrics: dict[str, torch.Tensor] = {}
        self.batch: Batch | None = None  # that was guided in this update
        self.rounds_count = False  # whether rows of fine-tuning rounds tell what became of the answers

    @property
    def only_learning(self) -> list[str]:
        return ["priors", "frames", *(f"base/{path}" for path in getattr(self.base, "only_learning", ()))]

    def learn(self, replay: Replay, step: int, guided: bool) -> Metrics:
        """An update of the base agent, with the term of Eq. 4 or without."""
        self.batch = None
        metrics = self.base.update(replay, step, self.guide if guided else None)
        return dict(metrics) | self.metrics if metrics else {}

    def guide(self, batch: Batch, action: torch.Tensor) -> torch.Tensor:
        """lambda * |a_v - a_r|^2 (Eq. 4), the mean over those samples of the batch that have an a_v.

        With guidance_trust=variance each component is divided by its answer's variance, which counts as 0.01 at least.
        """
        self.batch = batch
        prior, known = (tensor.to(action.device) for tensor in self.advice.priors.of(batch.slot))
        distances = (action - prior).square()
        if self.config.guidance_trust == "variance":
            distances = distances / self.advice.priors.variance_of(batch.slot).to(action.device)
        distance = distances.sum(dim=1)
        loss = self.weight * (known * distance).sum() / known.sum().clamp(min=1)
        self.metrics = {"guidance_loss": loss.detach(), "guided_share": known.mean()}
        return loss

    def finish(self, step: int) -> None:
        """The run is over: the last rows of the answers. Raises UserError if none of a VLM's stated an action."""
        priors = self.advice.priors
        priors.settle()
        if not self.rounds_count or not priors.statuses["ok"]:
            told = totals(priors.statuses, priors.seconds)
            told.setdefault("valid_share", 0.0)  # it was never asked
            self.advice.services.record(step, told)
        if self.advice.config.prior == VLM:
            tell_if_few(priors.statuses, self.advice.services)
            check_not_silent(priors.statuses, self.advice.silent, priors.words)

    def describe(self) -> dict[str, Any]:
        """Provenance: the VLM, and how it is asked."""
        return self.advice.describe()

    def state_dict(self) -> dict[str, Any]:
        return {"base": self.base.state_dict(), "metrics": self.metrics} | self.advice.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state["base"])
        self.metrics = {name: value.to(self.context.device) for name, value in state["metrics"].items()}
        if "priors" in state:  # older versions left them out until the first update
            self.advice.load_state_dict(state)


class FrozenGuided(Guided):
    """Guided from the first step by a VLM that never learns, with the constant weight lambda."""

    def update(self, replay: Replay, step: int) -> Metrics:
        advice = self.advice
        advice.ask(replay, step, self.context.action_repeat)
        advice.frames.drop(min([replay.head, *advice.priors.waiting]))
        advice.warn_if_unhealthy()
        metrics = self.learn(replay, step, guided=self.weight > 0)
        if not metrics or not advice.priors.recent:
            return metrics
        return dict(metrics) | {"valid_share": torch.tensor(advice.priors.valid_share())}


def make_frozen(learner: type[FrozenGuided], config: GuidedConfig, context: Context) -> GuidedPolicy | FrozenGuided:
    """The learner in a run, and its policy where a trained agent only acts."""
    if context.services is None:
        return GuidedPolicy(config, context)
    return learner(config, context, Advice(open_frozen(config, context), config, context, context.services))


def _base(config: GuidedConfig, context: Context) -> GuidedAgent:
    base = context.make_agent(config.base, config.base_settings, context)
    if not isinstance(base, GuidedAgent):
        raise UserError(f"a VLM cannot guide {config.base!r}: it has no actor loss; try rad, sac or drqv2")
    return base
