"""What every task promises: spaces, determinism, accounting, exact pixels, the kind of ending."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from suites import catch, dmc
from suites.wrappers import ActionRepeat, FrameStack, Pixels

if TYPE_CHECKING:
    from suites.base import Suite, Task

DMC6, DMC6_AR2, DMC_HARD = dmc.SUITES[:3]
DMC_TASKS = DMC6.tasks + DMC_HARD.tasks
TASKS = catch.SUITE.tasks + DMC_TASKS
SUITES = (*dmc.SUITES, catch.SUITE)

each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
each_dmc_task = pytest.mark.parametrize("task", DMC_TASKS, ids=lambda task: task.name)
each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


def rollout(env: gymnasium.Env[Any, Any], seed: int | None, steps: int) -> list[Any]:
    """Observations and rewards of one episode's first steps under fixed actions."""
    shape = env.action_space.shape or ()
    rng = np.random.default_rng(7)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        action = rng.uniform(-1, 1, shape).astype(np.float32)
        obs, reward, terminated, truncated, _ = env.step(action)
        seen += [obs, reward]
        if terminated or truncated:
            break
    return seen


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


# Suites


@each_suite
def test_suite_is_complete(suite: Suite) -> None:
    assert set(suite.budgets) - {"scripts", "gate"} == {"smoke", "short", "paper"}
    assert len({task.name for task in suite.tasks}) == len(suite.tasks)
    for name, budget in suite.budgets.items():
        assert budget.name == name
        assert budget.env_steps % budget.eval_every == 0
    for task in suite.tasks:
        assert task.instruction.endswith(".")
        assert suite.task(task.name) is task


def test_published_protocols() -> None:
    paper = DMC6.budgets["paper"]
    assert (paper.env_steps, paper.eval_every, paper.eval_episodes, paper.seeds) == (100_000, 10_000, 10, (0, 1, 2))
    assert DMC_HARD.budgets["paper"].env_steps == 500_000
    assert [task.action_repeat for task in DMC6.tasks] == [8, 4, 4, 2, 2, 4]
    assert {task.action_repeat for task in DMC6_AR2.tasks + DMC_HARD.tasks} == {2}
    assert [task.name for task in DMC6.tasks] == [task.name for task in DMC6_AR2.tasks]


# Every task


@each_task
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version.*")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
def test_gymnasium_contract(task: Task) -> None:
    env: Any = task.make(0)
    check_env(env)
    env.close()


@each_task
def test_spaces_and_accounting(task: Task) -> None:
    env = pickle.loads(pickle.dumps(task)).make(3, image_size=32, frame_stack=2)
    assert env.observation_space == Box(0, 255, (6, 32, 32), np.uint8)
    assert env.action_space == Box(-1.0, 1.0, env.action_space.shape, np.float32)
    obs, _ = env.reset()
    assert np.array_equal(obs[:3], obs[3:])
    moved, reward, _, _, info = env.step(env.action_space.sample())
    assert moved.dtype == np.uint8
    assert moved.shape == (6, 32, 32)
    assert np.array_equal(moved[:3], obs[3:])
    assert isinstance(reward, float)
    assert info["env_steps"] == task.action_repeat
    frame = env.render()
    assert np.array_equal(frame.transpose(2, 0, 1), moved[3:])
    assert env.unwrapped.render_image(40, 60).shape == (40, 60, 3)
    assert env.unwrapped.labels == {}
    env.close()


@each_task
def test_seed_determines_the_episode(task: Task) -> None:
    first, second = task.make(0, image_size=32), task.make(5, image_size=32)
    rollout(second, None, 4)  # another history: another episode, part played
    rollout(second, 8, 2)
    expected = rollout(first, 11, 3)
    assert same(rollout(second, 11, 3), expected)
    assert same(rollout(first, 11, 3), expected)
    assert not same(rollout(first, 12, 3), expected)
    first.close()
    second.close()


@each_task
def test_unseeded_resets_continue_one_stream(task: Task) -> None:
    first, second = task.make(4, image_size=32), task.make(0, image_size=32)
    states = [first.unwrapped.reset()[0] for _ in range(3)]
    again = [second.unwrapped.reset(seed=seed)[0] for seed in (4, None, None)]
    assert same(states, again)
    assert not np.array_equal(states[1], states[2])
    first.close()
    second.close()


# DeepMind Control


@each_dmc_task
def test_frames_are_dm_controls(task: Task) -> None:
    env: Any = task.make(0, frame_stack=1)
    physics = env.unwrapped.physics
    rng = np.random.default_rng(0)
    for episode in range(2):
        obs, _ = env.reset(seed=episode)
        for _ in range(6):
            assert np.array_equal(obs.transpose(1, 2, 0), physics.render(84, 84, camera_id=0))
            for _ in range(3):
                obs, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
    assert np.array_equal(env.unwrapped.render_image(48, 64), physics.render(48, 64, camera_id=0))
    env.close()


@pytest.mark.deep
@each_dmc_task
def test_frames_of_random_states_are_dm_controls(task: Task) -> None:
    env: Any = task.make(0, image_size=100, frame_stack=1)
    env.reset()
    physics = env.unwrapped.physics
    rng = np.random.default_rng(1)
    for _ in range(4):
        with physics.reset_context():
            physics.data.qpos[:] += rng.normal(0, 0.3, physics.model.nq)
        assert np.array_equal(env.render(), physics.render(100, 100, camera_id=0))
    env.close()


@each_dmc_task
def test_dynamics_are_dm_controls(task: Task) -> None:
    from dm_control import suite

    domain, name = task.make.args[:2]  # type: ignore[attr-defined]
    plain = suite.load(domain, name, task_kwargs={"random": 9})
    env: Any = dmc.DMControl(domain, name, seed=0)
    env.reset(seed=9)
    plain.reset()
    rng = np.random.default_rng(2)
    for _ in range(20):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        state, reward, *_ = env.step(action)
        assert reward == plain.step(action).reward
        assert np.array_equal(state, plain.physics.get_state())
    env.close()


@each_dmc_task
def test_episode_is_truncated_after_1000_control_steps(task: Task) -> None:
    domain, name = task.make.args[:2]  # type: ignore[attr-defined]
    env: Any = ActionRepeat(dmc.DMControl(domain, name, seed=0), 3)  # 3 does not divide 1000
    env.reset()
    action = np.zeros(env.action_space.shape, np.float32)
    ends, consumed = [], []
    for _ in range(334):
        _, _, terminated, truncated, info = env.step(action)
        ends.append((terminated, truncated))
        consumed.append(info["env_steps"])
    assert ends == [(False, False)] * 333 + [(False, True)]
    assert consumed == [3] * 333 + [1]
    env.close()


def test_zero_discount_is_a_termination(monkeypatch: pytest.MonkeyPatch) -> None:
    env: Any = dmc.DMControl("pendulum", "swingup", seed=0)
    env.reset()
    monkeypatch.setattr(env._env.task, "get_termination", lambda physics: 0.0)
    assert env.step(np.zeros(1, np.float32))[2:4] == (True, False)
    env.close()


def test_fast_frames_are_labelled_and_nearly_the_same() -> None:
    task = DMC6.task("walker_walk")
    exact: Any = task.make(0)
    fast: Any = task.make(0, render="fast")
    assert fast.unwrapped.labels == {"render": "fast"}
    left, right = exact.reset(seed=1)[0].astype(int), fast.reset(seed=1)[0].astype(int)
    assert 0 < np.abs(left - right).mean() < 1
    exact.close()
    fast.close()


@pytest.mark.parametrize(
    ("name", "rate", "actuators"),
    [("cartpole_swingup", 100, ["slide"]), ("reacher_easy", 50, ["shoulder", "wrist"]), ("walker_walk", 40, None)],
)
def test_a_task_states_its_real_rate_and_its_actuators(name: str, rate: int, actuators: list[str] | None) -> None:
    env: Any = DMC6.task(name).make(0).unwrapped
    try:
        assert env.metadata["render_fps"] == rate
        assert len(env.action_names) == env.action_space.shape[0]
        assert actuators in (None, env.action_names)
    finally:
        env.close()


def test_an_unknown_render_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'quick'.*exact.*fast"):
        DMC6.tasks[0].make(0, render="quick")


def test_only_the_mass_warning_is_silenced(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    dmc.DMControl("cheetah", "run", seed=0).close()
    with dmc._without_mass_warning():
        logging.getLogger("absl").warning("something else")
    assert [record.getMessage() for record in caplog.records if record.name == "absl"] == ["something else"]


def test_a_closed_environment_frees_its_contexts() -> None:
    env: Any = DMC6.tasks[0].make(0, image_size=32)
    env.reset()
    cameras = list(env.unwrapped._cameras.values())
    env.close()
    assert cameras
    assert all(camera._gl.terminated for camera in cameras)


# Catch


def play(task: Task, action: float, seed: int) -> tuple[list[float], bool, bool, int]:
    env: Any = task.make(0)
    env.reset(seed=seed)
    rewards, steps, terminated, truncated = [], 0, False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(np.array([action], np.float32))
        rewards.append(float(reward))
        steps += info["env_steps"]
    return rewards, terminated, truncated, steps


def test_catch_truncates_and_the_other_task_terminates_on_a_miss() -> None:
    full, end_on_miss = catch.SUITE.tasks
    endings = {(*play(end_on_miss, 1.0, seed)[1:3], play(end_on_miss, 1.0, seed)[3]) for seed in range(20)}
    assert (True, False, 20) in endings  # the first ball missed
    assert (True, False, 40) in endings  # the second one missed: termination, not the time limit
    assert (False, True, 40) in endings
    assert all(play(full, 1.0, seed)[1:] == (False, True, 40) for seed in range(20))


def test_following_the_ball_scores_more_than_standing_still() -> None:
    env: Any = catch.SUITE.tasks[0].make(0)
    returns = {"follow": 0.0, "still": 0.0}
    for policy in returns:
        env.reset(seed=3)
        truncated = False
        while not truncated:
            paddle_x, ball_x, _ = env.unwrapped._state()
            move = np.clip((ball_x - paddle_x) / catch.PADDLE_SPEED, -1, 1) if policy == "follow" else 0.0
            _, reward, _, truncated, _ = env.step(np.array([move], np.float32))
            returns[policy] += float(reward)
    low, high = catch.SUITE.tasks[0].score_range
    assert low < returns["still"] < returns["follow"] <= high


# Wrappers


class Counter(gymnasium.Env[Any, Any]):
    """Counts control steps in its frame and its reward; ends as told."""

    render_mode = "rgb_array"
    observation_space = Box(0, 255, (1,), np.uint8)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, episode_steps: int, terminates: bool) -> None:
        self.episode_steps, self.terminates, self.count, self.drawn = episode_steps, terminates, 0, 0
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return self.count, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        over = self.count == self.episode_steps
        return self.count, self.count, over and self.terminates, over and not self.terminates, {"count": self.count}

    def render(self) -> Any:
        self.drawn += 1
        return np.full((2, 2, 3), self.count, np.uint8)


@given(
    action_repeat=st.integers(1, 9),
    frame_stack=st.integers(1, 5),
    episode_steps=st.integers(1, 60),
    terminates=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_wrappers_account_for_every_control_step(
    action_repeat: int, frame_stack: int, episode_steps: int, terminates: bool
) -> None:
    counter = Counter(episode_steps, terminates)
    env = FrameStack(Pixels(ActionRepeat(counter, action_repeat), 2, 2), frame_stack)
    obs, _ = env.reset()
    history, consumed, total, steps, over = [0], 0, 0.0, 0, False
    while not over:
        held, kept = obs, obs.copy()
        obs, reward, terminated, truncated, info = env.step(np.zeros(1))
        assert np.array_equal(held, kept)  # an earlier observation is never written to
        over = terminated or truncated
        consumed, total, steps = consumed + info["env_steps"], total + reward, steps + 1
        assert info["count"] == consumed
        history.append(consumed)
        padded = [0] * max(0, frame_stack - len(history)) + history[-frame_stack:]
        assert obs[::3, 0, 0].tolist() == padded
    assert consumed == episode_steps
    assert total == episode_steps * (episode_steps + 1) / 2
    assert steps == -(-episode_steps // action_repeat) == counter.drawn - 1  # drawn once per agent step
    assert (terminated, truncated) == (terminates, not terminates)


@pytest.mark.parametrize("wrapper", [ActionRepeat, FrameStack])
def test_wrappers_refuse_a_count_below_one(wrapper: Any) -> None:
    with pytest.raises(ValueError, match=r"is 0; it must be a whole number of at least 1"):
        wrapper(Counter(1, True), 0)
    with pytest.raises(ValueError, match=r"is 2.5; it must be a whole number of at least 1"):
        wrapper(Counter(1, True), 2.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_moves_nothing(value: float) -> None:
    env: Any = catch.SUITE.task("catch").make(0)
    env.reset(seed=0)
    before = env.unwrapped.render_image(32, 32)
    with pytest.raises(ValueError, match=r"the action is \[(nan|inf)\]; its parts must be finite numbers"):
        env.step(np.array([value], np.float32))
    assert np.array_equal(env.unwrapped.render_image(32, 32), before)
    env.step(np.zeros(1, np.float32))


@pytest.mark.parametrize(("shape", "task"), [((), "catch"), ((3,), "catch"), ((1, 1), "catch"), ((2,), "catch_or_end")])
def test_an_action_of_another_shape_moves_nothing(shape: tuple[int, ...], task: str) -> None:
    """A scalar drove every joint of dmc alike, and catch took the first of three."""
    env: Any = catch.SUITE.task(task).make(0)
    env.reset(seed=0)
    before = env.unwrapped.render_image(32, 32)
    with pytest.raises(ValueError, match=r"the action has the shape \(.*\); this environment takes \(1,\)"):
        env.step(np.zeros(shape, np.float32))
    assert np.array_equal(env.unwrapped.render_image(32, 32), before)
    env.step(np.zeros(1, np.float32))


def test_no_step_is_taken_outside_an_episode() -> None:
    """After the end of an episode of dmc it was a TypeError about None."""
    env: Any = DMC6.task("cartpole_swingup").make(0, observation="state", action_repeat=500)
    action = np.zeros(1, np.float32)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset before step"):
        env.step(action)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(action)[3] for _ in range(2)] == [False, True]
        with pytest.raises(gymnasium.error.ResetNeeded, match="and again after its end"):
            env.step(action)
    env.close()


def test_a_picture_is_of_an_action() -> None:
    """Of a video its rate is that of decisions; the control steps' own stays where the task says it."""
    env: Any = catch.SUITE.task("catch").make(0)
    assert (env.metadata["render_fps"], env.unwrapped.metadata["render_fps"]) == (10, 20)


@pytest.mark.parametrize("size", [0, -3, 8.5])
def test_pictures_have_a_whole_number_of_pixels(size: Any) -> None:
    with pytest.raises(ValueError, match=r"image_size is .*; it must be a whole number of at least 1"):
        catch.SUITE.task("catch").make(0, image_size=size)
