"""An agent of the soft actor-critic family: how it acts, when it learns, what its state is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from covr_bench.kit.api import Guidance, Metrics
from covr_bench.kit.augment import UNIT, scaled
from covr_bench.kit.sac.learner import Settings, SoftActorCritic

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from covr_bench.kit.replay import Batch, Replay


class SoftActorCriticAgent:
    """What the family's agents share: acting, when they learn, their state.

    A method says in `learn` what one update is, in `shown` which image it acts on, and in `parts` what else it trains.
    initial_updates: how many updates the first is, back to back.
    """

    only_learning: Sequence[str] = ("sac/critic", "sac/target_critic", "sac/target_encoder")

    def __init__(self, config: Settings, sac: SoftActorCritic, initial_updates: int = 1) -> None:
        self.config, self.sac = config, sac
        self.initial_updates = max(initial_updates, 1)
        self.agent_steps = 0

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        if explore and self.agent_steps < self.config.random_agent_steps:
            return self.sac.random_action()
        return self.sac.act(self.shown(torch.from_numpy(obs)[None].to(self.sac.device), explore), explore)

    def shown(self, obs: torch.Tensor, explore: bool) -> torch.Tensor:
        """The images that networks get of uint8 observations to act on: here, whole ones."""
        return scaled(obs, UNIT)

    def update(self, replay: Replay, step: int, guidance: Guidance | None = None) -> Metrics:
        agent_step, self.agent_steps = self.agent_steps, self.agent_steps + 1
        first = self.config.random_agent_steps
        if agent_step < first or not replay.can_sample():
            return {}
        burst = agent_step == max(first, 1)  # a replay has nothing to sample at step 0
        for _ in range(self.initial_updates if burst else 1):
            self.learn(replay, agent_step, guidance)
        return dict(self.sac.metrics)

    def learn(self, replay: Replay, agent_step: int, guidance: Guidance | None) -> None:
        raise NotImplementedError

    def guide_encoder(self, batch: Batch, guidance: Guidance) -> None:
        """A step of the encoder alone down the gradient of the guidance on the policy's mean action."""
        sac = self.sac
        action = torch.tanh(sac.actor(sac.encoder(self.shown(batch.obs, explore=False)))[0])
        sac.critic_opt.zero_grad(set_to_none=True)
        guidance(batch, action).backward(inputs=list(sac.encoder.parameters()))  # type: ignore[no-untyped-call]
        sac.critic_opt.step()

    def entropy(self, step: int) -> float:
        """`-mean log pi` over the batch of the newest actor update."""
        return self.sac.entropy()

    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.sac.q_value(self.shown(obs.to(self.sac.device), explore=False), action)

    def parts(self) -> dict[str, Any]:
        """What has a state of its own, by its name in a checkpoint."""
        return {"sac": self.sac}

    def state_dict(self) -> dict[str, Any]:
        return {"agent_steps": self.agent_steps} | {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.agent_steps = state["agent_steps"]
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
