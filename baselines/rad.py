"""RAD: SAC that sees randomly cropped or randomly translated images when it learns.

Laskin, Lee, Stooke, Pinto, Abbeel, Srinivas: Reinforcement Learning with Augmented Data, 2020 (arXiv 2004.14990).
Geometry and settings are those of the official code (MishaLaskin/rad, commit 18d079e):

crop: renders 100x100, learns on random 84x84 windows, other ones for s than for s'; acts on the central window.
translate: renders 108x108, learns on the central 100x100 pasted at a random place of a black 108x108 image, the same
    place for s and s'. It collects on the whole rendered image, and is evaluated on the pasted one with the place in
    the middle. (The paper's table says 100x100 rendered.)

All frames of a stack share one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, check_window, cropped, random_corner, scaled, translated
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from covr_bench.kit.replay import Batch, Replay


def _sized(crop: int, translate: int) -> Any:
    """A size in pixels whose default goes with the augmentation."""
    return Field(default_factory=lambda settings: crop if settings.get("augmentation") == "crop" else translate)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """SAC's settings and the augmentation's: train.py and data_augs.py of the official code."""

    augmentation: Literal["crop", "translate"] = "translate"
    image_size: PositiveInt = _sized(crop=100, translate=108)  # pixels, rendered
    window: PositiveInt = _sized(crop=84, translate=100)  # pixels, the square that is cut out or moved


class RAD(SoftActorCriticAgent):
    config: Config

    def __init__(self, config: Config, context: Context) -> None:
        check_window("rad", config.window, context.obs_shape)
        self.crops = config.augmentation == "crop"
        seen = (context.obs_shape[0], config.window, config.window) if self.crops else context.obs_shape
        super().__init__(config, SoftActorCritic(config, seen, context))

    def shown(self, obs: torch.Tensor, explore: bool) -> torch.Tensor:
        if explore and not self.crops:
            return scaled(obs, UNIT)
        return (cropped if self.crops else translated)(obs, self.config.window, table=UNIT)

    def augmented(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of s and s' as the networks see them."""
        window = self.config.window
        corner = random_corner(batch.obs, window)
        if self.crops:
            next_corner = random_corner(batch.next_obs, window)
            return cropped(batch.obs, window, corner, UNIT), cropped(batch.next_obs, window, next_corner, UNIT)
        return translated(batch.obs, window, corner, UNIT), translated(batch.next_obs, window, corner, UNIT)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        images, next_images = self.augmented(batch)
        sac.update_critic(batch, images, sac.target_q(batch, next_images))
        sac.update_policy_and_targets(agent_step, batch, images, guidance)


AGENT = AgentSpec(
    name="rad",
    Config=Config,
    make=RAD,
    kind="visual-rl",
    paper="Laskin et al. 2020, arXiv 2004.14990",
    checked=(
        "three updates against the official code, float64, equal to rounding; three scores at 100k, with 64 "
        "pixels and batch 128"
    ),
    task_defaults={
        # The paper's choice by task, which the code does not hold: crop here, translation on the other five.
        "dmc/walker_walk": {"augmentation": "crop"},
        # scripts/cheetah_test.sh; its 10,000 random agent steps belong to its longer run and are not taken over.
        "dmc/cheetah_run": {"lr": 2e-4, "feature_dim": 64},
    },
)
