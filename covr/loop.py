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
from typing import TYPE_CHECKING, Any

import numpy as np

from covr import schedule
from covr.advice import Advice
from covr.answers import totals
from covr.controls import VLM, Control
from covr.experience import SELF, Experience, own, taught
from covr.guided import Guided, GuidedPolicy
from covr.ranking import Ranked, policy_actions
from covr.vlm.base import FinetuneSettings, Samples, VisionLanguagePrior
from covr.vlm.measures import agreement, relative_error
from covr.vlm.open import open_prior
from covr_bench.kit.api import Context, Metrics
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.config import COVRConfig
    from covr.vlm.base import FinetuneReport
    from covr_bench.kit.replay import Replay

MEASURED = 512  # slots that a round is measured on, at most


class COVRPolicy(GuidedPolicy):
    """A trained COVR: its base acts. rounds, adapter: of fine-tuning, and the one whose adapter the VLM takes up."""

    config: COVRConfig

    def __init__(self, config: COVRConfig, context: Context) -> None:
        super().__init__(config, context)
        self.rounds = self.adapter = 0

    def open_vlm(self, folder: Path) -> VisionLanguagePrior:
        """The VLM as the run in `folder` had tuned it. Raises UserError if it, or its adapter, is gone."""
        vlm = _vlm(self.config, self.context, folder)
        if self.adapter:
            vlm.load_adapter(_adapter(folder, self.adapter))
        return vlm

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rounds": self.rounds, "adapter": self.adapter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rounds = state["rounds"]
        self.adapter = state.get("adapter", self.rounds)


class COVR(Guided):
    """COVR in training."""

    config: COVRConfig

    def __init__(self, config: COVRConfig, context: Context, advice: Advice) -> None:
        super().__init__(config, context, advice)
        if config.guidance_to_encoder and not callable(getattr(self.base, "guide_encoder", None)):
            raise UserError(f"guidance cannot reach the encoder of base={config.base!r}; choose drqv2, rad, drq or sac")
        self.vlm, self.services = advice.vlm, advice.services
        self.rounds_count = self.vlm.tunable
        self.rounds = 0
        self.adapter = 0  # round whose adapter the VLM has; 0: as it came
        self.scored = False  # the VLM by itself, before the first round
        self.collected_from = 0  # slot that D_f begins with
        self.tried_until = 0  # slot up to which D_f was looked through
        self.decisions = 0  # so far: fewer environment steps than `action_repeat` belong to an episode's last

    def update(self, replay: Replay, step: int) -> Metrics:
        if not self.scored:
            self.scored = True
            self.record(step, self.play_vlm())
        if self.decisions < 0:
            self.decisions = step // self.context.action_repeat
        clock, ticks = (step, self.context.action_repeat) if self.config.clock == "env" else (self.decisions, 1)
        self.decisions += 1
        self.advice.ask(replay, clock, ticks)
        if self.vlm.tunable and clock >= schedule.next_step(self.rounds, self.config.psi0, self.config.growth):
            self.finetune(replay, step)
        self.advice.warn_if_unhealthy()
        if self.config.guidance_schedule == "anneal":
            self.weight = self.config.guidance_weight * max(0.0, 1.0 - step / self.context.total_env_steps)
        return self.learn(replay, step, self.guided(clock))

    def learn(self, replay: Replay, step: int, guided: bool) -> Metrics:
        metrics = super().learn(replay, step, guided)
        if self.config.guidance_to_encoder and self.batch is not None:  # set by an update of the actor
            of_actor = self.metrics
            self.base.guide_encoder(self.batch, self.guide)  # type: ignore[attr-defined]
            self.metrics = of_actor
        return metrics

    def guided(self, clock: int) -> bool:
        """Whether the cold start is over: after so many rounds, or, for a VLM that cannot be tuned, at their time."""
        after = self.config.guidance_after
        if after == 0 or self.vlm.tunable:
            return self.rounds >= after
        return clock >= schedule.next_step(after - 1, self.config.psi0, self.config.growth)

    def finetune(self, replay: Replay, step: int) -> None:
        """One round, if D_f holds anything to learn from; else it stays due."""
        priors, config = self.advice.priors, self.config
        newest = replay.head - 1
        end = newest if config.episodes == "cut" else int(replay.first[newest % replay.capacity])
        entropy = self.base.entropy(step)
        if math.isnan(entropy) or end <= self.tried_until:
            return
        self.tried_until = end
        collected = self.experience(replay, end)
        ranked = Ranked(config, self.base, replay, collected, step)
        rng = np.random.default_rng((self.context.seed, self.rounds))
        rows = ranked.chosen(entropy, rng)
        if not len(rows):
            return
        weights = ranked.weights(rows, rng)
        if not weights.any():
            return
        samples = Samples(collected.images(rows), ranked.labels(rows), weights)
        priors.settle()
        measured = self.measures(replay, ranked, rows, step)  # of the VLM before the round
        report = self.vlm.finetune(samples, self.advice.prompt)
        self.rounds += 1
        accepted = self.accept(report)
        if report.undone:
            self.services.warn(
                f"round {self.rounds} of fine-tuning made NaN or infinite numbers and was undone (`round_failed` in "
                "the rows): the VLM is what it was before; lower finetune_lr if it happens again"
            )
        self.collected_from = end
        if config.old_priors != "relabel":  # which asks about them again
            self.advice.frames.drop(min([end, *priors.waiting]))
        if accepted and config.old_priors == "relabel":
            priors.ask_again(replay)
        if accepted and config.old_priors == "drop":
            priors.forget()
        measured |= {"collected": float(len(collected)), "mean_weight": float(weights.mean())}
        self.record(step, self.play_vlm() | measured | _reported(report, entropy) | {"accepted": float(accepted)})

    def experience(self, replay: Replay, end: int) -> Experience:
        """D_f: since the last round, what the agent did until slot `end`, or as much of a teacher."""
        found = own(replay, self.collected_from, end, self.advice.frames)
        if self.config.teacher == SELF or not len(found):
            return found
        return taught(self.services, self.config.teacher, len(found), self.rounds, self.advice.frames)

    def accept(self, report: FinetuneReport) -> bool:
        """Keep what a round made of the VLM, or go back to what it was."""
        before, after = report.error_before_weighted, report.heldout_error_weighted
        if report.undone:  # the VLM has undone it itself
            return False
        better = after < min(1.0, before)
        if self.config.accept == "always" or (self.config.accept == "better" and better):
            self.adapter = self.rounds
            self.advice.priors.rounds = self.rounds
            self.vlm.save_adapter(_adapter(self.services.folder, self.adapter))  # stays: a checkpoint may be older
            return True
        if self.adapter:
            self.vlm.load_adapter(_adapter(self.services.folder, self.adapter))
        else:
            self.vlm.reset_adapter()
        return False

    def measures(self, replay: Replay, ranked: Ranked, rows: npt.NDArray[np.int64], step: int) -> dict[str, float]:
        """What a round has to go by: the priors in use; and, where a scripted player tells what would be good, how far
        the priors, the policy and the kept samples are from it."""
        priors, since = self.advice.priors, max(self.collected_from, replay.oldest())
        asked = np.arange(since, replay.head)
        asked = asked[np.isfinite(priors.good[asked % replay.capacity]).all(axis=1)]
        asked = asked[priors.answered[asked % replay.capacity] == asked][-MEASURED:]
        if not len(asked):
            return priors.use(replay)
        at, good = asked % replay.capacity, priors.good[asked % replay.capacity]
        valid = priors.valid[at].astype(np.float32)
        policy = policy_actions(self.base, replay, asked, step)
        kept = ranked.collected.slots[rows][-MEASURED:] if len(ranked.collected.slots) else asked[:0]
        taken, now = replay.action[kept % replay.capacity], policy_actions(self.base, replay, kept, step)
        measured = {
            "prior_error": relative_error(priors.actions[at], good, good.mean(0), valid),
            "policy_error": relative_error(policy, good, good.mean(0), np.ones(len(good))),
            "kept_agreement": agreement(taken, now),
            "kept_agreement_good": agreement(taken, priors.good[kept % replay.capacity]),
        }
        return priors.use(replay) | {name: value for name, value in measured.items() if not math.isnan(value)}

    def play_vlm(self) -> dict[str, Any]:
        """Returns of the VLM acting by itself; of a control there are none."""
        if isinstance(self.vlm, Control):
            return {}
        started = time.perf_counter()
        played = self.services.play(self.advice.policy, self.config.vlm_episodes)
        return played | {"play_seconds": time.perf_counter() - started}

    def record(self, step: int, values: dict[str, Any]) -> None:
        """Rows of kind `vlm`: the round's own values, and what became of the questions so far."""
        priors = self.advice.priors
        so_far = totals(priors.statuses, priors.seconds)
        self.services.record(step, {"round": float(self.rounds)} | so_far | values)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"rounds": self.rounds, "adapter": self.adapter, "scored": self.scored}
        state |= {"collected_from": self.collected_from, "tried_until": self.tried_until, "decisions": self.decisions}
        return super().state_dict() | state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rounds, self.scored = state["rounds"], state["scored"]
        self.adapter = state.get("adapter", self.rounds)  # earlier versions kept every round
        self.collected_from, self.tried_until = state["collected_from"], state["tried_until"]
        self.decisions = state.get("decisions", -1)  # earlier versions did not count them
        if self.adapter:
            self.vlm.load_adapter(_adapter(self.services.folder, self.adapter))


CARLA: dict[str, Any] = {"guidance_weight": 2.0, "guidance_after": 2, "lora_alpha": 256.0}


def make(config: COVRConfig, context: Context) -> COVR | COVRPolicy:
    """COVR in a run, and its policy where a trained one only acts."""
    if context.services is None:
        return COVRPolicy(config, context)
    vlm = _vlm(config, context, context.services.folder)
    return COVR(config, context, Advice(vlm, config, context, context.services))


def _vlm(config: COVRConfig, context: Context, folder: Path) -> VisionLanguagePrior:
    """folder: of the run. Raises UserError."""
    if config.prior != VLM:
        return Control(config.prior, context.seed)
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
        dtype=config.vlm_dtype,
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
        "error_before_weighted": report.error_before_weighted,
        "loss": report.loss,
        "samples": float(report.samples),
        "entropy": entropy,
        "finetune_seconds": report.seconds,
        "batch_halved": float(report.batch_halved),
    } | ({"round_failed": 1.0} if report.undone else {})
