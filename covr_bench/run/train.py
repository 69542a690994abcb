"""One run: act, learn, step, store; evaluate and checkpoint on the way."""

from __future__ import annotations

import random
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr_bench.config.run_config import RunConfig, setting
from covr_bench.kit.api import Agent, Context, Policy, Render
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.kit.seeds import derive_seed, starts
from covr_bench.run.evaluate import Diverged, evaluate, finite
from suites.base import EpisodeLost, SimulatorError

if TYPE_CHECKING:
    from pathlib import Path

    import gymnasium
    import numpy.typing as npt

    from covr_bench.run.checkpoint import Checkpoints
    from results.store import RunWriter

CHECKPOINT_EVERY_S = 300.0
CHECK_EVERY = 50  # updates between looks at the losses: reading them stops a GPU
LOSS_LIMIT = 1e8
MOST_LOST = 3  # episodes lost without a step between them: that simulator will not recover
REPORT_EVERY_S = 1.0
REPORTED_SPEED_OVER = 180  # reports: the warm-up, which does not learn, would otherwise promise too much for long


class Interrupted(Exception):
    """The run was asked to stop; it has been checkpointed and goes on from there."""


Report = Callable[[dict[str, Any]], None]


class Run:
    """A run in progress. Everything its future depends on is in `state()`; the environment is not, because an
    episode is determined by its reset seed and actions: a resumed run replays the running episode's actions.
    """

    def __init__(
        self,
        config: RunConfig,
        env: gymnasium.Env[Any, Any],
        eval_env: gymnasium.Env[Any, Any],
        make_agent: Callable[[Context], Agent],
        writer: RunWriter,
        checkpoints: Checkpoints,
        *,
        instruction: str = "",
        stop: Callable[[], bool] = lambda: False,
        report: Report = lambda progress: None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.config, self.writer, self.checkpoints = config, writer, checkpoints
        self.stop, self.report, self._warn = stop, report, warn
        self._warned: set[str] = set()
        self.env, self.eval_env = env, eval_env
        _seed_everything(derive_seed(config.seed, "agent"))
        self.eval_seeds = starts(config.seed, config.eval_episodes)
        shape: Any = self.env.observation_space.shape
        (action_dim,) = self.env.action_space.shape or ()
        context = Context(
            obs_shape=shape,
            action_dim=action_dim,
            action_repeat=config.action_repeat,
            total_env_steps=config.env_steps,
            device=config.device,
            seed=derive_seed(config.seed, "agent"),
            instruction=instruction,
            services=self,
        )
        self.agent = make_agent(context)
        self.replay = Replay(
            replay_slots(config),
            shape,
            action_dim,
            seed=derive_seed(config.seed, "replay"),
            device=config.device,
            dtype=self.env.observation_space.dtype or np.uint8,
        )
        self.env_steps = self.agent_steps = self.updates = self.episode = 0
        self.next_eval = 0
        self.actions: list[Any] = []  # of the running episode
        self.episode_return, self.episode_length = 0.0, 0
        self.last_return = float("nan")
        self._lost = 0  # episodes since a simulator last answered
        self.losses: dict[str, torch.Tensor] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = self._checkpointed = time.monotonic()
        self._reported = 0.0
        self._first_step = 0
        self._lately: deque[tuple[float, int]] = deque(maxlen=REPORTED_SPEED_OVER)

    def train(self) -> None:
        """To the end of the budget. Raises Interrupted, Diverged."""
        self.obs = self._resume()
        self._reset_clock()
        while True:
            while self.next_eval <= self.env_steps:
                self._evaluate()
            if self.next_eval > self.config.env_steps:
                break
            self._on_time()
            with self._timed("act"):
                action = finite(self.agent.act(self.obs, self.env_steps, explore=True), self.env_steps)
            with self._timed("update"):
                self._learn()
            try:
                with self._timed("env"):
                    next_obs, reward, terminated, truncated, info = self.env.step(action)
            except EpisodeLost as lost:
                self._lose(lost)
                self._next_episode()
                continue
            self._lost = 0
            self.replay.add(action, float(reward), terminated, next_obs)
            self.obs = next_obs
            self.actions.append(action.tolist())
            self.env_steps += info["env_steps"]
            self.agent_steps += 1
            self.episode_return += float(reward)
            self.episode_length += info["env_steps"]
            if terminated or truncated:
                self._end_episode()
        self.checkpoints.save_final(self.env_steps, self.state())
        self._report("done")

    def state(self) -> dict[str, Any]:
        return {
            "agent": self.agent.state_dict(),
            "env_steps": self.env_steps,
            "agent_steps": self.agent_steps,
            "updates": self.updates,
            "episode": self.episode,
            "next_eval": self.next_eval,
            "actions": self.actions,
            "episode_return": self.episode_return,
            "episode_length": self.episode_length,
            "losses": self.losses,
            "last_return": None if np.isnan(self.last_return) else self.last_return,
            "random": _random_state(),
        }

    @property
    def folder(self) -> Path:
        return self.writer.folder

    def render(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        frame: npt.NDArray[np.uint8] = self.env.unwrapped.render_image(height, width)  # type: ignore[attr-defined]
        return frame

    def play(self, policy: Callable[[Render], Policy], episodes: int) -> dict[str, list[float]]:
        draw: Render = self.eval_env.unwrapped.render_image  # type: ignore[attr-defined]
        played = [
            evaluate(policy(draw), self.eval_env, [seed], self.env_steps, self._tick, self._lose)
            for seed in starts(self.config.seed, episodes)
        ]
        return {name: [episode[name][0] for episode in played] for name in ("return", "length")} if played else {}

    def record(self, step: int, values: Mapping[str, float | list[float]]) -> None:
        self.writer.write("vlm", step, self.agent_steps, values)

    def warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    def _tick(self) -> None:
        if time.monotonic() - self._reported > REPORT_EVERY_S:
            self._report("evaluate")

    def _on_time(self) -> None:
        """Whatever is due before the next step."""
        if self.stop():
            self._checkpoint(self.state())
            raise Interrupted
        now = time.monotonic()
        if now - self._checkpointed > CHECKPOINT_EVERY_S:
            with self._timed("checkpoint"):
                self._checkpoint(self.state())
            self._checkpointed = now
        if now - self._reported > REPORT_EVERY_S:
            self._report("train")

    def _checkpoint(self, state: dict[str, Any]) -> None:
        self._check_losses()  # a diverged state is not worth keeping
        self.checkpoints.save(self.env_steps, state, self.replay)

    def _learn(self) -> None:
        metrics = self.agent.update(self.replay, self.env_steps)
        if metrics:
            self.losses = dict(metrics)
            self.updates += 1
            if self.updates % CHECK_EVERY == 0:
                self._check_losses()

    def _check_losses(self) -> None:
        """Raises Diverged if a loss of the newest update is not a finite, sane number."""
        for name, value in self.losses.items():
            if not abs(float(value)) <= LOSS_LIMIT:  # NaN compares false
                raise Diverged(
                    f"{name} is {float(value):g} at {self.env_steps} env steps (update {self.updates}): training has "
                    f"diverged. The run stops here; its rows are kept. A smaller learning rate may help."
                )

    def _begin_episode(self) -> Any:
        while True:
            try:
                obs, _ = self.env.reset(seed=derive_seed(self.config.seed, "train_episode", self.episode))
                break
            except EpisodeLost as lost:
                self._lose(lost)
        self.actions, self.episode_return, self.episode_length = [], 0.0, 0
        return obs

    def _end_episode(self) -> None:
        self.last_return = self.episode_return
        row = {"return": self.episode_return, "length": float(self.episode_length)}
        self.writer.write("episode", self.env_steps, self.agent_steps, row)
        self._next_episode()

    def _lose(self, lost: EpisodeLost) -> None:
        """Marks an episode that a failing simulator cut short: it has no return. Raises SimulatorError at last."""
        self._lost += 1
        self.writer.write("episode", self.env_steps, self.agent_steps, {"lost": 1.0})
        if self._lost > MOST_LOST:
            raise SimulatorError(f"{self._lost} episodes in a row were lost, the last because: {lost}") from lost
        self.warn(f"an episode was lost and is discarded; the run goes on with another: {lost}")

    def _next_episode(self) -> None:
        self.episode += 1
        with self._timed("env"):
            self.obs = self._begin_episode()
        self.replay.start(self.obs)

    def _evaluate(self) -> None:
        """Rows of an evaluation, the losses and the speed, at the nominal step the evaluation was due at."""
        self._check_losses()
        at, total = self.next_eval, self.config.env_steps
        before = self.state()  # an agent may draw random numbers to act; an evaluation cut short must not count

        def tick() -> None:
            if self.stop():
                raise _StopEvaluation
            self._lost = 0
            self._tick()

        try:
            with self._timed("evaluate"):
                measured = evaluate(self.agent, self.eval_env, self.eval_seeds, self.env_steps, tick, self._lose)
        except _StopEvaluation:
            self._checkpoint(before)  # the evaluation is still due there
            raise Interrupted from None
        self.writer.write("eval", at, self.agent_steps, measured)
        if self.losses:
            self.writer.write("train", at, self.agent_steps, {name: float(v) for name, v in self.losses.items()})
        self.last_return = float(np.mean(measured["return"]))
        self.next_eval = min(at + self.config.eval_every, total) if at < total else total + self.config.action_repeat
        self._throughput()

    def _throughput(self) -> None:
        elapsed = time.monotonic() - self._started
        if self.env_steps > self._first_step and elapsed > 0:
            row = {"env_steps_per_s": (self.env_steps - self._first_step) / elapsed}
            row |= {f"{name}_share": seconds / elapsed for name, seconds in self.seconds.items()}
            row["other_share"] = max(0.0, 1.0 - sum(self.seconds.values()) / elapsed)
            self.writer.write("throughput", self.env_steps, self.agent_steps, row)

    def _resume(self) -> Any:
        """The observation to go on from: of a fresh episode, or of the one a checkpoint was made in."""
        state = self.checkpoints.load(self.replay)
        if state is None:
            obs = self._begin_episode()
            self.replay.start(obs)
            return obs
        try:
            self.agent.load_state_dict(state["agent"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the checkpoint in {self.checkpoints.folder} does not fit the agent, whose code may have changed "
                f"since: {error}. Delete that folder to train this run anew."
            ) from error
        for name in ("env_steps", "agent_steps", "updates", "episode", "next_eval"):
            setattr(self, name, state[name])
        self.losses = state.get("losses", {})
        self.last_return = float("nan") if state["last_return"] is None else state["last_return"]
        self.writer.resume(self.env_steps)
        obs = self._begin_episode()
        try:
            for action in state["actions"]:
                obs, *_ = self.env.step(np.asarray(action, np.float32))
        except EpisodeLost as lost:
            self._lose(lost)
            obs = np.zeros_like(obs)  # equals no frame of the replay; the episode stays unfinished
        newest = self.replay.frames[(self.replay.head - 1) % self.replay.capacity]
        if np.array_equal(obs[-3:], newest):
            self.actions = state["actions"]
            self.episode_return, self.episode_length = state["episode_return"], state["episode_length"]
        else:  # a simulator that does not repeat itself: that episode stays unfinished
            self.episode += 1
            obs = self._begin_episode()
            self.replay.start(obs)
        _set_random_state(state["random"])
        return obs

    def _reset_clock(self) -> None:
        self._started = self._checkpointed = time.monotonic()
        self._reported = 0.0
        self._first_step = self.env_steps
        self._lately.clear()

    def _report(self, phase: str) -> None:
        self._reported = time.monotonic()
        self._lately.append((self._reported, self.env_steps))
        since, steps = self._lately[0]
        speed = (self.env_steps - steps) / max(self._reported - since, 1e-9)
        self.report(
            {"phase": phase, "env_steps": self.env_steps, "env_steps_per_s": speed, "last_return": self.last_return}
        )

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - start


class _StopEvaluation(Exception):
    pass


def replay_slots(config: RunConfig) -> int:
    """Replay slots a run needs: its frames and one more per episode, at most the agent's own capacity.

    An agent without a `replay_capacity` does not learn from replay and gets a handful.
    """
    wanted = setting(config.agent_config, "replay_capacity", 8)
    agent_steps = config.env_steps // config.action_repeat
    return int(min(wanted, agent_steps + agent_steps // 8 + 64))


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    name, keys, *rest = np.random.get_state(legacy=True)
    state["numpy"] = [name, np.asarray(keys).tolist(), *rest]
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    np.random.set_state(tuple(state["numpy"]))
    random.setstate(state["python"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
