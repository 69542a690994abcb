"""What a round learns from D_f: which transitions, how much each counts, and which action is the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from covr import ralw
from covr.selection import choose, less_typical, returns_to_go

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.config import COVRConfig
    from covr.experience import Experience
    from covr_bench.kit.api import GuidedAgent
    from covr_bench.kit.replay import Replay

    Rows = npt.NDArray[np.int64]

Q_BATCH = 256


class Ranked:
    """The transitions of D_f with their scores. step: environment step of the round."""

    def __init__(self, config: COVRConfig, base: GuidedAgent, replay: Replay, collected: Experience, step: int) -> None:
        self.config, self.base, self.replay, self.collected, self.step = config, base, replay, collected, step
        self.scores = self._scores()

    def chosen(self, entropy: float, rng: np.random.Generator) -> Rows:
        """Rows of D_f to learn from that there is an image of, int64 `(n,)`. entropy: of the policy, in nats."""
        config = self.config
        keep = choose(
            self.scores,
            entropy,
            rng,
            rule=config.rule,
            direction=config.direction,
            compare=config.compare,
            top_share=config.top_share,
        )
        return np.flatnonzero(keep & self.collected.pictured)

    def weights(self, rows: Rows, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """How much each row counts, float32 `(n,)`."""
        if self.config.weights == "ralw":
            return ralw.weights(self.scores[rows])
        drawn = rng.uniform(size=len(rows)) if self.config.weights == "random" else np.ones(len(rows))
        return drawn.astype(np.float32)

    def labels(self, rows: Rows) -> npt.NDArray[np.float32]:
        """The answers to learn, float32 `(n, A)`."""
        if self.config.labels == "taken":
            return self.collected.actions[rows]
        return policy_actions(self.base, self.replay, self.collected.slots[rows], self.step)

    def _scores(self) -> npt.NDArray[np.float64]:
        """What EDDF and RALW rank by, float64 `(N,)`."""
        found, score = self.collected, self.config.score
        if score == "reward":
            return found.rewards
        if score in ("q", "q_advantage"):
            values = self._q(found.actions)
            if score == "q" or not len(found):
                return values
            return values - self._q(policy_actions(self.base, self.replay, found.slots, self.step))
        returns = returns_to_go(found.rewards, found.episode, self.config.return_discount)
        return less_typical(returns, found.age) if score == "advantage" else returns

    def _q(self, actions: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        slots = self.collected.slots
        values = [
            self._q_in(slots[i : i + Q_BATCH], torch.from_numpy(actions[i : i + Q_BATCH]))
            for i in range(0, len(slots), Q_BATCH)
        ]
        return torch.cat(values).double().numpy() if values else np.zeros(0)

    def _q_in(self, slots: Rows, actions: torch.Tensor) -> torch.Tensor:
        """A base that needs more than a slot's observation says so itself: `q_in(replay, slots, actions)`."""
        if q_in := getattr(self.base, "q_in", None):
            return q_in(self.replay, slots, actions)  # type: ignore[no-any-return]
        return self.base.q_value(self.replay.obs(slots), actions)


def policy_actions(base: GuidedAgent, replay: Replay, slots: Rows, step: int) -> npt.NDArray[np.float32]:
    """What the policy that is evaluated does in each slot, float32 `(n, A)`.

    A base that needs more than a slot's observation says so itself: `act_in(replay, slots)`.
    """
    if not len(slots):
        return np.zeros((0, replay.action.shape[1]), np.float32)
    if act_in := getattr(base, "act_in", None):
        return act_in(replay, slots)  # type: ignore[no-any-return]
    return np.stack(
        [base.act(replay.obs(slots[i : i + 1])[0].cpu().numpy(), step, explore=False) for i in range(len(slots))]
    )
