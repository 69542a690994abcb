"""A VLM that acts by itself, as `vbe` and `vpf` have it: when it is asked, and when an episode begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr.answers import Answers, Counted
from covr.vlm.open import check_asked
from covr.vlm.prompts import task_prompt
from covr.vlm_policy import ObservedView, VLMPolicy
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.config import QueryConfig
    from covr.vlm.base import Proposer
    from covr_bench.kit.api import Context


class ActingVLM:
    """A VLM that acts. name: the agent's, for errors."""

    def __init__(self, name: str, config: QueryConfig, context: Context) -> None:
        channels, _, side = context.obs_shape
        if channels < 6:
            raise UserError(
                f"{name} sees from stacked frames that an episode begins; set env.frame_stack to at least 2"
            )
        if side < config.vlm_image_size:
            raise UserError(
                f"{name} shows the VLM the observation, which has {side} pixels, and vlm_image_size is "
                f"{config.vlm_image_size}: set {name}.image_size={config.vlm_image_size}, or vlm_image_size={side}"
            )
        self.query, self.context = config, context
        self.answers = Answers(config.vlm_silent, context.services)
        self.prompt = task_prompt(context.instruction, context.action_dim)
        check_asked(self.answering(explore=False), self.prompt, config.vlm_frames, config.vlm_image_size)
        self.training, self.evaluation = Episode(self.policy(explore=True)), Episode(self.policy(explore=False))

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        episode = self.training if explore else self.evaluation
        if not episode.goes_on_with(obs):
            episode.policy = self.policy(explore)
        episode.obs = obs.copy()
        return episode.policy.act(obs, step, explore)

    def answering(self, explore: bool) -> Proposer:
        """What is asked for actions, in training and in evaluation."""
        raise NotImplementedError

    def policy(self, explore: bool) -> VLMPolicy:
        """The VLM as the policy of one episode."""
        view = ObservedView(self.query.vlm_frames, self.query.vlm_image_size)
        repeat = self.context.action_repeat
        counted = Counted(self.answering(explore), self.answers)
        return VLMPolicy(counted, self.prompt, view, every=self.query.query_every, action_repeat=repeat)

    def finish(self, step: int) -> None:
        """The run is over. Raises UserError if the VLM never answered with an action."""
        self.answers.finish(step)

    def state_dict(self) -> dict[str, Any]:
        episodes = {"training": self.training.state_dict(), "evaluation": self.evaluation.state_dict()}
        return episodes | {"answers": self.answers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "answers" in state:  # earlier versions did not count
            self.answers.load_state_dict(state["answers"])
        self.training.load_state_dict(state["training"])
        self.evaluation.load_state_dict(state["evaluation"])


class Episode:
    """The running episode: the policy made for it, and its newest observation, empty before the first.

    An agent is not told of a reset. It shows in the frames: the older ones of an observation are the newer ones of the
    step before, unless an episode begins. (Missed only if it begins with the very frame the last ended on, twice; the
    VLM is then asked when it would have been asked next.)
    """

    def __init__(self, policy: VLMPolicy) -> None:
        self.policy = policy
        self.obs = np.zeros((0, 0, 0), np.uint8)

    def goes_on_with(self, obs: npt.NDArray[np.uint8]) -> bool:
        return np.array_equal(obs[:-3], self.obs[3:])

    def state_dict(self) -> dict[str, Any]:
        obs = torch.from_numpy(self.obs) if self.obs.size else None
        action = torch.from_numpy(self.policy.action.copy())
        return {"obs": obs, "env_steps": self.policy.env_steps, "action": action}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.obs = np.zeros((0, 0, 0), np.uint8) if state["obs"] is None else state["obs"].numpy()
        self.policy.env_steps, self.policy.action = state["env_steps"], state["action"].numpy()
