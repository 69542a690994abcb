"""What the runs of a plan cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.config.run_config import replay_slots, setting
from covr_bench.run.cost.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from covr_bench.config.run_config import RunConfig

START_S = 6.0  # a worker's imports and its two environments


@dataclass(frozen=True)
class Cost:
    """What a step of a run costs.

    Attributes:
        env_s, act_s, update_s: Seconds per agent step of the environment, acting and learning.
        frame_bytes: A frame of the replay on disk. agent_bytes: What a checkpoint holds of the agent.
        ram_bytes: RAM of the process without its replay. slot_bytes: A frame of the replay in RAM.
        gpu_bytes: What torch takes of the GPU.
    """

    env_s: float
    act_s: float
    update_s: float
    frame_bytes: float
    agent_bytes: float
    ram_bytes: float = 0.0
    slot_bytes: float = 0.0
    gpu_bytes: float = 0.0

    def seconds(self, config: RunConfig, max_episode_steps: int) -> float:
        """The whole run, evaluations included; without updates before learning begins."""
        evaluations = 1 + -(-config.env_steps // config.eval_every)
        evaluated = evaluations * config.eval_episodes * max_episode_steps / config.action_repeat
        trained = config.env_steps / config.action_repeat
        learned = max(trained - _steps_before_learning(config), 0.0)
        return START_S + (trained + evaluated) * (self.env_s + self.act_s) + learned * self.update_s

    def running_bytes(self, config: RunConfig) -> float:
        """On disk while the run goes on: its replay and two checkpoints."""
        return 2 * self.agent_bytes + self.frame_bytes * _slots(config)

    def memory_bytes(self, config: RunConfig) -> float:
        """RAM of the run at its most: its process, its replay when that is full, and a checkpoint being written."""
        return self.ram_bytes + 2 * self.agent_bytes + self.slot_bytes * _slots(config)


def _slots(config: RunConfig) -> int:
    return replay_slots(config, registry.agent(config.agent).replay_frames)


def _steps_before_learning(config: RunConfig) -> float:
    """Agent steps without an update, less those whose updates are made up for."""
    random = setting(config.agent_config, "random_agent_steps", 0)
    made_up_for = setting(config.agent_config, "initial_updates", 0)
    late: float = setting(config.agent_config, "seed_steps", 0) / config.action_repeat
    return late if made_up_for is None else late + max(random - made_up_for, 0)


def costs(
    configs: Sequence[RunConfig],
    renderer: Mapping[str, Any],
    progress: Callable[[str], None],
    warn: Callable[[str], None],
    tell: Callable[[str], None] = lambda origin: None,
) -> list[Cost]:
    """The cost of each run on this machine while nothing else uses it.

    Each kind of environment and of agent is tried once per machine, see `kinds`, and remembered.

    Args:
        configs: The runs, all with one number of threads.
        renderer: What draws the tasks that need OpenGL.
        progress: Hears what is tried, of how many, before the first trial and after each; silent if all is known.
        warn: Hears why nothing can be remembered.
        tell: Hears where the figures come from.

    Returns:
        One cost per run, in their order.

    Raises:
        UserError: A trial failed. The message names the agent, the task and what mends it.
    """
    survey = Survey(configs, renderer)
    survey.complete(progress, warn)
    tell(survey.origin())
    return [_joined(survey, config) for config in configs]


def longest_first(configs: Sequence[RunConfig], renderer: Mapping[str, Any]) -> list[RunConfig]:
    """Runs in the order to start them: a long one that starts last would run alone in the end.

    By what is remembered of their costs; nothing is tried. Runs of unknown cost come first, by their length. Equals
    stay in the order given.

    Args:
        configs: The runs.
        renderer: As of `costs`.
    """
    survey = Survey(configs, renderer) if len(configs) > 1 else None

    def seconds(config: RunConfig) -> float:
        try:
            return _joined(survey, config).seconds(config, survey.task(config).max_episode_steps) if survey else 0.0
        except KeyError:
            return math.inf

    return sorted(configs, key=lambda config: (seconds(config), config.env_steps), reverse=True)


def remembered_memory(configs: Sequence[RunConfig], renderer: Mapping[str, Any]) -> list[float]:
    """Bytes of RAM that each run takes at its most, by what is remembered of their costs; 0 where nothing is.

    Args:
        configs: The runs.
        renderer: As of `costs`.
    """
    survey = Survey(configs, renderer)

    def memory(config: RunConfig) -> float:
        try:
            return _joined(survey, config).memory_bytes(config)
        except KeyError:
            return 0.0

    return [memory(config) for config in configs]


def _joined(survey: Survey, config: RunConfig) -> Cost:
    env, agent = survey.env(config), survey.agent(config)
    values = 3 * math.prod(env.obs_shape[1:]) if len(env.obs_shape) == 3 else math.prod(env.obs_shape)
    slot_bytes = values * (1 if env.obs_dtype == "uint8" else 4)  # a replay keeps the newest frame of a stack
    ram_bytes = env.ram_bytes + agent.ram_bytes
    memory = (ram_bytes, slot_bytes, agent.gpu_bytes)
    return Cost(env.step_s, agent.act_s, agent.update_s, env.frame_bytes, agent.state_bytes, *memory)
