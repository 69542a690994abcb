"""A few actions and updates of an agent, on made-up observations of the right shape."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covr_bench.config import registry
from covr_bench.config.run_config import setting
from covr_bench.kit.api import Demonstration
from covr_bench.run.contract import check_agent
from covr_bench.run.cost import peak
from covr_bench.run.cost.clock import unhindered
from covr_bench.run.cost.env_trial import task_of
from covr_bench.run.cost.kinds import DELAYS, tried_repeat
from covr_bench.run.cost.measured import AgentCost

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import Agent, Context, Player
    from covr_bench.kit.replay import Replay
    from covr_bench.run.cost.measured import EnvCost

STORED = 12  # steps in the replay
ACTIONS = 5
UPDATES = 2  # some agents learn more in every other one
PATIENCE = 64  # calls without learning
BATCHES = ("batch_size", "model_batch_size")  # what an update grows with
PARTS = (32, 4)  # an update is timed on these parts of its batch
WHOLE = 32  # the largest batch that is not parted


def try_agent(config: RunConfig, env: EnvCost) -> AgentCost:
    """The cost of a run's agent on observations of that shape.

    An update of a large batch on a CPU is timed on two small parts of it and extrapolated: what the parameters cost,
    which all samples share, and so much per sample. Medians of three for drqv2 at a batch of 256, rad and curl at 128
    were 6 % above, 3 % below and equal to those of whole batches; single trials on a busy machine up to 20 % off.
    """
    import torch

    torch.set_num_threads(config.threads)
    settings = at_once(config.agent_config)
    batch = setting(settings, BATCHES[0], 0)
    costs = {batch // part: _tried(_parted(settings, part), config, env) for part in _parts(batch, config.device)}
    largest = costs[max(costs)]
    update_s = extrapolated({size: cost.update_s for size, cost in costs.items()}, batch)
    ram_bytes = extrapolated({size: cost.ram_bytes for size, cost in costs.items()}, batch)
    return AgentCost(largest.act_s, update_s, largest.state_bytes, int(ram_bytes), largest.gpu_bytes)


def extrapolated(measured: Mapping[int, float], batch: int) -> float:
    """Seconds, or memory, of an update.

    Args:
        measured: Of an update, by the size of its batch; one or two sizes.
        batch: The size asked for.
    """
    small, large = min(measured), max(measured)
    if small == large:
        return measured[large]
    per_sample = max(measured[large] - measured[small], 0.0) / (large - small)
    return measured[large] + per_sample * (batch - large)


def at_once(agent_config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an agent that learns from its first step on, one update at a time."""
    return _changed(agent_config, lambda name, value: DELAYS.get(name, value))


def _parts(batch: int, device: str) -> tuple[int, ...]:
    return PARTS if batch > WHOLE and device == "cpu" else (1,)


def _parted(settings: Mapping[str, Any], part: int) -> dict[str, Any]:
    return _changed(settings, lambda name, value: max(value // part, 1) if name in BATCHES else value)


def _changed(agent_config: Mapping[str, Any], change: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The settings of an agent and of the one it wraps, each changed."""
    settings: dict[str, Any] = {name: change(name, value) for name, value in agent_config.items()}
    if "base_settings" in settings:
        settings["base_settings"] = _changed(settings["base_settings"], change)
    return settings


def _tried(settings: Mapping[str, Any], config: RunConfig, env: EnvCost) -> AgentCost:
    peak.begin(config.device)
    replay, obs = experience(env, config.device)
    with tempfile.TemporaryDirectory() as folder:
        context = _context(config, env, Path(folder))
        with _quick_start():
            agent = registry.make_agent(config.agent, settings, context)
            check_agent(agent)
        return _timed(agent, replay, obs, context)


@contextlib.contextmanager
def _quick_start() -> Iterator[None]:
    """Without orthogonal weights: to make them takes as long as an update, and others of their size cost the same."""
    from torch.nn import init

    orthogonal, init.orthogonal_ = init.orthogonal_, init.xavier_normal_
    try:
        yield
    finally:
        init.orthogonal_ = orthogonal


def experience(env: EnvCost, device: str) -> tuple[Replay, npt.NDArray[Any]]:
    """A replay of steps that all show one observation, and that observation."""
    from covr_bench.kit.replay import Replay

    rng = np.random.default_rng(0)
    obs = rng.integers(0, 256, env.obs_shape).astype(env.obs_dtype)
    replay = Replay(STORED + 8, env.obs_shape, env.action_dim, seed=0, device=device, dtype=obs.dtype)
    replay.start(obs)
    for _ in range(STORED):
        replay.add(rng.uniform(-1, 1, env.action_dim).astype(np.float32), float(rng.random()), False, obs)
    return replay, obs


def _context(config: RunConfig, env: EnvCost, folder: Path) -> Context:
    from covr_bench.kit.api import Context

    return Context(
        obs_shape=env.obs_shape,
        action_dim=env.action_dim,
        action_repeat=tried_repeat(config),
        total_env_steps=config.env_steps,
        device=config.device,
        seed=0,
        conv_kernel=config.conv_kernel,
        instruction=task_of(config).instruction,
        services=_Trial(folder, env, plays=task_of(config).player is not None),
    )


class _Trial:
    """What a run offers its agent, where there is no run: nothing is drawn or played, what is kept is thrown away.

    plays: Whether the task has a scripted player.
    """

    def __init__(self, folder: Path, env: EnvCost, *, plays: bool) -> None:
        self.folder, self._env, self._plays = folder, env, plays

    def render(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        return np.zeros((height, width, 3), np.uint8)

    def play(self, policy: Any, episodes: int) -> dict[str, list[float]]:
        return {"return": [0.0] * episodes, "length": [1.0] * episodes}

    def player(self) -> Player | None:
        return (lambda: np.zeros(self._env.action_dim, np.float32)) if self._plays else None

    def demonstrate(self, teacher: str, agent_steps: int, number: int, image: Any) -> Demonstration:
        shown, steps = np.asarray(image(np.zeros(self._env.obs_shape, self._env.obs_dtype))), np.arange(agent_steps)
        actions = np.zeros((agent_steps, self._env.action_dim), np.float32)
        images = np.broadcast_to(shown, (agent_steps, *shown.shape))
        return Demonstration(images, actions, np.zeros(agent_steps), np.zeros_like(steps), steps)

    def record(self, step: int, values: Any) -> None: ...

    def warn(self, text: str) -> None: ...


def _timed(agent: Agent, replay: Replay, obs: Any, context: Context) -> AgentCost:
    from covr_bench.run.checkpoint import state_bytes

    acts = [_seconds(lambda: agent.act(obs, context.total_env_steps, explore=True), context) for _ in range(ACTIONS)]
    steps = itertools.count(context.total_env_steps, context.action_repeat)
    update_s = 0.0
    if _until_update(agent, replay, obs, steps, context):  # the first one warms up and is not counted
        calls = [each for _ in range(UPDATES) for each in _until_update(agent, replay, obs, steps, context)]
        update_s = sum(calls) / len(calls)
    memory = peak.ram(), peak.gpu(context.device)
    return AgentCost(statistics.median(acts), update_s, state_bytes(agent.state_dict()), *memory)


def _seconds(work: Callable[[], object], context: Context) -> float:
    """What `work` takes, on a GPU as well."""
    _finish(context.device)
    start = unhindered()
    work()
    _finish(context.device)
    return unhindered() - start


def _finish(device: str) -> None:
    """Wait for what a GPU has been told to compute."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _until_update(agent: Agent, replay: Replay, obs: Any, steps: Iterator[int], context: Context) -> list[float]:
    """Seconds of each call of `update` until one learned, between steps as in a run; none if none did."""
    calls: list[float] = []
    metrics: list[Any] = []
    for step in itertools.islice(steps, PATIENCE):
        agent.act(obs, step, explore=True)
        calls.append(_seconds(lambda step=step: metrics.append(agent.update(replay, step)), context))  # type: ignore[misc]
        if metrics[-1]:
            return calls
        replay.add(replay.action[0], float(replay.reward[0]), False, obs)
    return []
