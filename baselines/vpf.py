"""VPF: the VLM itself is the policy, and PPO fine-tunes it on the tokens of its actions.

A baseline of the COVR paper (AAAI 2026, arXiv 2601.06122), which gives no settings for it and cites Zhai et al. 2024
(NeurIPS, arXiv 2405.10292). From them: PPO on the log-probability of the action's tokens, an MLP on the last hidden
state of the prompt as value, one Adam for both, LoRA, a learning rate that falls as a cosine, and the numbers marked
`published` below (code RL4VLM/RL4VLM, commit b989b57).

    every `query_every` steps   digits ~ p(digits | image, task) are the action, held in between as in `vbe`
    every `rollout` questions   A = GAE,  loss = -min(r A, clip(r) A) + w (V - R)^2,  r = p / p_old

What differs, and why. No thoughts are written before the action: their tokens would multiply the cost of each question,
and the paper's task-specific supervised fine-tuning that teaches them needs demonstrations. The answer's form is given,
so that only its digits are drawn, at temperature 1, and only they count in the probability: every answer is an action.
Time is counted in questions, the reward of one is the discounted sum until the next; what follows a truncated episode
is worth its last observation's value. The value is in rewards per step, `(1 - discount) V`, so that its gradient, which
shares the adapter with the policy's, does not grow with the task's returns. The vision part is frozen: a rollout keeps
what it made of each frame, not the frame. The learning rate is for the stand-in; their 7-billion model has 1e-5.

The VLM is needed wherever this agent acts; evaluated, it writes its likeliest digits.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass as plain_dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr.acting_vlm import ActingVLM
from covr.config import QueryConfig
from covr.frames import as_images
from covr.vlm.base import FinetuneSettings, Proposals
from covr.vlm.open import labels, open_model
from covr.vlm.tree import values_of
from covr_bench.kit.api import ActingOnly, AgentSpec, Context, Fraction, Guidance, Metrics
from covr_bench.kit.nets import adam, mlp

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.base import Proposer
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(QueryConfig):
    image_size: PositiveInt = Field(default_factory=lambda settings: settings["vlm_image_size"])  # of the observation
    rollout: Annotated[int, Field(ge=2)] = 512  # questions between two updates; published
    epochs: PositiveInt = 4  # over a rollout; published
    minibatch: PositiveInt = 128  # questions; published, as one at a time whose gradients are added up
    clip: PositiveFloat = 0.1  # published
    discount: Annotated[float, Field(ge=0, lt=1)] = 0.99  # per agent step, as everywhere here; published 0.9
    gae_decay: Fraction = 0.95  # lambda, per question; published
    value_weight: NonNegativeFloat = 0.5  # published
    max_gradient_norm: PositiveFloat = 0.01  # published
    lr: PositiveFloat = 3e-4  # at the first step, 0 at the last; a choice: 1e-3 left the clip on two of three questions
    lora_rank: PositiveInt = 128  # published
    lora_alpha: PositiveFloat = 256.0  # published


@plain_dataclass
class Question:
    """One question of the running rollout and what came of it.

    embeds: what the language model saw of the image, `(n, width)`. choices: int64 `(A, 4)`, the digits drawn.
    log_prob, value: of the policy and the value head that drew them. reward: discounted sum until the next question.
    discount: of what follows, 0 after a termination. after: value of the last observation of a truncated episode.
    """

    embeds: torch.Tensor
    choices: torch.Tensor
    log_prob: float
    value: float
    reward: float = 0.0
    discount: float = 1.0
    after: float | None = None


def gae(rollout: list[Question], decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and value targets, each `(N,)`, of N + 1 questions; of the last only its value is known."""
    advantages: list[float] = []
    advantage = 0.0
    for now, following in reversed(list(pairwise(rollout))):
        next_value = following.value if now.after is None else now.after
        error = now.reward + now.discount * next_value - now.value
        advantage = error + (now.discount * decay * advantage if now.after is None else 0.0)
        advantages.insert(0, advantage)
    found = torch.tensor(advantages)
    return found, found + torch.tensor([question.value for question in rollout[:-1]])


class VPFPolicy(ActingOnly, ActingVLM):
    """The tuned VLM, which writes its likeliest digits."""

    def __init__(self, config: Config, context: Context) -> None:
        self.config = config
        self.vlm = open_model(
            config.vlm,
            "vpf tunes the VLM by its gradients",
            device=config.vlm_device or context.device,
            settings=FinetuneSettings(rank=config.lora_rank, alpha=config.lora_alpha),
            seed=context.seed,
            dtype=config.vlm_dtype,
        )
        super().__init__("vpf", config, context)
        self.adapter = self.vlm.trainable()

    def answering(self, explore: bool) -> Proposer:
        return self.vlm

    def describe(self) -> dict[str, Any]:
        """Provenance: the VLM."""
        return {"vlm": dict(self.vlm.describe())}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"adapter": [weight.detach() for weight in self.adapter]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.vlm.unmerge()
        self.vlm.forget()
        with torch.no_grad():
            for weight, saved in zip(self.adapter, state["adapter"], strict=True):
                weight.copy_(saved)


class VPF(VPFPolicy):
    """VPF in training: it draws its digits, and PPO tunes it."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.device = self.adapter[0].device
        self.value = mlp(self.vlm.width, 1024, 512, 1).to(self.device)
        self.opt = adam([*self.adapter, *self.value.parameters()], config.lr)
        self.rollout: list[Question] = []
        self.asked: list[Question] = []  # since the last update, and not yet in the rollout: one at most
        self.credited = -1  # slot of the newest step whose reward was credited

    def answering(self, explore: bool) -> Proposer:
        return self if explore else self.vlm

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        """One action drawn, and remembered."""
        started = time.perf_counter()
        question = self.question(images, draw=True)
        seconds = time.perf_counter() - started
        if not math.isfinite(question.log_prob):  # the model's own numbers are NaN: nothing to learn from
            none = np.zeros((1, prompt.action_dim), np.float32)
            return Proposals(none, np.zeros(1, np.bool_), ("",), ("nonfinite_model",), seconds)
        self.asked = [question]
        action = values_of(question.choices[None]).numpy()
        return Proposals(action, np.ones(1, np.bool_), ("",), ("ok",), seconds)

    @torch.no_grad()
    def question(self, images: npt.NDArray[np.uint8], draw: bool) -> Question:
        self.vlm.merge()
        embeds = self.vlm.image_embeds(images)
        self.reader = self.vlm.reader(images, self.prompt)
        answer = self.reader.forced(embeds, draw)
        value = self.value(answer.state.float()).item() / (1 - self.config.discount)
        return Question(embeds[0].cpu(), answer.choices[0].cpu(), answer.log_prob.item(), value)

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        self.answers.store(step)
        if self.rollout:
            self.credit(self.rollout[-1], replay)
        if not self.asked:
            return {}
        self.rollout += self.asked
        self.asked = []
        if len(self.rollout) <= self.config.rollout:
            return {}
        metrics = self.learn(step)
        self.rollout = self.rollout[-1:]  # what came of the newest question is not known yet
        return metrics

    def credit(self, question: Question, replay: Replay) -> None:
        """The reward of the newest step, and whether the episode ended with it, or with a step that was lost."""
        newest = replay.head - 1
        ended = int(replay.first[newest % replay.capacity]) == newest  # then the slot before has no step
        last = newest - 1 - ended
        at, after = last % replay.capacity, (last + 1) % replay.capacity
        if last > self.credited and replay.first[at] == replay.first[after]:
            question.reward += question.discount * float(replay.reward[at])
            question.discount *= self.config.discount * float(replay.discount[at])
            self.credited = last
        if ended and question.discount:  # truncated
            images = as_images(replay.obs(np.array([newest - 1])), self.config.vlm_frames, self.config.vlm_image_size)
            question.after = self.question(images, draw=False).value

    def learn(self, step: int) -> Metrics:
        """PPO on all questions of the rollout but the newest."""
        config, past = self.config, self.rollout[:-1]
        advantage, target = (tensor.to(self.device) for tensor in gae(self.rollout, config.gae_decay))
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-5)
        embeds = torch.stack([question.embeds for question in past]).to(self.device)
        choices = torch.stack([question.choices for question in past]).to(self.device)
        old = torch.tensor([question.log_prob for question in past], device=self.device)
        trained = [*self.vlm.trainable(), *self.value.parameters()]
        self.opt.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * step / self.context.total_env_steps)) / 2
        for _ in range(config.epochs):
            for i in torch.split(torch.randperm(len(past)).to(self.device), config.minibatch):
                each, state = self.reader.log_probs(embeds[i], choices[i])
                ratio = (each.sum((1, 2)) - old[i]).exp()
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                clipped_share = (ratio != clipped).float().mean()
                policy_loss = -torch.min(ratio * advantage[i], clipped * advantage[i]).mean()
                value_loss = F.mse_loss(self.value(state.float())[:, 0], (1 - config.discount) * target[i])
                self.opt.zero_grad(set_to_none=True)
                (policy_loss + config.value_weight * value_loss).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(trained, config.max_gradient_norm)
                self.opt.step()
        losses = {"policy_loss": policy_loss.detach(), "value_loss": value_loss.detach()}
        return losses | {"clipped_share": clipped_share, "entropy": -old.mean()}

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict() | {"value": self.value.state_dict()}
        rollout = [dict(vars(question)) for question in self.rollout]
        return state | {"opt": self.opt.state_dict(), "rollout": rollout, "credited": self.credited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.value.load_state_dict(state["value"])
        self.opt.load_state_dict(state["opt"])
        self.rollout = [Question(**question) for question in state["rollout"]]
        self.credited = state.get("credited", -1)  # earlier versions credited without asking


def make(config: Config, context: Context) -> VPFPolicy:
    """VPF in a run, and its policy where a trained one only acts."""
    return VPFPolicy(config, context) if context.services is None else VPF(config, context)


AGENT = AgentSpec(
    name="vpf",
    Config=Config,
    make=make,
    kind="vlm",
    paper="Zhai et al. 2024, arXiv 2405.10292; baseline in Xia et al. 2026, arXiv 2601.06122",
    checked="GAE and PPO against the arithmetic written out anew; no score",
    needs_vlm=True,
    labels=labels,
    replay_frames=0,
)
