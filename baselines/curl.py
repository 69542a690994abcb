"""CURL: SAC on random crops whose encoder also learns to tell two crops of one image from those of others.

Laskin, Srinivas, Abbeel: Contrastive Unsupervised Representations for Reinforcement Learning, 2020 (arXiv 2004.04136).
Geometry, order and settings are those of the official code (MishaLaskin/curl, commit 8416d6e). Where it differs from
the paper the code is followed, since the published numbers are its own:

- the features that are compared end in LayerNorm; the paper's listing has a hidden layer and a tanh more.
- the contrastive loss moves the encoder twice: two Adams with the same rate own it and both step on the same gradient
  (the repository's issue 28). Their moments are then equal, so one Adam with the sum of both rates takes the same way.
- a crop never reaches the last row or column: 16 places along each axis of 100 pixels, not 17.

Renders 100x100 and learns on 84x84 crops, other ones for s, s' and the positive; acts on the central one. The keys come
from the critic's target encoder: there is no third network. Table 3 of the paper has batches of 512, four times the
computation of the script's 128 that are the default here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.nets import adam
from covr_bench.kit.sac.crops import CroppingAgent, CropSettings

if TYPE_CHECKING:
    from covr_bench.kit.replay import Replay

ENCODER_STEPS = 2  # of the two Adams that own the encoder


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(CropSettings):
    """SAC's settings and the crop's; `lr` is also that of the contrastive loss (table 3)."""


class Contrast(nn.Module):
    """The bilinear similarity of a query and a key, `q W k`."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(feature_dim, feature_dim))

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of finding each query's own key, both `(B, feature_dim)`, among all B."""
        logits = query @ self.weight @ keys.T  # (B, B)
        return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


class CURL(CroppingAgent):
    def __init__(self, config: Config, context: Context) -> None:
        super().__init__("curl", config, context)
        self.contrast = Contrast(config.feature_dim).to(self.sac.device)
        self.contrast_opt = adam(self.sac.encoder_parameters(), ENCODER_STEPS * config.lr)
        self.contrast_opt.add_param_group({"params": list(self.contrast.parameters()), "lr": config.lr})

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"contrast": self.contrast, "contrast_opt": self.contrast_opt}

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        anchor, next_images, positive = map(self.random_crop, (batch.obs, batch.next_obs, batch.obs))
        sac.update_critic(batch, anchor, sac.target_q(batch, next_images))
        # Nothing moves the convolutions between the critic's step and the contrastive one, so the policy and the
        # query read the same features of the anchor; the critic's own were of the weights before its step.
        features = sac.encoder(anchor)
        sac.update_policy_and_targets(agent_step, batch, anchor, guidance, features=features.detach())
        self.update_contrast(features, positive)

    def update_contrast(self, features: torch.Tensor, positive: torch.Tensor) -> None:
        """features: the encoder's of the anchor, with gradient; its query is compared with the keys of positives."""
        sac = self.sac
        with torch.no_grad():
            keys = sac.target_critic.head(sac.target_encoder(positive))
        loss = self.contrast(sac.critic.head(features), keys)
        self.contrast_opt.zero_grad(set_to_none=True)
        loss.backward()
        self.contrast_opt.step()
        sac.metrics["contrastive_loss"] = loss.detach()


AGENT = AgentSpec(
    name="curl",
    Config=Config,
    make=CURL,
    kind="visual-rl",
    paper="Laskin et al. 2020, arXiv 2004.04136",
    checked=(
        "three updates against the official code, float64, equal to rounding; a score at 100k, with 64 pixels"
        " and batch 128"
    ),
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4}},  # table 3
)
