"""ResAct: DeepMDP on translated images whose policy changes its previous action, by what changed between two stacks.

Liu, Peng, Tian: Visual Reinforcement Learning with Residual Action, AAAI 2025 (doi 10.1609/aaai.v39i18.34097); code
LiuZhenxian123/ResAct, commit 1cb9531, which this follows:

- the encoder's features are those of the current stack minus those of the one before, each with convolutions of its
  own; the policy also sees the previous action a and acts with tanh(a + d) for its own Gaussian d. That pulls towards
  zero: d = 0 does not repeat a. Both previous things are zeros at an episode's first step.
- the model and its loss are DeepMDP's, without weight decay; images are moved as by RAD's translation, with one place
  for the three stacks of a transition. Like RAD it collects on the whole rendered image.

The code states the settings of cheetah_run; on the other tasks its argument parser's are taken, which are RAD's. The
10,000 random agent steps of that script belong to its longer run and are not taken over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ConfigDict, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context, Guidance
from covr_bench.kit.augment import UNIT, check_window, random_corner, scaled, translated
from covr_bench.kit.errors import UserError
from covr_bench.kit.nets import PixelEncoder
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.kit.sac.latent_model import LatentModel, ModelSettings
from covr_bench.kit.sac.learner import SoftActorCritic
from covr_bench.kit.sac.networks import SquashedGaussianActor

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr_bench.kit.replay import Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(ModelSettings):
    """DeepMDP's settings and the translation's: train.py and run_cheetah.sh of the official code."""

    model_weight_decay: NonNegativeFloat = 0.0
    image_size: PositiveInt = 108  # pixels, rendered
    window: PositiveInt = 100  # pixels, the square that is moved


class DifferenceEncoder(nn.Module):
    """Takes previous stacks and then current ones, `(2 B, C, H, W)`; returns `(B, out_dim)`."""

    def __init__(self, obs_shape: tuple[int, ...], kernel: str) -> None:
        super().__init__()
        self.current, self.previous = PixelEncoder(obs_shape, kernel=kernel), PixelEncoder(obs_shape, kernel=kernel)
        self.out_dim = self.current.out_dim

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        previous, current = pairs.chunk(2)
        return self.current(current) - self.previous(previous)  # type: ignore[no-any-return]


class ResidualActor(SquashedGaussianActor):
    def __init__(self, repr_dim: int, action_dim: int, feature_dim: int, hidden_dim: int, tanh: bool) -> None:
        super().__init__(repr_dim, action_dim, feature_dim, hidden_dim, tanh, given_dim=action_dim)

    def forward(self, features: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """given: the previous action, which the mean starts from."""
        mean, log_std = super().forward(features, *given)
        return mean + given[0], log_std


class Memory:
    """The step before, of one run of episodes: its observation and action, zeros before an episode's first.

    An agent is not told of a reset. It shows in the frames: the older ones of an observation are the newer ones of the
    step before, unless an episode begins. (Missed only if it begins with the very frame the last ended on, twice.)
    """

    def __init__(self, obs_shape: tuple[int, ...], action_dim: int) -> None:
        self.obs, self.action = torch.zeros(obs_shape, dtype=torch.uint8), torch.zeros(action_dim)

    def before(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.equal(obs[:-3], self.obs[3:]):
            return self.obs, self.action
        return torch.zeros_like(self.obs), torch.zeros_like(self.action)

    def keep(self, obs: torch.Tensor, action: torch.Tensor) -> None:
        self.obs, self.action = obs.clone(), action.clone()

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"obs": self.obs, "action": self.action}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.obs, self.action = state["obs"], state["action"]


class ResAct(SoftActorCriticAgent):
    config: Config
    only_learning = (*SoftActorCriticAgent.only_learning, *LatentModel.NETWORKS)
    guide_encoder = None  # type: ignore[assignment] # the encoder takes pairs, and the actor the action before

    def __init__(self, config: Config, context: Context) -> None:
        shape = context.obs_shape
        check_window("resact", config.window, shape)
        if shape[0] < 6:
            raise UserError("resact learns from what changed between stacked frames; set env.frame_stack to at least 2")
        networks = SoftActorCritic(config, shape, context, encoder=DifferenceEncoder, actor=ResidualActor)
        super().__init__(config, networks)
        self.model = LatentModel(config, self.sac)
        self.memory, self.eval_memory = (Memory(shape, context.action_dim) for _ in range(2))

    def parts(self) -> dict[str, Any]:
        return super().parts() | self.model.parts() | {"memory": self.memory}

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        memory, current = self.memory if explore else self.eval_memory, torch.from_numpy(obs)
        if explore and self.agent_steps < self.config.random_agent_steps:
            action = self.sac.random_action()
        else:
            action = self._act_after(*memory.before(current), current, explore)
        memory.keep(current, torch.from_numpy(action))
        return action

    def act_in(self, replay: Replay, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """What the policy that is evaluated does in n > 0 slots, float32 `(n, A)`, after what was done before each."""
        each = zip(*replay.before(torch.from_numpy(slots)), replay.obs(slots), strict=True)
        return np.stack([self._act_after(*step, explore=False) for step in each])

    def q_in(self, replay: Replay, slots: npt.NDArray[np.int64], action: torch.Tensor) -> torch.Tensor:
        """As `q_value`, of n actions `(n, A)` in n slots: `(n,)`."""
        previous, _ = replay.before(torch.from_numpy(slots))
        pairs = torch.cat([previous, replay.obs(slots).to(previous.device)])
        return self.sac.q_value(self.shown(pairs, explore=False), action)

    def _act_after(
        self, previous: torch.Tensor, previous_action: torch.Tensor, current: torch.Tensor, explore: bool
    ) -> npt.NDArray[np.float32]:
        pair = torch.stack([previous.to(self.sac.device), current.to(self.sac.device)])
        return self.sac.act(self.shown(pair, explore), explore, previous_action[None].to(self.sac.device))

    def shown(self, obs: torch.Tensor, explore: bool) -> torch.Tensor:
        return scaled(obs, UNIT) if explore else translated(obs, self.config.window, table=UNIT)

    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        raise UserError("resact's critic needs the observation before as well, so it cannot value one by itself")

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        config, sac = self.config, self.sac
        batch = replay.sample(config.batch_size, 1, config.discount)
        previous_obs, previous_action = replay.before(batch.slot)
        pairs, next_pairs = self.augmented(previous_obs, batch.obs, batch.next_obs)
        sac.update_critic(batch, pairs, sac.target_q(batch, next_pairs, batch.action))
        self.model.update(batch, pairs, next_pairs)
        sac.update_policy_and_targets(agent_step, batch, pairs, guidance, previous_action)

    def augmented(self, *stacks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Three stacks of each transition, moved to one place: its first two and last two as the encoder's pairs."""
        corner = random_corner(stacks[0], self.config.window)
        images = translated(torch.cat(stacks), self.config.window, corner.repeat(3, 1), UNIT)
        return images[: 2 * len(corner)], images[len(corner) :]


AGENT = AgentSpec(
    name="resact",
    Config=Config,
    make=ResAct,
    kind="visual-rl",
    paper="Liu et al. 2025, AAAI, doi 10.1609/aaai.v39i18.34097",
    checked="three updates against the official code, float64, equal to rounding; no score",
    task_defaults={"dmc/cheetah_run": {"lr": 2e-4, "encoder_lr": 2e-4, "feature_dim": 64}},  # run_cheetah.sh
)
