"""What the runs of a plan cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covr_bench.config.run_config import replay_slots, setting
from covr_bench.run.cost.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from covr_bench.config.run_config import RunConfig

START_S = 6.0  # a worker's imports and its two environments


@dataclass(frozen=True)
class Cost:
    """Seconds per agent step of the environment, acting and learning; bytes of a stored frame and of the agent."""

    env_s: float
    act_s: float
    update_s: float
    frame_bytes: float
    agent_bytes: float

    def seconds(self, config: RunConfig, max_episode_steps: int) -> float:
        """The whole run, evaluations included; without updates before learning begins."""
        evaluations = 1 + -(-config.env_steps // config.eval_every)
        evaluated = evaluations * config.eval_episodes * max_episode_steps / config.action_repeat
        trained = config.env_steps / config.action_repeat
        learned = max(trained - _steps_before_learning(config), 0.0)
        return START_S + (trained + evaluated) * (self.env_s + self.act_s) + learned * self.update_s

    def running_bytes(self, config: RunConfig) -> float:
        """On disk while the run goes on: its replay and two checkpoints."""
        return 2 * self.agent_bytes + self.frame_bytes * replay_slots(config, None)


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
) -> list[Cost]:
    """The cost of each run on this machine while nothing else uses it.

    Each kind of environment and of agent is tried once per machine, see `kinds`, and remembered.

    Args:
        configs: The runs, all with one number of threads.
        renderer: What draws the tasks that need OpenGL.
        progress: Hears what is tried, of how many, before the first trial and after each; silent if all is known.
        warn: Hears why nothing can be remembered.

    Returns:
        One cost per run, in their order.

    Raises:
        UserError: A trial failed. The message names the agent, the task and what mends it.
    """
    survey = Survey(configs, renderer)
    survey.complete(progress, warn)
    return [_joined(survey, config) for config in configs]


def _joined(survey: Survey, config: RunConfig) -> Cost:
    env, agent = survey.env(config), survey.agent(config)
    return Cost(env.step_s, agent.act_s, agent.update_s, env.frame_bytes, agent.state_bytes)
