"""TACO: DrQ-v2 on embedded actions, whose features also tell which state a sequence of actions leads to.

Zheng et al.: TACO: Temporal Latent Action-Driven Contrastive Loss for Visual Reinforcement Learning, 2023 (arXiv
2306.13229). Networks, order and settings are those of the official code (FrankZheng2022/TACO, commit 84c38e3). Its
DrQ-v2, down to the clock (see `drqv2`), is `covr_bench.kit.ddpg`. What is TACO's own:

- Q takes u(a), an embedding that critic, target and policy share; there is no slow copy of it.
- after DrQ-v2's steps a second Adam takes one on three losses, added up: which of the batch's states K steps later is
  the own one, given z and the K actions; which of other shifts is of the own image; and the rewards' sum. Encoder and
  action embedding belong to both Adams. All states are of the online encoder and of fresh shifts; those looked for come
  without gradient.

Where the released configuration differs from what one would expect, it is followed: K is 3 for every task (the paper
has 1 for some); batches are 1024 everywhere, since the agent's file overrides the walker tasks' 512; and the reward
loss aims at DrQ-v2's n-step return, on walker's tasks that of one step, whatever K is.

Each of the official update's five passes of the convolutions sees other images or other weights: none is superfluous.
Not made: the embedding of the single action in the auxiliary step, which nothing reads, and the gradients of critic and
action embedding in the policy's loss, which are thrown away. The critic's loss goes through a batch in parts; that of
the contrasts cannot, since each state is compared with all: 1024 images of 84 pixels take about 1 GB there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from covr_bench.kit.api import AgentSpec, Context, Guidance, Metrics
from covr_bench.kit.augment import random_shift
from covr_bench.kit.ddpg import Critic, DDPGAgent, Settings, feature_trunk
from covr_bench.kit.nets import Linear, adam, mlp, orthogonal_init, soft_update

if TYPE_CHECKING:
    from covr_bench.kit.replay import Batch, Replay

ACTION_HIDDEN = 64  # of the action embedding: utils.py


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config(Settings):
    """DrQ-v2's settings and TACO's: cfgs/agent/taco.yaml. `lr` is also that of the auxiliary step."""

    batch_size: PositiveInt = 1024
    steps: PositiveInt = 3  # K, actions of a sequence


class ActionEncoder(nn.Module):
    """u, the embedding of an action, and that of a sequence of them."""

    def __init__(self, action_dim: int, steps: int) -> None:
        super().__init__()
        self.out_dim = latent_action_dim(action_dim)
        self.single = nn.Sequential(Linear(action_dim, ACTION_HIDDEN), nn.Tanh(), Linear(ACTION_HIDDEN, self.out_dim))
        size = steps * self.out_dim
        self.joint = nn.Sequential(Linear(size, size), nn.LayerNorm(size), nn.Tanh())
        orthogonal_init(self)

    def forward(self, action: torch.Tensor) -> torch.Tensor:
        """`(B, out_dim)` of actions `(B, action_dim)`."""
        return self.single(action)  # type: ignore[no-any-return]

    def sequence(self, actions: torch.Tensor) -> torch.Tensor:
        """`(B, steps * out_dim)` of actions `(B, steps, action_dim)`."""
        return self.joint(self.single(actions.flatten(0, 1)).reshape(len(actions), -1))  # type: ignore[no-any-return]


def latent_action_dim(action_dim: int) -> int:
    return int(1.25 * action_dim) + 1


class Prediction(nn.Module):
    """What reads the encoder's features for the auxiliary losses."""

    def __init__(self, repr_dim: int, sequence_dim: int, config: Config) -> None:
        super().__init__()
        size = config.feature_dim + sequence_dim
        self.project = feature_trunk(repr_dim, config.feature_dim)
        self.later = mlp(size, config.hidden_dim, config.feature_dim)  # g
        self.reward = mlp(size, config.hidden_dim, 1)
        self.weight = nn.Parameter(torch.rand(config.feature_dim, config.feature_dim))  # W, of both contrasts
        orthogonal_init(self)

    def contrast(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of finding each query's own key, both `(B, feature_dim)`, among all B by `q W k`."""
        logits = query @ self.weight @ keys.T  # (B, B)
        return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


class TACO(DDPGAgent):
    config: Config
    only_learning = (*DDPGAgent.only_learning, "action_encoder", "prediction")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context, latent_action_dim(context.action_dim))
        self.window = max(config.nstep, config.steps)
        self.action_encoder = ActionEncoder(context.action_dim, config.steps).to(self.device)
        self.critic_opt.add_param_group({"params": list(self.action_encoder.single.parameters())})
        sequence_dim = config.steps * self.action_encoder.out_dim
        self.prediction = Prediction(self.encoder.out_dim, sequence_dim, config).to(self.device)
        trained = (self.encoder, self.action_encoder, self.prediction)
        self.prediction_opt = adam([weight for part in trained for weight in part.parameters()], config.lr)

    def parts(self) -> dict[str, Any]:
        names = ("action_encoder", "prediction", "prediction_opt")
        return super().parts() | {name: getattr(self, name) for name in names}

    def q_values(
        self, critic: Critic, features: torch.Tensor, action: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return super().q_values(critic, features, self.action_encoder(action))

    def learn(self, replay: Replay, stddev: float, guidance: Guidance | None) -> Metrics:
        config = self.config
        batch = replay.sample(config.batch_size, config.nstep, config.discount, window=self.window)
        actions = replay.actions(batch.slot, config.steps)
        later = batch.next_obs if config.steps == config.nstep else replay.after(batch.slot, config.steps)
        target_q = self.target_q(batch, stddev)
        features, metrics = self.update_critic(random_shift(batch.obs, config.shift_pad), batch.action, target_q)
        metrics |= self.update_actor(features, stddev, batch, guidance)
        soft_update(self.critic_target, self.critic, config.critic_target_tau)
        return metrics | self.update_prediction(batch, actions, later)

    def update_prediction(self, batch: Batch, actions: torch.Tensor, later: torch.Tensor) -> dict[str, torch.Tensor]:
        """actions: float32 `(B, steps, A)`, taken from `batch.obs` on; later: uint8, what they led to."""
        prediction = self.prediction
        z = self.states(batch.obs)
        with torch.no_grad():
            positive, z_later = self.states(batch.obs), self.states(later)
        known = torch.cat([z, self.action_encoder.sequence(actions)], dim=-1)
        losses = {
            "temporal_loss": prediction.contrast(prediction.later(known), z_later),
            "contrastive_loss": prediction.contrast(z, positive),
            "reward_loss": F.mse_loss(prediction.reward(known), batch.reward),
        }
        self.prediction_opt.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.prediction_opt.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def states(self, obs: torch.Tensor) -> torch.Tensor:
        """`(B, feature_dim)` of observations uint8 `(B, C, H, W)`, shifted anew."""
        return self.prediction.project(self.encoder(random_shift(obs, self.config.shift_pad)))  # type: ignore[no-any-return]


_MEDIUM = {"stddev_steps": 1_000_000}  # clock steps; officially 500k agent steps
_HARD = {"stddev_steps": 4_000_000}  # officially 2M agent steps
_WALKER = {"nstep": 1}

AGENT = AgentSpec(
    name="taco",
    Config=Config,
    make=TACO,
    kind="visual-rl",
    paper="Zheng et al. 2023, arXiv 2306.13229",
    checked="three updates against the official code, float64, equal to rounding; one short run, without success",
    task_defaults={  # cfgs/task/
        "dmc/walker_walk": _WALKER,
        "dmc/walker_stand": _WALKER,
        "dmc/walker_run": _WALKER | _MEDIUM,
        "dmc/acrobot_swingup": _MEDIUM,
        "dmc/acrobot_swingup_sparse": _MEDIUM,
        "dmc/cartpole_swingup_sparse": _MEDIUM,
        "dmc/cheetah_run": _MEDIUM,
        "dmc/finger_turn_easy": _MEDIUM,
        "dmc/finger_turn_hard": _MEDIUM,
        "dmc/hopper_hop": _MEDIUM,
        "dmc/quadruped_run": _MEDIUM | {"replay_capacity": 100_000},
        "dmc/quadruped_walk": _MEDIUM,
        "dmc/reacher_easy": _MEDIUM,
        "dmc/reacher_hard": _MEDIUM,
        "dmc/manipulator_bring_ball": _HARD,
    },
)
