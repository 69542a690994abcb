"""An agent that learns in milliseconds, as a user's file: a template, and what makes the plain one of it."""

AGENT = '''
import numpy as np, torch
from dataclasses import dataclass
from covr_bench import AgentSpec

@dataclass(frozen=True)
class Config:
    batch_size: int = 4
    lr: float = 1e-2
    gamma: float = 0.99

class Learner:
    """Linear Q of the mean colours, trained by TD; acts at random."""

    def __init__(self, config, context):
        self.config, self.context = config, context
        self.{critic} = torch.nn.Linear(9 + context.action_dim, 1)
        self.opt = torch.optim.SGD(self.{critic}.parameters(), lr=config.lr)

    def q(self, obs, action):
        colours = obs.double().mean(dim=(2, 3)) / 255
        return self.{critic}(torch.cat([colours, action], dim=1).to(torch.get_default_dtype()))

    def act(self, obs, step, explore):
        {draw_first}
        noise = np.random.default_rng(0).uniform(-1, 1, self.context.action_dim)
        return (noise * explore * {noise}).astype(np.float32)

    def update(self, replay, step):
        if not replay.can_sample():
            return {{}}
        batch = replay.sample(self.config.batch_size, 1, self.config.gamma)
        with torch.no_grad():
            target = batch.reward + {discount} * self.q(batch.next_obs, batch.action)
        loss = (self.q(batch.obs, batch.action) - target).square().mean()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return {{"target_q": target.mean(), "loss": loss.detach()}}

    def state_dict(self):
        return {{"critic": self.{critic}.state_dict()}}

    def load_state_dict(self, state):
        self.{critic}.load_state_dict(state["critic"])

AGENT = AgentSpec("learner", Config, Learner, "visual-rl")
'''
PLAIN = {"critic": "critic", "noise": "1", "discount": "batch.discount", "draw_first": ""}
