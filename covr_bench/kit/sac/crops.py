"""SAC that learns on random crops and acts on central ones, as CURL, SPR and MLR do."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from covr_bench.kit.api import Context
from covr_bench.kit.augment import UNIT, check_window, cropped, random_corner
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.learner import Settings, SoftActorCritic


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CropSettings(Settings):
    """SAC's settings and the crop's."""

    image_size: PositiveInt = 100  # pixels, rendered
    window: PositiveInt = 84  # pixels, the square that is cut out


class CroppingAgent(SoftActorCriticAgent):
    """An agent of this kind. name: the method's, for errors. networks: what it has in place of SAC's."""

    config: CropSettings

    def __init__(self, name: str, config: CropSettings, context: Context, **networks: Any) -> None:
        check_window(name, config.window, context.obs_shape, room=1)
        seen = (context.obs_shape[0], config.window, config.window)
        super().__init__(config, SoftActorCritic(config, seen, context, **networks))

    def shown(self, obs: torch.Tensor, explore: bool) -> torch.Tensor:
        return cropped(obs, self.config.window, table=UNIT)

    def random_crop(self, obs: torch.Tensor) -> torch.Tensor:
        """Another square of each image, uint8 `(B, C, H, W)`, as CURL's code cuts it: `(B, C, window, window)`.

        Never with the last row or column, so at 16 places along each axis of 100 pixels.
        """
        corner = random_corner(obs[:, :, :-1, :-1], self.config.window)
        return cropped(obs, self.config.window, corner, UNIT)
