"""What a run in progress consists of: its parts, its state for a checkpoint, and how it takes up an earlier one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import starts
from covr_bench.run.build import build
from covr_bench.run.contract import check_losses
from covr_bench.run.counters import Counters
from covr_bench.run.episodes import Episodes
from covr_bench.run.meter import Meter
from covr_bench.run.randomness import random_state, set_random_state
from covr_bench.run.services import LostEpisodes, RunServices, Warnings
from covr_bench.run.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import Agent, Context
    from covr_bench.run.checkpoint import Checkpoints
    from covr_bench.run.meter import Report
    from results.store import RunWriter
    from suites.base import TaskEnv


class RunState:
    """What a run in progress consists of.

    Everything its future depends on is in `state()`. The environment is not, because an episode is determined by its
    reset seed and actions: a resumed run replays the running episode's actions.

    Args:
        config: What the run is.
        env, eval_env: Environments of training and of evaluation.
        make_agent: Builds the agent for a context.
        writer: Of the run's rows. checkpoints: Of the run.
        replay_frames: What the agent's spec says of it.
        instruction: The task in a sentence. player: The agent that plays it by rules, if there is one.
        stop: Whether the run is asked to stop. report: Told how far it is. warn: Tells the user.
    """

    def __init__(
        self,
        config: RunConfig,
        env: TaskEnv,
        eval_env: TaskEnv,
        make_agent: Callable[[Context], Agent],
        writer: RunWriter,
        checkpoints: Checkpoints,
        *,
        replay_frames: int | None = None,
        instruction: str = "",
        player: str = "",
        stop: Callable[[], bool] = lambda: False,
        report: Report = lambda progress: None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.config, self.eval_env = config, eval_env
        self.writer, self.checkpoints, self.stop = writer, checkpoints, stop
        self.counters, self.meter, self.warn = Counters(), Meter(report), Warnings(warn)
        self.learns = replay_frames != 0
        self.lost = LostEpisodes(writer, self.warn, lambda: self.counters)
        services = RunServices(
            config.seed,
            env,
            eval_env,
            writer,
            lambda: self.counters,
            self.tick,
            self.lost,
            self.warn,
            player,
            config.action_repeat,
        )
        parts = build(config, env, make_agent, services, replay_frames, instruction)
        self.agent, self.replay, self.action_dim = parts.agent, parts.replay, parts.action_dim
        self.episodes = Episodes(config.seed, env, self.replay, self.lost, services.watch)
        self.eval_seeds = starts(config.seed, config.eval_episodes)
        self.losses: dict[str, Any] = {}
        self.signals = Signals(self.agent, self.replay, config.env_steps)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds beside the replay."""
        last = self.meter.last_return
        return {
            "agent": self.agent.state_dict(),
            **self.counters.as_dict(),
            **self.episodes.state(),
            "losses": self.losses,
            "signals": self.signals.state(),
            "last_return": None if np.isnan(last) else last,
            "random": random_state(),
        }

    def resume(self) -> None:
        """Go on from the newest checkpoint, in the episode it was made in; else begin."""
        state = self.checkpoints.load(self.replay)
        if state is None:
            self.episodes.begin(0)
            return
        try:
            self.agent.load_state_dict(state["agent"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the checkpoint in {self.checkpoints.folder} does not fit the agent, whose code may have changed "
                f"since: {error}. Give --restart to train this run anew."
            ) from error
        self.counters = Counters.from_dict(state)
        self.losses = state.get("losses", {})
        if "signals" in state:  # earlier versions had none
            self.signals.load_state(state["signals"])
        self.meter.last_return = float("nan") if state["last_return"] is None else state["last_return"]
        self.writer.resume(self.counters.env_steps, self.counters.agent_steps)
        if not self.episodes.resume(self.counters.episode, state):
            self.replay.abandon()
            self.counters = self.counters.next_episode()
            self.episodes.begin(self.counters.episode)
        set_random_state(state["random"])

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Keep a state and the replay. Raises Diverged, UserError."""
        check_losses(self.losses, self.counters)  # a diverged state is not worth keeping
        self.checkpoints.save(self.counters.env_steps, state, self.replay)

    def write(self, kind: str, measures: dict[str, Any], at: int | None = None) -> None:
        """Append rows at an environment step, the present one if none is given."""
        self.writer.write(kind, self.counters.env_steps if at is None else at, self.counters.agent_steps, measures)

    def tick(self) -> None:
        """After a step that is not training's."""
        self.lost.answered()
        self.meter.tell("evaluate", self.counters.env_steps)
