"""COVR: a VLM guides the RL agent, and the agent's best experience tunes the VLM.

"COVR: Collaborative Optimization of VLMs and RL Agent for Visual-Based Control", AAAI 2026 (arXiv 2601.06122). No code
was released; docs/covr.md lists where the paper is silent and what is done about it, switch by switch.

    every `query_every` steps    a_v = VLM(o_t), kept beside the transition
    every actor update           loss += lambda * |a_v - a_r|^2                      (Eq. 4), after the cold start
    every psi steps              D_f -> EDDF -> RALW -> LoRA fine-tuning of the VLM  (Eq. 5, Eq. 6), psi grows (APFT)

Only the base agent acts, in training and at test time: a trained COVR needs no VLM.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr import eddf, ralw, schedule
from covr.advice import Advice
from covr.config import GuidedConfig
from covr.guided import Guided, GuidedPolicy
from covr.selection import Rule, choose, returns_to_go, transitions
from covr.vlm.base import FinetuneSettings, Samples, VisionLanguagePrior
from covr.vlm.open import labels, open_prior
from covr_bench.kit.api import AgentSpec, Context, Fraction, Metrics
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.base import FinetuneReport
    from covr_bench.kit.replay import Replay

Q_BATCH = 256


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(GuidedConfig):
    """Settings of the paper for DMControl; steps are environment steps. Where the paper is silent: docs/covr.md."""

    tuner: str = ""  # for openai:URL, a local copy of its model: tuned here, its adapters loaded by the server
    old_priors: Literal["keep", "relabel"] = "keep"

    guidance_after: NonNegativeInt = 4  # rounds of fine-tuning, the cold start; 2 for CARLA

    psi0: PositiveInt = 5_000
    growth: schedule.Growth = "linear"
    clock: Literal["env", "agent"] = "env"  # the steps that psi and query_every count
    episodes: Literal["finished", "cut"] = "finished"  # cut: the running episode enters D_f, as if it ended now
    score: Literal["return", "reward", "q"] = "return"
    return_discount: Fraction = 0.99  # gamma of g_t, per agent step
    rule: Rule = "eddf"
    top_share: Fraction = 0.8  # of the rule `top`
    direction: eddf.Direction = "eq5"
    compare: eddf.Compare = "z"
    weights: Literal["ralw", "uniform", "random"] = "ralw"

    lora_rank: PositiveInt = 128
    lora_alpha: PositiveFloat = 16.0  # 256 for CARLA
    finetune_lr: PositiveFloat = 1e-3
    finetune_epochs: PositiveInt = 2
    finetune_min_steps: PositiveInt = 100  # epochs are added up to it: early rounds of long repeats have few samples
    finetune_batch_size: PositiveInt = 32
    micro_batch: PositiveInt = 32  # samples of a batch computed at once
    label_smoothing: Fraction = 0.1

    vlm_episodes: NonNegativeInt = 3  # played by the VLM alone before the first round and after each


class COVRPolicy(GuidedPolicy):
    """A trained COVR: its base acts. rounds: of fine-tuning, whose adapter the VLM beside it takes up."""

    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.rounds = 0

    def open_vlm(self, folder: Path) -> VisionLanguagePrior:
        """The VLM as the run in `folder` had tuned it. Raises UserError if it, or its adapter, is gone."""
        vlm = _vlm(self.config, self.context, folder)
        if self.rounds:
            vlm.load_adapter(_adapter(folder, self.rounds))
        return vlm

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rounds = state["rounds"]


class COVR(Guided):
    """COVR in training."""

    config: Config

    def __init__(self, config: Config, context: Context, advice: Advice) -> None:
        super().__init__(config, context, advice)
        self.vlm, self.services = advice.vlm, advice.services
        self.rounds = 0
        self.scored = False  # the VLM by itself, before the first round
        self.collected_from = 0  # slot that D_f begins with
        self.tried_until = 0  # slot up to which D_f was looked through

    def update(self, replay: Replay, step: int) -> Metrics:
        if not self.scored:
            self.scored = True
            self.record(step, self.play_vlm())
        clock, ticks = (step, self.context.action_repeat) if self.config.clock == "env" else self._agent_clock(step)
        self.advice.ask(replay, clock, ticks)
        if self.vlm.tunable and clock >= schedule.next_step(self.rounds, self.config.psi0, self.config.growth):
            self.finetune(replay, step)
        self.advice.warn_if_unhealthy()
        return self.learn(replay, step, self.guided(clock))

    def guided(self, clock: int) -> bool:
        """Whether the cold start is over: after so many rounds, or, for a VLM that cannot be tuned, at their time."""
        after = self.config.guidance_after
        if after == 0 or self.vlm.tunable:
            return self.rounds >= after
        return clock >= schedule.next_step(after - 1, self.config.psi0, self.config.growth)

    def finetune(self, replay: Replay, step: int) -> None:
        """One round, if D_f holds anything to learn from; else it stays due."""
        priors, frames = self.advice.priors, self.advice.frames
        newest = replay.head - 1
        end = newest if self.config.episodes == "cut" else int(replay.first[newest % replay.capacity])
        entropy = self.base.entropy(step)
        if math.isnan(entropy) or end <= self.tried_until:
            return
        self.tried_until = end
        collected = transitions(replay, self.collected_from, end)
        scores = self.scores(replay, collected)
        rng = np.random.default_rng((self.context.seed, self.rounds))
        keep = choose(
            scores,
            entropy,
            rng,
            rule=self.config.rule,
            direction=self.config.direction,
            compare=self.config.compare,
            top_share=self.config.top_share,
        )
        kept, kept_scores = collected[keep], scores[keep]
        has_image = np.isin(kept, frames.known(kept))
        kept, kept_scores = kept[has_image], kept_scores[has_image]
        if not len(kept):
            return
        weights = self.weights(kept_scores, rng)
        samples = Samples(frames.of(replay, kept), replay.action[kept % replay.capacity], weights)
        priors.settle()
        report = self.vlm.finetune(samples, self.advice.prompt)
        self.rounds += 1
        self.collected_from = end
        frames.drop(min([end, *priors.waiting]))
        if self.config.old_priors == "relabel":
            priors.ask_again(replay)
        self.vlm.save_adapter(_adapter(self.services.folder, self.rounds))  # stays: a checkpoint may be older
        chosen = {"collected": float(len(collected)), "mean_weight": float(weights.mean())}
        self.record(step, self.play_vlm() | chosen | _reported(report, entropy))

    def scores(self, replay: Replay, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What EDDF and RALW rank the samples of D_f by, float64 `(N,)`."""
        if self.config.score == "return":
            return returns_to_go(replay, slots, self.config.return_discount)
        if self.config.score == "reward":
            return replay.reward[slots % replay.capacity].astype(np.float64)
        parts = [slots[i : i + Q_BATCH] for i in range(0, len(slots), Q_BATCH)]
        values = [self.base.q_value(replay.obs(p), torch.from_numpy(replay.action[p % replay.capacity])) for p in parts]
        return torch.cat(values).double().numpy() if values else np.zeros(0)

    def weights(self, scores: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        if self.config.weights == "ralw":
            return ralw.weights(scores)
        drawn = rng.uniform(size=len(scores)) if self.config.weights == "random" else np.ones(len(scores))
        return drawn.astype(np.float32)

    def play_vlm(self) -> dict[str, Any]:
        """Returns of the VLM acting by itself."""
        started = time.perf_counter()
        played = self.services.play(self.advice.policy, self.config.vlm_episodes)
        return played | {"play_seconds": time.perf_counter() - started}

    def record(self, step: int, values: dict[str, Any]) -> None:
        """Rows of kind `vlm`: the round's own values, and what became of the questions so far."""
        statuses, seconds = self.advice.priors.statuses, self.advice.priors.seconds
        asked = sum(statuses.values())
        answers = {f"answers_{status}": float(n) for status, n in sorted(statuses.items())}
        share = {"valid_share": statuses["ok"] / asked} if asked else {}
        totals = {"round": float(self.rounds), "queries": float(asked), "query_seconds": seconds}
        self.services.record(step, totals | share | answers | values)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"rounds": self.rounds, "scored": self.scored}
        state |= {"collected_from": self.collected_from, "tried_until": self.tried_until}
        return super().state_dict() | state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rounds, self.scored = state["rounds"], state["scored"]
        self.collected_from, self.tried_until = state["collected_from"], state["tried_until"]
        if self.rounds:
            self.vlm.load_adapter(_adapter(self.services.folder, self.rounds))

    def _agent_clock(self, step: int) -> tuple[int, int]:
        return step // self.context.action_repeat, 1


def make(config: Config, context: Context) -> COVR | COVRPolicy:
    """COVR in a run, and its policy where a trained one only acts."""
    if context.services is None:
        return COVRPolicy(config, context)
    vlm = _vlm(config, context, context.services.folder)
    return COVR(config, context, Advice(vlm, config, context, context.services))


def _vlm(config: Config, context: Context, folder: Path) -> VisionLanguagePrior:
    """folder: of the run. Raises UserError."""
    if config.old_priors == "relabel" and config.vlm_image_size > context.obs_shape[-1]:
        raise UserError("old_priors=relabel needs the frames again: vlm_image_size must not exceed the agent's frames")
    settings = FinetuneSettings(
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        lr=config.finetune_lr,
        epochs=config.finetune_epochs,
        min_steps=config.finetune_min_steps,
        batch_size=config.finetune_batch_size,
        micro_batch=config.micro_batch,
        label_smoothing=config.label_smoothing,
    )
    return open_prior(
        config.vlm,
        decode=None if config.decode == "auto" else config.decode,
        device=config.vlm_device or context.device,
        settings=settings,
        seed=context.seed,
        tuner=config.tuner,
        adapter_folder=folder / "adapters" / "served",
    )


def _adapter(folder: Path, number: int) -> Path:
    """Where the run in `folder` keeps the adapter of a round."""
    return folder / "adapters" / f"round-{number}"


def _reported(report: FinetuneReport, entropy: float) -> dict[str, float]:
    return {
        "heldout_error": report.heldout_error,
        "heldout_error_weighted": report.heldout_error_weighted,
        "error_before": report.error_before,
        "loss": report.loss,
        "samples": float(report.samples),
        "entropy": entropy,
        "finetune_seconds": report.seconds,
        "batch_halved": float(report.batch_halved),
    }


_CARLA = {"guidance_weight": 2.0, "guidance_after": 2, "lora_alpha": 256.0}

AGENT = AgentSpec(
    name="covr",
    Config=Config,
    make=make,
    kind="vlm",
    paper="Xia et al. 2026, arXiv 2601.06122",
    checked="Eq. 4 to 6 by hand; its base by itself until guidance",
    needs_vlm=True,
    labels=labels,
    wraps="base",
    task_defaults={"carla/hw": _CARLA, "carla/gp": _CARLA, "carla/a": _CARLA},
)
