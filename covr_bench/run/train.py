"""One run: act, learn, step, store; evaluate and checkpoint on the way."""

from __future__ import annotations

import time

import numpy as np

from covr_bench.run.contract import check_losses, checked_action, checked_metrics
from covr_bench.run.evaluate import evaluate
from covr_bench.run.run_state import RunState
from covr_bench.run.state_tree import copied
from covr_bench.run.trained import only_learning
from suites.base import EpisodeLost

CHECK_EVERY = 50  # updates between looks at the losses: reading them stops a GPU


class Interrupted(Exception):
    """The run was asked to stop; it has been checkpointed and goes on from there."""


class _StopEvaluation(Exception):
    pass


class Run(RunState):
    """A run in progress; see `RunState` for what it is made of."""

    def train(self) -> None:
        """To the end of the budget. Raises Interrupted, Diverged, UserError."""
        self.resume()
        self.meter.start(self.counters.env_steps)
        self._checkpointed = time.monotonic()
        while True:
            while self.counters.next_eval <= self.counters.env_steps:
                self.evaluate()
            self._keep_signals()
            if self.counters.next_eval > self.config.env_steps:
                break
            self._pause()
            self.step()
        if self.learns and not self.counters.updates:
            self.warn(
                f"its agent made no update in {self.counters.env_steps:,} environment steps: its warm-up, or its "
                "windows (nstep, horizon), are longer than the run, its episodes or its replay. An agent that does not "
                "learn from replay says replay_frames=0 in its AgentSpec"
            )
        if hasattr(self.agent, "finish"):
            self.agent.finish(self.counters.env_steps)
        state = self.state() | {"only_learning": only_learning(self.agent)}
        self.checkpoints.save_final(self.counters.env_steps, state)
        self.meter.tell("done", self.counters.env_steps, now=True)

    def step(self) -> None:
        """Act, learn, step, store."""
        at = self.counters.env_steps
        with self.meter.timed("act"):
            action = checked_action(self.agent.act(self.episodes.obs, at, explore=True), self.action_dim, at)
        self.signals.acted(action)
        try:
            with self.meter.timed("update"):
                self._learn()  # an agent that has its VLM shown the scene asks the simulator, too
            with self.meter.timed("env"):
                env_steps, over = self.episodes.step(action, at)
        except EpisodeLost as lost:
            self.lost.add(lost)
            self.replay.abandon()
            self._next_episode()
            return
        self.counters = self.counters.stepped(env_steps)
        if over:
            self.meter.last_return = self.episodes.total
            self.write("episode", self.episodes.measures())
            self._next_episode()

    def _learn(self) -> None:
        at = self.counters.env_steps
        with self.signals.update(at):
            metrics = checked_metrics(self.agent.update(self.replay, at))
        if metrics:
            self.losses = metrics
            self.signals.learned(metrics)
            self.counters = self.counters.updated()
            if self.counters.updates % CHECK_EVERY == 0:
                check_losses(self.losses, self.counters)

    def _keep_signals(self) -> None:
        """Rows of the signals, where an interval is over."""
        if measured := self.signals.interval(self.counters.env_steps):
            check_losses(self.losses, self.counters)
            self.write("signal", measured)

    def _next_episode(self) -> None:
        self.counters = self.counters.next_episode()
        with self.meter.timed("env"):
            self.episodes.begin(self.counters.episode)

    def _pause(self) -> None:
        """Whatever is due before the next step."""
        if self.stop():
            self.checkpoint(self.state())
            raise Interrupted
        if time.monotonic() - self._checkpointed > self.config.checkpoint_every_s:
            with self.meter.timed("checkpoint"):
                self.checkpoint(self.state())
            self._checkpointed = time.monotonic()
        self.meter.tell("train", self.counters.env_steps)

    def evaluate(self) -> None:
        """Rows of an evaluation, the losses and the speed, at the nominal step the evaluation was due at."""
        check_losses(self.losses, self.counters)
        at = self.counters.next_eval
        before = copied(self.state())  # to act, an agent may draw or remember; an evaluation cut short must not count
        try:
            with self.meter.timed("evaluate"):
                measured = evaluate(
                    self.signals.evaluated(self.agent),
                    self.eval_env,
                    self.eval_seeds,
                    self.counters.env_steps,
                    self._tick_or_stop,
                    self.lost.add,
                )
        except _StopEvaluation:
            self.checkpoint(before)  # the evaluation is still due there
            raise Interrupted from None
        self.write("eval", measured, at)
        self.write("train", {name: float(value) for name, value in self.losses.items()}, at)
        self.meter.last_return = float(np.mean(measured["return"]))
        config = self.config
        self.counters = self.counters.evaluated(config.eval_every, config.env_steps, config.action_repeat)
        self.write("throughput", self.meter.throughput(self.counters.env_steps))

    def _tick_or_stop(self) -> None:
        if self.stop():
            raise _StopEvaluation
        self.tick()
