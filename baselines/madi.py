"""MaDi: SVEA whose agent sees every frame through a soft mask that the critic's loss trains.

Grooten, Tomilin, Vasan, Taylor, Mahmood, Fang, Pechenizkiy, Mocanu: MaDi: Learning to Mask Distractions for
Generalization in Visual Deep Reinforcement Learning, 2024 (arXiv 2312.15339). Networks, settings and order are those of
the official code (bramgrooten/mask-distractions, commit 70982ce). What differs from SVEA there, beside the Masker:

- s' is not shifted, only s is.
- updates are counted from 1, those of the burst too, and the policy learns in every second; in SVEA's burst in each.

There is one Masker. Policy, critic and target all look through it as it is, and no other loss than the critic's moves
it. The strong augmentation is SVEA's random convolution. The paper's overlay needs the photographs of Places365, which
this suite does not hold; the code's own default, none, is `plain_weight=1 strong_weight=0`. Batches are the paper's 128
(the code's default is 64).

Not made here, of the passes of the official update: the convolutions for the critic in the policy's loss, which it
shares with the policy. Images are masked anew there, since the critic's step has moved the Masker.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, random_convolution, random_shift, scaled
from covr_bench.kit.nets import PixelEncoder, adam, conv_relu, delta_orthogonal_init
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Batch, Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """Official defaults: arguments.py, equal for all tasks; what is not here is SAC's."""

    feature_dim: PositiveInt = 100
    layers: PositiveInt = 11  # convolutions
    image_size: PositiveInt = 84  # pixels, rendered
    shift_pad: NonNegativeInt = 4  # pixels
    plain_weight: NonNegativeFloat = 0.5  # alpha, of the critic's loss on shifted images
    strong_weight: NonNegativeFloat = 0.5  # beta, of that on convolved ones
    masker_lr: PositiveFloat = 1e-3
    masker_filters: PositiveInt = 32
    initial_updates: PositiveInt | None = None  # back to back at the first; None: as many as random agent steps
    replay_capacity: PositiveInt = 500_000  # frames; officially every agent step of a run


class Masker(nn.Module):
    """How much of each pixel to keep, from three convolutions over each frame by itself."""

    def __init__(self, filters: int, kernel: str) -> None:
        super().__init__()
        self.kernel = kernel
        sizes = ((3, filters), (filters, filters), (filters, 1))
        self.convs = nn.ModuleList(nn.Conv2d(size_in, size_out, 3, padding=1) for size_in, size_out in sizes)
        delta_orthogonal_init(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `(B, 3 * frames, H, W)` in [0, 1], each frame times its mask; its like in channels-last memory."""
        batch, _, height, width = images.shape
        frames = images.reshape(batch, -1, 3, height, width)
        masks = self.masks(frames.flatten(0, 1)).reshape(batch, -1, 1, height, width)
        return (masks * frames).flatten(1, 2).contiguous(memory_format=torch.channels_last)

    def masks(self, frames: torch.Tensor) -> torch.Tensor:
        """One mask in (0, 1) for the three colours of a frame: `(n, 1, H, W)` of `(n, 3, H, W)`."""
        x = frames.contiguous(memory_format=torch.channels_last)
        *inner, last = self.convs
        for conv in inner:
            x = conv_relu(x, conv, self.kernel)
        return torch.sigmoid(last(x))


class MaDi(SoftActorCriticAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        encoder = partial(PixelEncoder, layers=config.layers, last_relu=False)
        networks = SoftActorCritic(config, context.obs_shape, context, encoder=encoder, tanh=True)
        super().__init__(config, networks, config.initial_updates or config.random_agent_steps)
        self.masker = Masker(config.masker_filters, context.conv_kernel).to(self.sac.device)
        self.masker_opt = adam(self.masker.parameters(), config.masker_lr)
        self.updates = 0

    @torch.no_grad()
    def masked(self, images: torch.Tensor) -> torch.Tensor:
        """For all but the critic's loss: the Masker gets no gradient."""
        return self.masker(images)  # type: ignore[no-any-return]

    def shown(self, obs: torch.Tensor, explore: bool) -> torch.Tensor:
        return self.masked(scaled(obs, UNIT))

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        self.updates += 1
        batch = replay.sample(config.batch_size, 1, config.discount)
        images = random_shift(batch.obs, config.shift_pad, UNIT)
        target_q = sac.target_q(batch, self.masked(scaled(batch.next_obs, UNIT)))
        self.update_critic_and_masker(batch, images, target_q)
        if self.updates % config.actor_every == 0:
            sac.update_actor_and_alpha(batch, self.masked(images), guidance)
        if self.updates % config.target_every == 0:
            sac.update_targets()

    def update_critic_and_masker(self, batch: Batch, images: torch.Tensor, target_q: torch.Tensor) -> None:
        config, sac = self.config, self.sac
        loss = config.plain_weight * sac.critic_loss(batch, self.masker(images), target_q)
        if config.strong_weight:
            strong = self.masker(random_convolution(images))
            loss = loss + config.strong_weight * sac.critic_loss(batch, strong, target_q)
        self.masker_opt.zero_grad(set_to_none=True)
        sac.step_critic(loss)
        self.masker_opt.step()

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"masker": self.masker, "masker_opt": self.masker_opt}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.updates = state["updates"]


AGENT = AgentSpec(
    name="madi",
    Config=Config,
    make=MaDi,
    kind="visual-rl",
    paper="Grooten et al. 2024, arXiv 2312.15339",
    checked="three updates against the official code, float64, equal to rounding; no score",
)
