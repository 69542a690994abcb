"""One run: act, learn, step, store; evaluate and checkpoint on the way."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import starts
from covr_bench.run.build import build
from covr_bench.run.contract import check_losses, checked_action, checked_metrics
from covr_bench.run.counters import Counters
from covr_bench.run.episodes import Episodes
from covr_bench.run.evaluate import evaluate
from covr_bench.run.meter import Meter
from covr_bench.run.randomness import random_state, set_random_state
from covr_bench.run.services import LostEpisodes, RunServices, Warnings
from suites.base import EpisodeLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import Agent, Context
    from covr_bench.run.checkpoint import Checkpoints
    from covr_bench.run.meter import Report
    from results.store import RunWriter
    from suites.base import TaskEnv

CHECK_EVERY = 50  # updates between looks at the losses: reading them stops a GPU


class Interrupted(Exception):
    """The run was asked to stop; it has been checkpointed and goes on from there."""


class _StopEvaluation(Exception):
    pass


class Run:
    """A run in progress. Everything its future depends on is in `state()`; the environment is not, because an
    episode is determined by its reset seed and actions: a resumed run replays the running episode's actions.

    Args:
        config: What the run is.
        env, eval_env: Environments of training and of evaluation.
        make_agent: Builds the agent for a context.
        writer: Of the run's rows. checkpoints: Of the run.
        replay_frames: What the agent's spec says of it.
        instruction: The task in a sentence.
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
        stop: Callable[[], bool] = lambda: False,
        report: Report = lambda progress: None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.config, self.eval_env = config, eval_env
        self.writer, self.checkpoints, self.stop = writer, checkpoints, stop
        self.counters, self.meter, tell = Counters(), Meter(report), Warnings(warn)
        self.lost = LostEpisodes(writer, tell, lambda: self.counters)
        services = RunServices(config.seed, env, eval_env, writer, lambda: self.counters, self._tick, self.lost, tell)
        parts = build(config, env, make_agent, services, replay_frames, instruction)
        self.agent, self.replay, self.action_dim = parts.agent, parts.replay, parts.action_dim
        self.episodes = Episodes(config.seed, env, self.replay, self.lost)
        self.eval_seeds = starts(config.seed, config.eval_episodes)
        self.losses: dict[str, Any] = {}

    def train(self) -> None:
        """To the end of the budget. Raises Interrupted, Diverged, UserError."""
        self._resume()
        self.meter.start(self.counters.env_steps)
        self._checkpointed = time.monotonic()
        while True:
            while self.counters.next_eval <= self.counters.env_steps:
                self._evaluate()
            if self.counters.next_eval > self.config.env_steps:
                break
            self._pause()
            self._step()
        self.checkpoints.save_final(self.counters.env_steps, self.state())
        self.meter.tell("done", self.counters.env_steps, now=True)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds beside the replay."""
        last = self.meter.last_return
        return {
            "agent": self.agent.state_dict(),
            **self.counters.as_dict(),
            **self.episodes.state(),
            "losses": self.losses,
            "last_return": None if np.isnan(last) else last,
            "random": random_state(),
        }

    def _step(self) -> None:
        """Act, learn, step, store."""
        at = self.counters.env_steps
        with self.meter.timed("act"):
            action = checked_action(self.agent.act(self.episodes.obs, at, explore=True), self.action_dim, at)
        with self.meter.timed("update"):
            self._learn()
        try:
            with self.meter.timed("env"):
                env_steps, over = self.episodes.step(action)
        except EpisodeLost as lost:
            self.lost.add(lost)
            self._next_episode()
            return
        self.counters = self.counters.stepped(env_steps)
        if over:
            self.meter.last_return = self.episodes.total
            self._write("episode", self.episodes.measures())
            self._next_episode()

    def _learn(self) -> None:
        metrics = checked_metrics(self.agent.update(self.replay, self.counters.env_steps), self.losses)
        if metrics:
            self.losses = metrics
            self.counters = self.counters.updated()
            if self.counters.updates % CHECK_EVERY == 0:
                check_losses(self.losses, self.counters)

    def _next_episode(self) -> None:
        self.counters = self.counters.next_episode()
        with self.meter.timed("env"):
            self.episodes.begin(self.counters.episode)

    def _pause(self) -> None:
        """Whatever is due before the next step."""
        if self.stop():
            self._checkpoint(self.state())
            raise Interrupted
        if time.monotonic() - self._checkpointed > self.config.checkpoint_every_s:
            with self.meter.timed("checkpoint"):
                self._checkpoint(self.state())
            self._checkpointed = time.monotonic()
        self.meter.tell("train", self.counters.env_steps)

    def _evaluate(self) -> None:
        """Rows of an evaluation, the losses and the speed, at the nominal step the evaluation was due at."""
        check_losses(self.losses, self.counters)
        at = self.counters.next_eval
        before = self.state()  # an agent may draw random numbers to act; an evaluation cut short must not count
        try:
            with self.meter.timed("evaluate"):
                measured = evaluate(
                    self.agent,
                    self.eval_env,
                    self.eval_seeds,
                    self.counters.env_steps,
                    self._tick_or_stop,
                    self.lost.add,
                )
        except _StopEvaluation:
            self._checkpoint(before)  # the evaluation is still due there
            raise Interrupted from None
        self._write("eval", measured, at)
        self._write("train", {name: float(value) for name, value in self.losses.items()}, at)
        self.meter.last_return = float(np.mean(measured["return"]))
        config = self.config
        self.counters = self.counters.evaluated(config.eval_every, config.env_steps, config.action_repeat)
        self._write("throughput", self.meter.throughput(self.counters.env_steps))

    def _tick(self) -> None:
        self.meter.tell("evaluate", self.counters.env_steps)

    def _tick_or_stop(self) -> None:
        if self.stop():
            raise _StopEvaluation
        self.lost.answered()
        self._tick()

    def _write(self, kind: str, measures: dict[str, Any], at: int | None = None) -> None:
        self.writer.write(kind, self.counters.env_steps if at is None else at, self.counters.agent_steps, measures)

    def _checkpoint(self, state: dict[str, Any]) -> None:
        check_losses(self.losses, self.counters)  # a diverged state is not worth keeping
        self.checkpoints.save(self.counters.env_steps, state, self.replay)

    def _resume(self) -> None:
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
        self.meter.last_return = float("nan") if state["last_return"] is None else state["last_return"]
        self.writer.resume(self.counters.env_steps)
        if not self.episodes.resume(self.counters.episode, state):
            self.counters = self.counters.next_episode()
            self.episodes.begin(self.counters.episode)
        set_random_state(state["random"])
