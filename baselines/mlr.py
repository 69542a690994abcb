"""MLR: SAC on random crops whose encoder also learns to make up for masked parts of a sequence of frames.

Yu, Zhang, Lan, Lu, Chen: Mask-based Latent Reconstruction for Reinforcement Learning, 2022 (arXiv 2201.12096).
Networks, order and settings are those of the official code (microsoft/Mask-based-Latent-Reconstruction, commit eefeb81:
DMControl/src/mtm_sac.py, configs/, and the README's jumps=15). A small transformer reads the features of masked frames
with the actions between them, and predicts those of the whole frames. That code also starts the linear layer of the
critic's encoder anew after copying it for the targets, which looks unintended and is not taken over.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context, Fraction
from covr_bench.kit.errors import UserError
from covr_bench.kit.sac.latent_prediction import PredictingAgent, PredictionSettings

INIT_STD = 0.02  # of weights, cut off at one standard deviation
WARM_UP_START = 5e-4  # share of the rate


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(PredictionSettings):
    """MLR's settings."""

    frames: PositiveInt = 16  # of a sequence
    mask_ratio: Fraction = 0.5
    patch_size: PositiveInt = 10  # pixels
    block_size: PositiveInt = 8  # frames in a row with one mask
    blocks: PositiveInt = 2  # of the transformer
    warm_up: PositiveInt = 6_000  # updates until the model's rate is reached; then it falls as 1 / sqrt(updates)


class Block(nn.Module):
    """Pre-norm attention with one head, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended = F.scaled_dot_product_attention(*self.qkv(self.norm1(x)).chunk(3, dim=-1))
        x = x + self.projection(attended)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Reconstruction(nn.Module):
    def __init__(self, config: Config, action_dim: int) -> None:
        super().__init__()
        self.action = nn.Linear(action_dim, config.feature_dim)
        self.blocks = nn.Sequential(*(Block(config.feature_dim) for _ in range(config.blocks)))
        self.register_buffer("places", sinusoids(config.frames, config.feature_dim), persistent=False)

    def forward(self, latents: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Features `(frames, n, Z)` as reconstructed from those of masked frames and the actions on them."""
        tokens = torch.stack([latents, self.action(action)], dim=1) + self.places[:, None, None]  # type: ignore[index]
        tokens = tokens.flatten(0, 1).transpose(0, 1)  # (n, 2 * frames, Z): s, a, s, a, ...
        return self.blocks(tokens)[:, ::2].transpose(0, 1)  # type: ignore[no-any-return]


def sinusoids(count: int, width: int) -> torch.Tensor:
    """Vaswani et al. 2017 (arXiv 1706.03762), section 3.5: `(count, width)`."""
    angle = torch.arange(count)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-INIT_STD, b=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MLR(PredictingAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        if config.frames % config.block_size or config.image_size % config.patch_size:
            raise UserError(
                f"mlr's masks do not fill a sequence: frames={config.frames} must be a multiple of block_size="
                f"{config.block_size}, and image_size={config.image_size} one of patch_size={config.patch_size}"
            )
        model = Reconstruction(config, context.action_dim)
        super().__init__("mlr", config, context, model, config.frames)
        for part in (model, self.prediction.projector, self.prediction.predictor, self.prediction.target_projector):
            part.apply(init_weights)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.prediction.model_opt, self.share_of_rate)

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"schedule": self.schedule}

    def share_of_rate(self, updates: int) -> float:
        warm_up = self.config.warm_up
        if updates < warm_up:
            return WARM_UP_START + (1 - WARM_UP_START) * updates / warm_up
        return float((warm_up / updates) ** 0.5)

    def update_model(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        """One step on sequences: uint8 `(frames, n, C, H, W)`, float32 `(frames, n, A)`."""
        prediction, (frames, count) = self.prediction, obs.shape[:2]
        seen = prediction.latents((obs * self.kept(obs)).flatten(0, 1)).reshape(frames, count, -1)
        reconstructed = prediction.model(seen, action).flatten(0, 1)
        prediction.step(prediction.loss(reconstructed, prediction.targets(obs.flatten(0, 1))))
        self.schedule.step()

    def kept(self, obs: torch.Tensor) -> torch.Tensor:
        """1 where pixels stay, 0 where they are masked, one mask for the whole batch: uint8 `(frames, 1, 1, H, W)`."""
        config, side = self.config, obs.shape[-1] // self.config.patch_size
        blocks = config.frames // config.block_size
        rank = torch.rand(blocks, side**2, device=obs.device).argsort(dim=1).argsort(dim=1)
        kept = (rank >= int(config.mask_ratio * side**2)).to(torch.uint8).reshape(blocks, 1, 1, side, side)
        for axis, times in ((0, config.block_size), (3, config.patch_size), (4, config.patch_size)):
            kept = kept.repeat_interleave(times, dim=axis)
        return kept


AGENT = AgentSpec(
    name="mlr",
    Config=Config,
    make=MLR,
    kind="visual-rl",
    paper="Yu et al. 2022, arXiv 2201.12096",
    checked="three updates against the official code, float64, equal to rounding; no score",
    task_defaults={  # configs/
        "dmc/cartpole_swingup": {"block_size": 4},
        "dmc/reacher_easy": {"block_size": 4},
        "dmc/cheetah_run": {"lr": 2e-4},
        "dmc/walker_walk": {"momentum_tau": 0.1},
    },
)
