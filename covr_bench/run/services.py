"""What a run in training offers its agent, and how it bears a simulator that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.kit.seeds import derive_seed, starts
from covr_bench.run.evaluate import evaluate
from covr_bench.run.player import ScriptedPlayer
from covr_bench.run.teacher import demonstrate, open_teacher
from suites.base import EpisodeLost, SimulatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from covr_bench.kit.api import Demonstration, Player, Policy, Render
    from covr_bench.run.counters import Counters
    from results.store import RunWriter
    from suites.base import TaskEnv

MOST_LOST = 3  # episodes lost without a step between them: that simulator will not recover


class Warnings:
    """Tells the user, once per text."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)


class LostEpisodes:
    """Episodes that a failing simulator cut short: they have no return, and the run goes on with others."""

    def __init__(self, writer: RunWriter, warn: Callable[[str], None], counters: Callable[[], Counters]) -> None:
        self._writer, self._warn, self._counters = writer, warn, counters
        self._in_a_row = 0

    def answered(self) -> None:
        """The simulator made a step."""
        self._in_a_row = 0

    def add(self, lost: EpisodeLost) -> None:
        """Mark an episode as lost. Raises SimulatorError when too many are, one after the other."""
        self._in_a_row += 1
        counters = self._counters()
        self._writer.write("episode", counters.env_steps, counters.agent_steps, {"lost": 1.0})
        if self._in_a_row > MOST_LOST:
            raise SimulatorError(f"{self._in_a_row} episodes in a row were lost, the last because: {lost}") from lost
        self._warn(f"an episode was lost and is discarded; the run goes on with another: {lost}")


class RunServices:
    """`kit.api.Services` of a run.

    Args:
        seed: The run's seed, which the starts of `play` follow from.
        env, eval_env: The environments of training and evaluation.
        writer: Of the run's rows.
        counters: The run's counters as they are now.
        tick: Called after every step of `play`.
        lost: Of the run.
        warn: Tells the user.
        player: The agent that plays the task by rules, if there is one.
        action_repeat: Of the environments.
    """

    def __init__(
        self,
        seed: int,
        env: TaskEnv,
        eval_env: TaskEnv,
        writer: RunWriter,
        counters: Callable[[], Counters],
        tick: Callable[[], None],
        lost: LostEpisodes,
        warn: Callable[[str], None],
        player: str,
        action_repeat: int,
    ) -> None:
        self._named_player, self._repeat = player, action_repeat
        self._player: ScriptedPlayer | None = None
        self._good = np.empty(0, np.float32)
        self._seed, self._env, self._eval_env, self._writer = seed, env, eval_env, writer
        self._counters, self._tick, self._lost = counters, tick, lost
        self.warn = warn

    @property
    def folder(self) -> Path:
        """The run's folder, for files the agent wants to keep."""
        return self._writer.folder

    def render(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        """The frame the newest observation ends with, drawn at another size, uint8 `(height, width, 3)`."""
        frame: npt.NDArray[np.uint8] = self._env.unwrapped.render_image(height, width)
        return frame

    def play(self, policy: Callable[[Render], Policy], episodes: int) -> dict[str, list[float]]:
        """Per episode `return` and `length` of a policy, made anew for each; see `kit.api.Services.play`."""
        played = [self._played(policy, seed) for seed in starts(self._seed, episodes)]
        return {name: [episode[name][0] for episode in played] for name in ("return", "length")} if played else {}

    def _played(self, policy: Callable[[Render], Policy], seed: int) -> dict[str, list[float]]:
        """A lost episode begins again with a policy that remembers nothing of it."""
        env, step = self._eval_env, self._counters().env_steps
        while True:
            try:
                return evaluate(policy(env.unwrapped.render_image), env, [seed], step, self._tick)
            except EpisodeLost as lost:
                self._lost.add(lost)

    def player(self) -> Player | None:
        """What the task's scripted player does at the present moment; see `kit.api.Services.player`."""
        if not self._named_player:
            return None
        self._player = ScriptedPlayer(self._named_player, self._env, self._repeat)
        return lambda: self._good

    def watch(self) -> None:
        """Let the player see the present moment: it is shown every one, so that one with a memory resumes as well."""
        if self._player is not None:
            self._good = self._player.act()

    def demonstrate(self, teacher: str, agent_steps: int, number: int, image: Callable[[Any], Any]) -> Demonstration:
        """Whole episodes of a teacher; see `kit.api.Services.demonstrate`."""
        act = open_teacher(teacher, self._eval_env, self._repeat, self._named_player)
        seed = derive_seed(self._seed, "demonstration", number)
        return demonstrate(act, self._eval_env, seed, agent_steps, image, self._tick, self._lost.add)

    def record(self, step: int, values: Mapping[str, float | list[float]]) -> None:
        """Store rows of kind `vlm`."""
        self._writer.write("vlm", step, self._counters().agent_steps, values)
