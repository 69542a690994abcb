"""The VLM by itself as a policy: how good its own actions are (the paper's scores by round)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from covr.frames import shown

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.base import Proposer
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.api import Render


class VLMPolicy:
    """For one episode. The VLM is asked in the first step and then every `every` environment steps; its action is held
    in between. After an answer that states no action the one before is held, before the first it is 0.
    """

    def __init__(
        self,
        vlm: Proposer,
        prompt: Prompt,
        render: Render,
        *,
        every: int,
        action_repeat: int,
        frames: int,
        size: int,
    ) -> None:
        self.vlm, self.prompt, self.render = vlm, prompt, render
        self.every, self.action_repeat, self.frames, self.size = every, action_repeat, frames, size
        self.env_steps = 0
        self.action = np.zeros(prompt.action_dim, np.float32)
        self.before: npt.NDArray[np.uint8] | None = None

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        asked = (
            self.env_steps == 0 or self.env_steps // self.every > (self.env_steps - self.action_repeat) // self.every
        )
        image = self._image(obs, asked)
        if image is not None:
            answer = self.vlm.propose(image, self.prompt)
            if answer.valid[0]:
                self.action = answer.actions[0]
        self.env_steps += self.action_repeat
        return self.action

    def _image(self, obs: npt.NDArray[np.uint8], asked: bool) -> npt.NDArray[np.uint8] | None:
        """What the VLM is shown now, None if it is not asked."""
        if self.size <= obs.shape[-1]:
            return shown(obs[None], self.frames, self.size) if asked else None
        if not (asked or self.frames == 2):
            return None
        now = self.render(self.size, self.size).copy()
        before = now if self.before is None else self.before
        self.before = now
        return (np.stack([before, now]) if self.frames == 2 else now)[None] if asked else None
