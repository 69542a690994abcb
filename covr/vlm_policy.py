"""The VLM by itself as a policy: how good its own actions are (the paper's scores by round)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from covr.frames import as_images

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.config import QueryConfig
    from covr.vlm.base import Proposer
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.api import Context, Render

    Images = npt.NDArray[np.uint8]  # (1, size, size, 3), of two frames (1, 2, size, size, 3)


class View(Protocol):
    """What the VLM is shown in one episode."""

    def see(self, obs: npt.NDArray[np.uint8], asked: bool) -> None:
        """Take note of the newest observation, uint8 `(C, H, W)`; asked: whether its image is wanted."""
        ...

    def image(self) -> Images:
        """The image of the newest observation."""
        ...


class ObservedView:
    """Shows the observation's own frames, at the VLM's size."""

    def __init__(self, frames: int, size: int) -> None:
        self.frames, self.size = frames, size

    def see(self, obs: npt.NDArray[np.uint8], asked: bool) -> None:
        self.obs = obs

    def image(self) -> Images:
        return as_images(self.obs[None], self.frames, self.size)


class DrawnView:
    """Shows the scene drawn at the VLM's size; of two frames the first is that of the step before."""

    def __init__(self, render: Render, frames: int, size: int) -> None:
        self.render, self.frames, self.size = render, frames, size
        self.drawn: deque[npt.NDArray[np.uint8]] = deque(maxlen=frames)

    def see(self, obs: npt.NDArray[np.uint8], asked: bool) -> None:
        if asked or self.frames == 2:
            self.drawn.append(self.render(self.size, self.size).copy())

    def image(self) -> Images:
        newest = self.drawn[-1]
        return (np.stack([self.drawn[0], newest]) if self.frames == 2 else newest)[None]


class VLMPolicy:
    """For one episode. The VLM is asked in the first step and then every `every` environment steps; its action is held
    in between. After an answer that states no action the one before is held, before the first it is 0.
    """

    def __init__(self, vlm: Proposer, prompt: Prompt, view: View, *, every: int, action_repeat: int) -> None:
        self.vlm, self.prompt, self.view = vlm, prompt, view
        self.every, self.action_repeat = every, action_repeat
        self.env_steps = 0
        self.action = np.zeros(prompt.action_dim, np.float32)

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        asked = (
            self.env_steps == 0 or self.env_steps // self.every > (self.env_steps - self.action_repeat) // self.every
        )
        self.view.see(obs, asked)
        if asked:
            answer = self.vlm.propose(self.view.image(), self.prompt)
            if answer.valid[0]:
                self.action = answer.actions[0]
        self.env_steps += self.action_repeat
        return self.action


def vlm_policy(vlm: Proposer, prompt: Prompt, config: QueryConfig, context: Context, render: Render) -> VLMPolicy:
    """A VLM that acts as often, and sees as many pixels, as an agent's settings say.

    render: draws the environment's present frame, for a VLM that sees more pixels than the agent.
    """
    frames, size = config.vlm_frames, config.vlm_image_size
    drawn = size > context.obs_shape[-1]
    view = DrawnView(render, frames, size) if drawn else ObservedView(frames, size)
    return VLMPolicy(vlm, prompt, view, every=config.query_every, action_repeat=context.action_repeat)
