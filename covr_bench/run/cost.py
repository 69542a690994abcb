"""How long runs will take and how much disk they need, measured for some seconds on this machine.

`python -m covr_bench.run.cost`, run configurations as a JSON list on standard input, prints one `Cost` a line.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from covr_bench.config.run_config import RunConfig, replay_slots
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from covr_bench.kit.api import Agent, Context
    from covr_bench.kit.replay import Replay
    from suites.base import Task, TaskEnv

DELAYS = {"random_agent_steps": 0, "seed_steps": 0, "initial_updates": 1}  # settings that put off learning
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
        """The whole run, evaluations included."""
        evaluations = 1 + -(-config.env_steps // config.eval_every)
        evaluated = evaluations * config.eval_episodes * max_episode_steps / config.action_repeat
        trained = config.env_steps / config.action_repeat
        return START_S + trained * (self.env_s + self.act_s + self.update_s) + evaluated * (self.env_s + self.act_s)

    def running_bytes(self, config: RunConfig) -> float:
        """On disk while the run goes on: its replay and two checkpoints."""
        return 2 * self.agent_bytes + self.frame_bytes * replay_slots(config, None)


def costs(configs: Sequence[RunConfig], cache: Path, facts: dict[str, Any]) -> list[Cost]:
    """The cost of each run, measured once per kind of run and remembered in `cache`. Raises UserError if it fails.

    facts: what identifies the machine and the software.
    """
    known = _remembered(cache)
    keys = [_key(config, facts) for config in configs]
    missing = {key: config for key, config in zip(keys, configs, strict=True) if key not in known}
    if missing:
        known |= dict(zip(missing, _measure(list(missing.values())), strict=True))
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            part = cache.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps({key: asdict(cost) for key, cost in known.items()}))
            os.replace(part, cache)
        except OSError as error:
            raise UserError(
                f"cannot write to {cache.parent}: {error.strerror}. Free some space, make the folder writable, or "
                "give another --out."
            ) from error
    return [known[key] for key in keys]


def _remembered(cache: Path) -> dict[str, Cost]:
    """What `cache` holds; nothing if it is absent or unreadable, since all of it can be measured again."""
    try:
        return {key: Cost(**cost) for key, cost in json.loads(cache.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _key(config: RunConfig, facts: dict[str, Any]) -> str:
    """Runs with equal keys cost the same per step."""
    what = [config.suite, config.suite_version, config.task, config.agent, config.agent_config, config.env]
    text = json.dumps([*what, config.device, config.threads, config.conv_kernel, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _measure(configs: Sequence[RunConfig]) -> list[Cost]:
    result = subprocess.run(
        [sys.executable, "-m", "covr_bench.run.cost"],
        input=json.dumps([config.as_dict() for config in configs]),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(configs[0].threads), "LP_NUM_THREADS": "0"},
    )
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if lines and "error" in lines[-1]:
        raise UserError(lines[-1]["error"])
    if result.returncode or len(lines) != len(configs):
        raise UserError(f"a trial of the first steps failed:\n{result.stderr.strip() or result.stdout.strip()}")
    return [Cost(**line) for line in lines]


def main(channel: TextIO) -> None:
    import torch

    from covr_bench.config import registry
    from covr_bench.run.check import checked_env

    learners: dict[str, tuple[float, float, float]] = {}
    envs: dict[str, tuple[float, float, Replay, Any]] = {}
    for record in json.load(sys.stdin):
        config = RunConfig.from_dict(record)
        torch.set_num_threads(config.threads)
        task = json.dumps([config.suite, config.task, config.env])
        if task not in envs:
            env = checked_env(config.suite, registry.suite(config.suite).task(config.task), config.env)
            envs[task] = _try_env(env)
        env_s, frame_bytes, replay, obs = envs[task]
        learner = json.dumps([config.agent, config.agent_config, config.action_repeat])
        if learner not in learners:
            with tempfile.TemporaryDirectory() as folder:
                task_of = registry.suite(config.suite).task(config.task)
                context = _context(config, task_of, replay, obs, Path(folder))
                agent = registry.make_agent(config.agent, _at_once(config.agent_config), context)
                learners[learner] = _try_agent(agent, replay, obs, context)
        act_s, update_s, agent_bytes = learners[learner]
        print(json.dumps(asdict(Cost(env_s, act_s, update_s, frame_bytes, agent_bytes))), file=channel, flush=True)


def _at_once(agent_config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an agent that learns from its first step on, one update at a time."""
    settings: dict[str, Any] = {name: DELAYS.get(name, value) for name, value in agent_config.items()}
    if "base_settings" in settings:
        settings["base_settings"] = _at_once(settings["base_settings"])
    return settings


def _context(config: RunConfig, task: Task, replay: Replay, obs: Any, folder: Path) -> Context:
    from covr_bench.kit.api import Context

    return Context(
        obs_shape=obs.shape,
        action_dim=replay.action.shape[1],
        action_repeat=config.action_repeat,
        total_env_steps=config.env_steps,
        device=config.device,
        seed=0,
        instruction=task.instruction,
        services=_Trial(folder),
        conv_kernel=config.conv_kernel,
    )


class _Trial:
    """What a run offers its agent, where there is no run: nothing is drawn or played, what is kept is thrown away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def render(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        return np.zeros((height, width, 3), np.uint8)

    def play(self, policy: Any, episodes: int) -> dict[str, list[float]]:
        return {}

    def record(self, step: int, values: Any) -> None: ...

    def warn(self, text: str) -> None: ...


def _try_env(env: TaskEnv, steps: int = 12) -> tuple[float, float, Replay, Any]:
    """Seconds per agent step, bytes of a compressed frame, and a replay holding these steps."""
    from covr_bench.kit.replay import Replay

    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    replay = Replay(steps + 8, obs.shape, env.action_space.shape[0], seed=0, dtype=obs.dtype)  # type: ignore[index]
    replay.start(obs)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        obs, reward, terminated, truncated, _ = env.step(action := env.action_space.sample())
        seconds.append(time.perf_counter() - start)
        replay.add(action, float(reward), terminated, obs)
        if terminated or truncated:
            obs, _ = env.reset()
            replay.start(obs)
    env.close()
    return sorted(seconds)[steps // 2], len(zlib.compress(replay.newest_frame().tobytes())), replay, obs


def _try_agent(agent: Agent, replay: Replay, obs: Any, context: Context) -> tuple[float, float, float]:
    """Seconds to act and to learn per agent step, and the bytes of its state."""
    from covr_bench.run.checkpoint import state_bytes

    acts = []
    for _ in range(5):
        start = time.perf_counter()
        agent.act(obs, context.total_env_steps, explore=True)
        acts.append(time.perf_counter() - start)
    update_s = 0.0
    steps = itertools.count(context.total_env_steps, context.action_repeat)
    if _until_update(agent, replay, steps):  # the first one warms up and is not counted
        start = time.perf_counter()
        calls = sum(_until_update(agent, replay, steps) for _ in range(2))
        update_s = (time.perf_counter() - start) / calls
    return sorted(acts)[2], update_s, state_bytes(agent.state_dict())


def _until_update(agent: Agent, replay: Replay, steps: Iterator[int], patience: int = 64) -> int:
    """Calls of `update` until one learned; 0 if none did."""
    return next((call for call in range(1, patience + 1) if agent.update(replay, next(steps))), 0)


if __name__ == "__main__":
    from covr_bench.run.worker import keep_heap, message_channel

    keep_heap()
    messages = message_channel()
    try:
        main(messages)
    except UserError as error:
        print(json.dumps({"error": str(error)}), file=messages, flush=True)
        sys.exit(1)
