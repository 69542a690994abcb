"""An agent of your own: covr-bench run --suite catch --budget smoke --agent random --agent examples/my_agent.py"""

import numpy as np
from pydantic.dataclasses import dataclass

from covr_bench import AgentSpec


@dataclass(frozen=True)
class Config:
    gain: float = 20.0  # speed per share of the image between paddle and ball; try --set gain=2


class Follower:
    """Plays catch by looking: moves the green paddle under the red ball."""

    def __init__(self, config, context):
        self.config = config

    def act(self, obs, step, explore):
        red, green, _ = obs[-3:].astype(int)  # the newest frame of the stack
        ball, paddle = red > green + 50, green > red + 50
        if not (ball.any() and paddle.any()):
            return np.zeros(1, np.float32)
        distance = (np.nonzero(ball)[1].mean() - np.nonzero(paddle)[1].mean()) / obs.shape[-1]
        return np.clip([self.config.gain * distance], -1, 1).astype(np.float32)

    def update(self, replay, step):
        return {}  # a learner samples a batch here: replay.sample(self.config.batch_size)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


# replay_frames=0: it does not learn from replay. A learner says nothing, or has a setting replay_capacity.
AGENT = AgentSpec(name="follower", Config=Config, make=Follower, kind="control", replay_frames=0)
