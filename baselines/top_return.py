"""Top return: an agent that learns more often from what turned out well, and asks no VLM.

The ablations M10 and M11 of the COVR paper (AAAI 2026, arXiv 2601.06122): is it the VLM, or only the good experience
that tunes it? The paper names "top-return (80%) plus random samples", 50% in M11's row and 20% in its text, and no
more. Here the number is the share of every batch, and the top is the better half by return to go: both are choices.

    every update    B = top_share * N of the best transitions of finished episodes + the rest of N at random
                    the base agent learns from B
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from covr.selection import returns_to_go, transitions
from covr_bench.kit.api import AgentSpec, Context, Fraction, Metrics
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from covr_bench.kit.replay import Batch, Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Config:
    base: str = "rad"  # the agent that learns: any that draws from the replay without priorities of its own
    base_settings: dict[str, Any] = Field(default_factory=dict)
    top_share: Fraction = 0.8  # of a batch: M10; 0.5 in M11
    best: Fraction = 0.5  # share of the finished transitions that count as the top
    return_discount: Fraction = 0.99  # per agent step, as COVR's


class TopReturns:
    """A replay whose `sample` favours the transitions with the highest returns; in all else the replay itself."""

    def __init__(self, replay: Replay, config: Config, least: Mapping[str, Any] | None = None) -> None:
        self.replay, self.config = replay, config
        self.returns = np.full(replay.capacity, np.nan)  # to go, of finished episodes, by slot
        self.seen = 0  # slots that have one
        self.top: dict[int, npt.NDArray[np.int64]] = {}  # by the length of the window
        # The least return of the better, by the length of the window: of all slots there were when it was first asked
        # for, some of which are overwritten when a run goes on.
        self.least = dict(least or {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.replay, name)

    def __len__(self) -> int:
        return len(self.replay)

    def sample(
        self, n: int, nstep: int = 1, discount: float = 0.99, newest: int | None = None, window: int | None = None
    ) -> Batch:
        """As `Replay.sample`; uniform while no episode has ended. Raises UserError for a base with its own rule."""
        if newest is not None:
            raise self._refusal("from recent experience")
        length = window or nstep
        top = self.best(length)
        favoured = round(self.config.top_share * n) if len(top) else 0
        rng, starts = self.replay.rng, self.replay.starts(length)
        drawn = [rng.choice(top, favoured)] if favoured else []
        return self.replay.at(np.concatenate([*drawn, rng.choice(starts, n - favoured)]), nstep, discount)

    def starts(self, nstep: int = 1, *, until_terminal: bool = False) -> npt.NDArray[np.int64]:
        """Of a base that would choose among them itself. Raises UserError."""
        raise self._refusal("by its own priorities")

    def _refusal(self, rule: str) -> UserError:
        return UserError(
            f"top_return cannot favour anything in the batches of base={self.config.base!r}, which draws them {rule}; "
            "choose a base that does not, such as rad, drqv2 or sac"
        )

    def best(self, nstep: int) -> npt.NDArray[np.int64]:
        """Slots that a whole window of the better transitions begins with; they change when an episode ends."""
        replay = self.replay
        running = int(replay.first[(replay.head - 1) % replay.capacity])
        if running > self.seen:
            new = transitions(replay, self.seen, running)
            ended = np.arange(max(self.seen, replay.oldest()), running)
            self.returns[ended % replay.capacity] = np.nan  # of episodes that were given up there are none
            self.returns[new % replay.capacity] = returns_to_go(
                replay.reward[new % replay.capacity], replay.first[new % replay.capacity], self.config.return_discount
            )
            self.seen, self.top = running, {}
            if self.least.get("seen") != running:
                self.least = {"seen": running}
        if nstep not in self.top:
            starts = replay.starts(nstep)
            starts = starts[starts < self.seen]
            starts = starts[np.isfinite(self.returns[starts % replay.capacity])]
            returns = self.returns[starts % replay.capacity]
            if str(nstep) not in self.least:
                self.least[str(nstep)] = float(np.quantile(returns, 1 - self.config.best)) if len(starts) else 0.0
            self.top[nstep] = starts[returns >= self.least[str(nstep)]]
        return self.top[nstep][self.top[nstep] >= replay.oldest()]


class TopReturn:
    def __init__(self, config: Config, context: Context) -> None:
        self.config = config
        self.base = context.make_agent(config.base, config.base_settings, context)
        self.only_learning: Sequence[str] = getattr(self.base, "only_learning", ())
        self.returns: TopReturns | None = None
        self.restored: Mapping[str, Any] = {}

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        return self.base.act(obs, step, explore)

    def update(self, replay: Replay, step: int) -> Metrics:
        if self.returns is None or self.returns.replay is not replay:
            self.returns = TopReturns(replay, self.config, self.restored)
        return self.base.update(cast("Replay", self.returns), step)

    def state_dict(self) -> dict[str, Any]:
        """The base's, and what of the returns does not follow from the replay."""
        least = self.returns.least if self.returns else self.restored
        return dict(self.base.state_dict()) | {"least_of_top": dict(least)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.restored = state.get("least_of_top", {})  # earlier versions did not store it
        self.base.load_state_dict({name: part for name, part in state.items() if name != "least_of_top"})


AGENT = AgentSpec(
    name="top_return",
    Config=Config,
    make=TopReturn,
    kind="visual-rl",
    paper="ablations M10, M11 in Xia et al. 2026, arXiv 2601.06122",
    checked="its sampling by hand",
    wraps="base",
)
