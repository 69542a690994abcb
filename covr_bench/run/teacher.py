"""Another's experience for a round of fine-tuning: that of the task's scripted player, or of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.config.run_config import RunConfig
from covr_bench.kit.api import Context, Demonstration
from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import derive_seed
from covr_bench.run.checkpoint import load_saved
from covr_bench.run.contract import checked_action
from covr_bench.run.player import ScriptedPlayer
from covr_bench.run.trained import trained_agent
from results import provenance
from results.layout import PROVENANCE_FILE
from suites.base import EpisodeLost

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from suites.base import TaskEnv

    Acts = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def open_teacher(name: str, env: TaskEnv, action_repeat: int, player: str) -> Acts:
    """What a teacher does when it sees an observation of `env`.

    Args:
        name: `scripted`, or a run's folder.
        env: That it plays in.
        action_repeat: Of that environment.
        player: The agent that plays the task by rules, if there is one.

    Raises:
        UserError: The task has no scripted player; there is no trained run in the folder, or it sees other pictures.
    """
    if name == "scripted":
        if not player:
            raise UserError("teacher=scripted: this task has no scripted player; name the folder of a trained run")
        scripted = ScriptedPlayer(player, env, action_repeat)
        return lambda obs: scripted.act()
    return _trained(Path(name), env)


def _trained(folder: Path, env: TaskEnv) -> Acts:
    if not (folder / PROVENANCE_FILE).is_file():
        raise UserError(f"teacher={folder}: there is no run in that folder; give `scripted` or a trained run's folder")
    record = provenance.read(folder / PROVENANCE_FILE)
    config = RunConfig.from_dict(record["config"])
    saved = load_saved(folder / "checkpoint")
    if saved is None:
        raise UserError(f"teacher={folder}: that run has no checkpoint left, so its policy is lost")
    (actions,) = env.action_space.shape or ()
    shape: Any = env.observation_space.shape
    context = Context(shape, actions, config.action_repeat, config.env_steps, "cpu", derive_seed(config.seed, "agent"))
    agent = trained_agent(config, saved, context, record["sessions"][-1]["git_sha"])
    step = int(saved.state["env_steps"])
    return lambda obs: agent.act(obs, step, explore=False)


def demonstrate(
    act: Acts,
    env: TaskEnv,
    seed: int,
    agent_steps: int,
    image: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]],
    tick: Callable[[], None],
    on_lost: Callable[[EpisodeLost], None],
) -> Demonstration:
    """Whole episodes of a teacher, until there are so many steps.

    Args:
        act: What the teacher does.
        env: That it plays in.
        seed: What the starts follow from.
        agent_steps: Decisions, at least.
        image: What is kept of an observation.
        tick: Called after every step.
        on_lost: Told of an episode that a failing simulator cut short; unless it raises, another begins.
    """
    (action_dim,) = env.action_space.shape or ()
    episodes: list[list[tuple[Any, Any, float]]] = []
    started = 0
    while sum(map(len, episodes)) < agent_steps:
        started, steps, done = started + 1, [], False
        try:
            obs, _ = env.reset(seed=derive_seed(seed, "teacher", started - 1))
            while not done:
                action = checked_action(act(obs), action_dim, 0)
                kept = image(obs)
                obs, reward, terminated, truncated, _ = env.step(action)
                steps.append((kept, action, float(reward)))
                done = terminated or truncated
                tick()
        except EpisodeLost as lost:
            on_lost(lost)
            continue
        episodes.append(steps)
    images, actions, rewards = zip(*(step for each in episodes for step in each), strict=True)
    numbers = [(number, age) for number, each in enumerate(episodes) for age in range(len(each))]
    return Demonstration(np.stack(images), np.stack(actions), np.array(rewards), *np.array(numbers).T)
