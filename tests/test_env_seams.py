"""What the loop makes of an environment: control steps, flags, starts, and observations that are no pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
import torch
from experiments import configure
from gymnasium.spaces import Box

from covr_bench.config import registry
from covr_bench.kit.api import AgentSpec, Context
from covr_bench.kit.replay import Replay
from covr_bench.kit.seeds import derive_seed
from covr_bench.run.checkpoint import Checkpoints, load_agent
from covr_bench.run.train import Interrupted, Run
from results.store import RunWriter, read_run, run_folder
from suites import catch
from suites.base import Budget, Suite, Task
from suites.contract.check import check, examine
from suites.wrappers import ActionRepeat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Config:
    batch_size: int = 8
    replay_capacity: int = 1_000


class Watcher:
    """Acts at random; keeps the first observations it learns from."""

    def __init__(self, config: Config, context: Context) -> None:
        self.config, self.context = config, context
        self.rng = np.random.default_rng(context.seed)
        self.seen = torch.zeros(0)

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        return self.rng.uniform(-1, 1, self.context.action_dim).astype(np.float32)

    def update(self, replay: Replay, step: int) -> dict[str, torch.Tensor]:
        if not replay.can_sample():
            return {}
        batch = replay.sample(self.config.batch_size)
        self.seen = torch.cat([self.seen, batch.obs.flatten()[:32].float()])
        return {"mean": batch.obs.float().mean()}

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state, self.seen = state["rng"], state["seen"]


class Watched(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps the first observation of every episode."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.starts: list[Any] = []

    def reset(self, **options: Any) -> Any:
        obs, info = self.env.reset(**options)
        self.starts.append(obs)
        return obs, info


def go(
    task: Task, sees: Any, out: Path, env_steps: int, stop: Callable[[], bool] = lambda: False
) -> tuple[Run, Watched, Any]:
    """A run of a task, its training environment, and its rows."""
    suite = Suite("seams", 1, (task,), {}, ())
    spec = AgentSpec("watcher", Config, Watcher, "control", sees=sees)
    budget = Budget("b", env_steps, env_steps, 1)
    (config,) = configure(suite, "seams", {"watcher": spec}, budget, out=str(out))
    env, eval_env = (task.make(derive_seed(0, name), **config.env) for name in ("train_env", "eval_env"))
    watched = Watched(env)  # type: ignore[arg-type]
    with RunWriter(out, config.run_id, action_repeat=task.action_repeat) as writer:
        checkpoints = Checkpoints(run_folder(out, config.run_id) / "checkpoint")
        run = Run(config, watched, eval_env, lambda context: Watcher(Config(), context), writer, checkpoints, stop=stop)
        run.train()
    return run, watched, read_run(out, config.run_id)


THREE = Task("three", partial(catch.make, 3, False), 3, max_episode_steps=catch.EPISODE_STEPS)  # 3 does not divide 40


def test_environment_steps_are_those_really_taken(tmp_path: Path) -> None:
    _, _, rows = go(THREE, "pixels", tmp_path, 90)
    lengths = rows.query("kind == 'episode' and metric == 'length'")
    assert lengths["env_steps"].tolist() == [40, 80]
    assert lengths["agent_steps"].tolist() == [14, 28]
    assert lengths["value"].tolist() == [40.0, 40.0]
    assert rows.query("kind == 'eval' and metric == 'length'")["value"].tolist() == [40.0, 40.0]


def test_no_two_training_episodes_start_alike(tmp_path: Path) -> None:
    _, env, _ = go(catch.SUITE.tasks[0], "pixels", tmp_path, 200)
    assert len(env.starts) == 6
    assert len({obs.tobytes() for obs in env.starts}) == 6


@pytest.mark.parametrize(("end_on_miss", "ends"), [(False, {(False, True)}), (True, {(True, False), (False, True)})])
def test_a_time_limit_truncates_and_a_miss_terminates(end_on_miss: bool, ends: set[tuple[bool, bool]]) -> None:
    env = catch.make(3, end_on_miss, 0, image_size=8)
    found = set()
    for seed in range(20):
        env.reset(seed=seed)
        rng, flags = np.random.default_rng(seed), (False, False)
        while not any(flags):
            _, _, *flags, _ = env.step(rng.uniform(-1, 1, 1).astype(np.float32))  # type: ignore[assignment]
        found.add(tuple(flags))
    assert found == ends


# States


def state_env(seed: int, *, image_size: int = 84, frame_stack: int = 3) -> Any:
    """catch told in numbers."""
    env = ActionRepeat(catch.Catch(seed, end_on_miss=False, image_size=image_size), 2)
    space = Box(0.0, 1.0, (3,), np.float32)
    return gymnasium.wrappers.TransformObservation(env, lambda obs: obs.astype(np.float32), space)


STATES = Task("states", state_env, 2, max_episode_steps=40, observations=("state",))


def pictures_only(seed: int, *, image_size: int = 84, frame_stack: int = 3) -> Any:
    return catch.make(2, False, seed, image_size=image_size, frame_stack=frame_stack)


def test_states_are_checked_as_states() -> None:
    assert not [found for found in examine(STATES) if found.problems]
    pictures = replace(STATES, observations=("pixels",))
    found = check(pictures.make(0), pictures)
    assert "numbers instead of pictures are declared by `Task(observations=('state',))`" in found[0].problems[0]
    disguised = replace(catch.SUITE.tasks[0], make=pictures_only, observations=("state",))
    assert (
        "the task shows states, and the observation space has the shape (9, 84, 84)"
        in (check(disguised.make(0), disguised)[0].problems[0])
    )


def test_a_learner_on_states_meets_the_states_it_saw(tmp_path: Path) -> None:
    run, _, _ = go(STATES, "state", tmp_path, 100)
    assert run.replay.stack == 1 and run.replay.frames.shape[1:] == (3,) and run.replay.frames.dtype == np.float32
    batch = run.replay.at(run.replay.starts())
    assert batch.obs.shape == (50, 3) and batch.obs.dtype == torch.float32
    moved = (batch.obs[:, :1] + 2 * catch.PADDLE_SPEED * batch.action).clamp(0, 1)
    assert torch.allclose(batch.next_obs[:, :1], moved, atol=1e-6)


def test_a_run_on_states_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    calls = iter(range(1, 10_000))
    with pytest.raises(Interrupted):
        go(STATES, "state", tmp_path / "cut", 100, lambda: next(calls) == 20 + 27)
    states = []
    for name in ("cut", "whole"):
        run, _, rows = go(STATES, "state", tmp_path / name, 100)
        trained = load_agent(run_folder(tmp_path / name, run.config.run_id) / "checkpoint")
        values = rows[rows["kind"].isin(["eval", "episode", "train"])][["env_steps", "value"]].to_numpy()
        states.append((trained["seen"], trained["rng"], sorted(map(tuple, values))))
    assert torch.equal(states[0][0], states[1][0])
    assert states[0][1:] == states[1][1:]


@pytest.mark.parametrize("shape", [(5,), (4, 2)])
def test_a_replay_takes_any_observation_that_is_no_picture(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    replay = Replay(32, shape, 2, seed=0, dtype=np.float32)
    seen = [rng.normal(size=shape).astype(np.float32) for _ in range(9)]
    replay.start(seen[0])
    for obs in seen[1:]:
        replay.add(np.zeros(2, np.float32), 1.0, False, obs)
    assert replay.ends_with(seen[-1]) and not replay.ends_with(seen[0])
    batch = replay.at(np.arange(7), nstep=2)
    assert np.array_equal(batch.obs.numpy(), seen[:7])
    assert np.array_equal(batch.next_obs.numpy(), seen[2:])
    windows, _ = replay.sequences(6, 3)
    assert windows.shape[:2] == (3, 6)
    assert np.array_equal(windows.numpy().reshape(3, 6, *shape)[:, 0], _window(seen, windows[0, 0].numpy(), shape))


def _window(seen: list[Any], first: Any, shape: tuple[int, ...]) -> Any:
    at = next(i for i, obs in enumerate(seen) if np.array_equal(obs, first.reshape(shape)))
    return np.stack(seen[at : at + 3])


def test_states_once_stored_as_tables_are_read_in_one_row() -> None:
    table = np.arange(2 * 3 * 25 * 7, dtype=np.float32).reshape(2, 3, 25, 7)
    replay = Replay(8, (525,), 2, seed=0, dtype=np.float32)
    old = replay.slots(0, 2) | {"frames": table}
    replay.put(0, old)
    assert np.array_equal(replay.frames[:2], table.reshape(2, 525))


def test_agents_say_what_they_see() -> None:
    assert {registry.agent(name).sees for name in ("drqv2", "covr", "full_throttle")} == {"pixels"}
    assert (registry.agent("driver").sees, registry.agent("random").sees) == ("state", "nothing")
