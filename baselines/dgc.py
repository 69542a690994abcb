"""DGC: SAC whose encoder learns to see what a VLM sees, and to predict the next latent state and the reward.

Xu, Peng, Tan, Chang, Li, Tian: VLMs-Guided Representation Distillation for Efficient Vision-Based Reinforcement
Learning, CVPR 2025. What is distilled is how the VLM represents a frame, never which action it would take. No code was
released; the abstract is public, the losses are known here from descriptions by others, their weights are not.

    every `query_every` steps   t = features of the VLM's vision part for the newest frame, one per block of patches
    every update                SAC's critic loss
                                |f(z, a) - z'|^2 / 2 + (r(z, a) - r)^2        transition and reward, as in DeepMDP
                                |P(m) - t|^2                                  m: the encoder's last feature map
                                SAC's actor and temperature loss

What differs, and why. The published teacher is a chain: Qwen-VL names what matters in three frames, and CRIS, a
referring segmenter, turns these words into a map over the image and a convolution kernel; the encoder's last map is
drawn to the one, its last layer's weights to the other. CRIS's weights are not to be had with a VLM, and a VLM of today
has no kernel to give, so the kernel loss is left out, and the map is the VLM's own: what its vision part hands to its
language model. That is the representation the words would come from, but they do not select what in it matters. A
teacher frame stands for `query_every` steps, as for every agent here that needs a VLM; samples without one are masked.
Each loss takes a step of its own, which leaves no weights between them to choose. SAC is the rest of this family's.

The encoder's map is averaged to the VLM's patches; the four of a block are put side by side, as the VLM merges them,
and P is linear. The teacher's features are normalised, so that the loss has one scale for all VLMs. They are computed
once per frame, in batches, and kept as half floats: 2.3 kB for the stand-in, 37 kB for Qwen2.5-VL-3B at 84 pixels, of
every frame asked about that is still in the replay. A trained policy needs no VLM.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr.answers import Answers
from covr.config import QueryConfig
from covr.frames import Frames, check_stacked
from covr.vlm.open import labels, open_model
from covr_bench.kit.api import ActingOnly, AgentSpec, Context, Guidance, Metrics
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.nets import adam, conv_relu
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.latent_model import LatentModel, ModelSettings
from covr_bench.kit.sac.learner import SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.api import Services
    from covr_bench.kit.replay import Replay

TAUGHT = ("teacher", "projection", "distil_opt")
MERGED = 2  # patches of a block, along each side: Qwen's merger


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(ModelSettings, QueryConfig):
    """DeepMDP's settings, and the teacher's."""

    image_size: PositiveInt = 84  # pixels, rendered
    query_batch: PositiveInt = 32  # frames shown to the VLM at once
    distil_lr: PositiveFloat = 1e-3  # the distillation's own Adam, on the convolutions and P


class Teacher:
    """What the VLM sees in frames of the replay: features float16 `(rows, columns, width)` by slot number."""

    def __init__(self, config: Config, context: Context, services: Services) -> None:
        self.batch, size = config.query_batch, config.vlm_image_size
        device = config.vlm_device or context.device
        self.vlm = open_model(
            config.vlm, "dgc needs the VLM's features", device=device, seed=context.seed, dtype=config.vlm_dtype
        )
        check_stacked(context, config.vlm_frames, size)
        self.frames = Frames(config.vlm_frames, size, context.obs_shape[-1], services.render)
        black = np.zeros((1, *(2,) * (config.vlm_frames - 1), size, size, 3), np.uint8)
        self.shape = tuple(self.vlm.image_map(black).shape[1:])
        self.answers = Answers(config.vlm_silent, services)
        self.waiting: list[int] = []
        self.features: dict[int, torch.Tensor] = {}

    def see(self, replay: Replay, asked: bool) -> None:
        """Take note of the replay's newest slot, and show the VLM those it has not seen when they make a batch."""
        self.frames.see(replay, asked)
        if not asked:
            return
        self.waiting.append(replay.head - 1)
        if len(self.waiting) < self.batch:
            return
        slots = [slot for slot in self.waiting if slot >= replay.oldest()]
        images = self.frames.of(replay, np.array(slots))
        started = time.perf_counter()
        maps = self.vlm.image_map(images).half()  # as they are kept: what float32 holds may be infinite here
        finite = maps.flatten(1).isfinite().all(1).tolist()
        statuses = ["ok" if each else "nonfinite_model" for each in finite]
        self.answers.count(statuses, time.perf_counter() - started)
        kept = {slot: seen for slot, seen in self.features.items() if slot >= replay.oldest()}
        new = zip(slots, maps.cpu(), finite, strict=True)
        self.features = kept | {slot: seen for slot, seen, each in new if each}
        self.waiting = []
        self.frames.drop(replay.head)

    def state_dict(self) -> dict[str, Any]:
        seen = {"features": torch.stack(list(self.features.values()))} if self.features else {}
        parts = {"frames": self.frames.state_dict(), "answers": self.answers.state_dict()}
        return seen | {"slots": list(self.features), "waiting": list(self.waiting)} | parts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.features = dict(zip(state["slots"], state.get("features", ()), strict=True))
        self.waiting = list(state["waiting"])
        self.frames.load_state_dict(state["frames"])
        if "answers" in state:  # earlier versions did not count
            self.answers.load_state_dict(state["answers"])


class DGCPolicy(ActingOnly, SoftActorCriticAgent):
    """A trained DGC: SAC acts, and there is neither a model nor a teacher."""

    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context))


class DGC(SoftActorCriticAgent):
    """DGC in training, with its teacher."""

    config: Config
    only_learning = (*SoftActorCriticAgent.only_learning, *LatentModel.NETWORKS, "teacher", "projection")

    def __init__(self, config: Config, context: Context, services: Services) -> None:
        super().__init__(config, SoftActorCritic(config, context.obs_shape, context))
        self.model = LatentModel(config, self.sac)
        self.action_repeat, self.previous_step = context.action_repeat, -1
        self.teacher = Teacher(config, context, services)
        width = self.teacher.shape[-1]
        self.projection = nn.Linear(MERGED**2 * self.sac.encoder.convs[-1].out_channels, width).to(self.sac.device)
        self.distil_opt = adam([*self.sac.encoder.parameters(), *self.projection.parameters()], config.distil_lr)

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        every = self.config.query_every
        # At most an action's repeats ago: fewer where an episode ended within them.
        before, self.previous_step = max(self.previous_step, step - self.action_repeat), step
        self.teacher.see(replay, asked=step // every > before // every)
        self.teacher.answers.store(step)
        return super().update(replay, step, guidance)

    def finish(self, step: int) -> None:
        """The run is over. Raises UserError if the VLM's features of no frame were finite."""
        self.teacher.answers.finish(step)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = scaled(batch.obs, UNIT), scaled(batch.next_obs, UNIT)
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        self.model.update(batch, images, next_images)
        self.distil(batch.slot, images)
        sac.update_policy_and_targets(agent_step, batch, images, guidance)

    def distil(self, slots: torch.Tensor, images: torch.Tensor) -> None:
        """One step of convolutions and projection on those images that the VLM has seen."""
        features = self.teacher.features
        found = {i: features[slot] for i, slot in enumerate(slots.tolist()) if slot in features}
        self.sac.metrics["distilled_share"] = torch.tensor(len(found) / len(slots))
        if not found:
            return
        target = torch.stack(list(found.values())).to(images.device).float()
        target = F.layer_norm(target, target.shape[-1:])
        loss = F.mse_loss(self.projection(self.blocks(images[list(found)])), target)
        self.distil_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.distil_opt.step()
        self.sac.metrics["distillation_loss"] = loss.detach()

    def blocks(self, images: torch.Tensor) -> torch.Tensor:
        """The encoder's last map, averaged to the VLM's patches, `(B, rows, columns, filters of a block)`."""
        rows, columns, _ = self.teacher.shape
        for conv in self.sac.encoder.convs:
            images = conv_relu(images, conv, self.sac.encoder.kernel)
        patches = F.adaptive_avg_pool2d(images, (MERGED * rows, MERGED * columns))
        return F.pixel_unshuffle(patches, MERGED).permute(0, 2, 3, 1)

    def parts(self) -> dict[str, Any]:
        return super().parts() | self.model.parts() | {name: getattr(self, name) for name in TAUGHT}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"previous_step": self.previous_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.previous_step = state.get("previous_step", -1)  # none in states of earlier versions


def make(config: Config, context: Context) -> DGC | DGCPolicy:
    """DGC in a run, and its policy where a trained one only acts."""
    return DGCPolicy(config, context) if context.services is None else DGC(config, context, context.services)


AGENT = AgentSpec(
    name="dgc",
    Config=Config,
    make=make,
    kind="vlm",
    paper="Xu et al., CVPR 2025; baseline in Xia et al. 2026, arXiv 2601.06122",
    checked="three updates against the paper's arithmetic written out anew; no official code exists; no score",
    needs_vlm=True,
    labels=labels,
)
