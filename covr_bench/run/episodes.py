"""Training episodes, one after the other: what the environment does, and what the replay keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.kit.seeds import derive_seed
from covr_bench.run.contract import checked_obs, checked_reward
from suites.base import EpisodeLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from covr_bench.kit.replay import Replay
    from covr_bench.run.services import LostEpisodes
    from suites.base import TaskEnv


class Episodes:
    """The running training episode. Each is determined by the run's seed, its number and the actions.

    Args:
        seed: The run's.
        env: The environment of training.
        replay: Told of every observation and step.
        lost: Told of episodes that a failing simulator cut short.
        watch: Called at every moment of an episode.
    """

    def __init__(
        self, seed: int, env: TaskEnv, replay: Replay, lost: LostEpisodes, watch: Callable[[], None] = lambda: None
    ) -> None:
        self._seed, self._env, self._replay, self._lost, self._watch = seed, env, replay, lost, watch
        self.actions: list[list[float]] = []
        self.total, self.length = 0.0, 0  # undiscounted return; environment steps
        self.obs: npt.NDArray[Any] = np.empty(0)

    def begin(self, number: int) -> None:
        """Start the episode of that number."""
        self._reset(number)
        self._replay.start(self.obs)

    def step(self, action: npt.NDArray[np.float32], at: int) -> tuple[int, bool]:
        """Make a decision's step; returns the environment steps it took and whether the episode is over.

        Raises EpisodeLost, after which `begin` starts another, and UserError, which names the environment steps `at`
        which it was made, where the environment's answer is not made of numbers.
        """
        obs, answer, terminated, truncated, info = self._env.step(action)
        when = f"at {at} env steps"
        self.obs, reward, env_steps = checked_obs(obs, when), checked_reward(answer, when), int(info["env_steps"])
        self._watch()
        self._lost.answered()
        self._replay.add(action, reward, terminated, self.obs)
        self.actions.append(action.tolist())
        self.total += reward
        self.length += env_steps
        return env_steps, terminated or truncated

    def measures(self) -> dict[str, float]:
        """Of the episode so far."""
        return {"return": self.total, "length": float(self.length)}

    def state(self) -> dict[str, Any]:
        """For a checkpoint; the environment itself cannot be saved."""
        return {"actions": self.actions, "episode_return": self.total, "episode_length": self.length}

    def resume(self, number: int, state: Mapping[str, Any]) -> bool:
        """Play the episode's actions again up to where a checkpoint was made.

        Returns False where the simulator does not repeat itself: that episode stays unfinished, and another has to
        begin.
        """
        self._reset(number)
        obs = self.obs
        try:
            for action in state["actions"]:
                obs, *_ = self._env.step(np.asarray(action, np.float32))
                self._watch()
        except EpisodeLost as lost:
            self._lost.add(lost)
            return False
        if not self._replay.ends_with(obs):
            return False
        self.obs, self.actions = obs, state["actions"]
        self.total, self.length = state["episode_return"], state["episode_length"]
        return True

    def _reset(self, number: int) -> None:
        while True:
            try:
                obs, _ = self._env.reset(seed=derive_seed(self._seed, "train_episode", number))
                self.obs = checked_obs(obs, f"at the start of training episode {number}")
                self._watch()
                break
            except EpisodeLost as lost:
                self._lost.add(lost)
        self.actions, self.total, self.length = [], 0.0, 0
