"""Registered Gymnasium environments as tasks: the same episodes, scaled actions, antialiased frames, one run."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from covr_bench.config import registry
from suites import from_gymnasium
from suites.base import SimulatorError
from suites.contract.check import check, examine

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parent.parent / "examples" / "gymnasium_suite.py"


class Slider(gymnasium.Env[Any, Any]):
    """A white bar on black whose place is set by a 1 by 2 table of numbers; draws 100 by 200 pixels."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012 - gymnasium's own declaration
    observation_space = Box(-9, 9, (2,), np.float64)

    def __init__(self, render_mode: str = "", low: float = 0.0, high: float = 10.0, drawn: Any = np.uint8) -> None:
        self.render_mode, self.drawn = render_mode, drawn
        self.action_space = Box(np.array([[low, -1]]), np.array([[high, 1]]), dtype=np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.place = np.array([[self.np_random.uniform(0, 10), 0.0]])
        return self.place[0], {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.place = action
        return action[0], np.float32(action[0, 0]), bool(action[0, 1] > 0.9), False, {"mine": 1}

    def render(self) -> Any:
        frame = np.zeros((100, 200, 3), self.drawn)
        frame[:, round(self.place[0, 0] * 10) :][:, :20] = 255
        return frame


@pytest.fixture(autouse=True)
def registered() -> Any:
    gymnasium.register("Slider-v3", Slider, max_episode_steps=12, reward_threshold=50)
    gymnasium.register("Endless-v0", Slider)
    yield
    for name in ("Slider-v3", "Endless-v0"):
        del gymnasium.registry[name]


def test_what_is_registered_is_the_default() -> None:
    task = from_gymnasium("Slider-v3")
    assert (task.name, task.action_repeat, task.max_episode_steps, task.score_range) == ("slider", 1, 12, (0.0, 50.0))
    assert from_gymnasium("Pendulum-v1").score_range == (0.0, 1.0)  # returns as they are
    own = from_gymnasium(
        "Slider-v3", name="x", action_repeat=4, score_range=(-1, 1), instruction="Slide.", max_episode_steps=8
    )
    assert (own.name, own.score_range, own.instruction, own.max_episode_steps) == ("x", (-1, 1), "Slide.", 8)
    assert from_gymnasium("BipedalWalkerHardcore-v3").name == "bipedal_walker_hardcore"
    with pytest.raises(ValueError, match=r"Endless-v0 is registered without a time limit; give .*max_episode_steps"):
        from_gymnasium("Endless-v0")
    with pytest.raises(gymnasium.error.NameNotFound, match="Slidr"):
        from_gymnasium("Slidr-v3")


def test_actions_are_scaled_clipped_and_shaped() -> None:
    env: Any = from_gymnasium("Slider-v3").make(0)
    assert env.action_space == Box(-1, 1, (2,), np.float32)
    env.reset(seed=0)
    for action, place in (([-1, 0], 0), ([0, 0], 5), ([1, 0], 10), ([7, 0.5], 10)):
        _, reward, *_ = env.step(np.array(action, np.float32))
        assert reward == pytest.approx(place) and isinstance(reward, float)


def test_repeats_flags_and_counts() -> None:
    env: Any = pickle.loads(pickle.dumps(from_gymnasium("Slider-v3", action_repeat=5))).make(0)
    env.reset(seed=0)
    still = np.zeros(2, np.float32)
    steps = [env.step(still)[1:] for _ in range(3)]
    assert [(reward, info["env_steps"]) for reward, _, _, info in steps] == [(25.0, 5), (25.0, 5), (10.0, 2)]
    assert [step[1:3] for step in steps] == [(False, False), (False, False), (False, True)]
    assert steps[0][3]["mine"] == 1
    env.reset(seed=0)
    assert env.step(np.array([0, 1], np.float32))[2:4] == (True, False)
    last: Any = from_gymnasium("Slider-v3", max_episode_steps=1).make(0)
    last.reset(seed=0)
    assert last.step(np.array([0, 1], np.float32))[2:4] == (True, False)  # both at once: it is over for good


def test_frames_are_scaled_with_antialiasing_to_any_size() -> None:
    env: Any = from_gymnasium("Slider-v3").make(0, image_size=10, frame_stack=2)
    env.reset(seed=0)
    obs, *_ = env.step(np.array([-0.9, 0], np.float32))  # columns 5 to 25 of 200: from 0.25 to 1.25 of ten
    assert obs.shape == (6, 10, 10) and obs.dtype == np.uint8
    newest = obs[3]
    assert 100 < newest[5, 0] < 240 and 40 < newest[5, 1] < 160 and newest[5, 3:].max() == 0
    whole = env.unwrapped.render_image(100, 200)
    assert np.array_equal(whole, env.unwrapped._env.render())
    assert env.unwrapped.render_image(33, 50).shape == (33, 50, 3)
    assert env.unwrapped.metadata["render_fps"] == 25


@pytest.mark.parametrize(
    ("env_id", "settings", "message"),
    [
        ("LunarLander-v3", {}, r"LunarLander-v3 takes actions from Discrete\(4\), and .*continuous variant"),
        ("Slider-v3", {"high": np.inf}, r"takes actions from Box.*cannot be scaled to -1..1: register it with bounded"),
    ],
)
def test_actions_that_cannot_be_scaled_are_refused(env_id: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulatorError, match=message) as refused:
        from_gymnasium(env_id, **settings).make(0)
    assert "\n" not in str(refused.value)


def test_frames_that_are_none_are_refused() -> None:
    env = from_gymnasium("Slider-v3", drawn=np.float32).make(0)
    with pytest.raises(SimulatorError, match=r"Slider-v3 renders float32 \(100, 200, 3\); it must return uint8"):
        env.reset(seed=0)


def test_a_registered_environment_keeps_every_promise() -> None:
    broken = [found for found in examine(from_gymnasium("Slider-v3", action_repeat=5)) if found.problems]
    assert broken == []


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "LunarLanderContinuous-v3", "BipedalWalker-v3"])
def test_gymnasiums_own_pass_before_a_run_and_are_the_same_episodes(env_id: str) -> None:
    task = from_gymnasium(env_id, action_repeat=2)
    ours: Any = task.make(0, image_size=24)
    assert check(ours, task, {"image_size": 24}) == []
    plain = gymnasium.make(env_id)
    plain.reset(seed=5)
    ours.reset(seed=5)
    action = np.full(ours.action_space.shape, 0.5, np.float32)
    for _ in range(3):
        scaled = np.asarray(action * plain.action_space.high, np.float32)  # type: ignore[attr-defined]
        rewards = [float(plain.step(scaled)[1]) for _ in range(2)]
        assert ours.step(action)[1] == pytest.approx(sum(rewards))
    ours.close()
    plain.close()


def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Any:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed, run `pip install gymnasium[box2d]`")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(ImportError, match=r"BipedalWalker-v3 cannot be made: Box2D is not installed, run `pip"):
        from_gymnasium("BipedalWalker-v3").make(0)


def test_what_mujoco_draws_has_an_opengl_backend_chosen_and_its_packages_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a display, `Reacher-v5` found no OpenGL; before that, "No module named 'imageio'" was all it said."""
    assert from_gymnasium("Reacher-v5").needs_gl and not from_gymnasium("Pendulum-v1").needs_gl
    assert from_gymnasium("Slider-v3", needs_gl=True).needs_gl
    monkeypatch.setitem(sys.modules, "imageio", None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"Reacher-v5 cannot be made: .*imageio.*pip install 'gymnasium\[mujoco\]'"):
        from_gymnasium("Reacher-v5").make(0)


def test_a_saturated_action_is_of_the_environments_space() -> None:
    """Of bounds in float64, -0.4 became -0.40000000000000002."""
    env: Any = from_gymnasium("Slider-v3", low=-0.4, high=0.7).make(0)  # looks whether it is
    env.reset(seed=0)
    for corner in (-1, 1):
        env.step(np.full(2, corner, np.float32))


def test_drawing_again_changes_nothing() -> None:
    """LunarLander's particles fade whenever they are drawn."""
    task = from_gymnasium("LunarLanderContinuous-v3")
    plain, drawn = (task.make(0, image_size=40) for _ in range(2))
    assert np.array_equal(plain.reset(seed=1)[0], drawn.reset(seed=1)[0])
    for _ in range(12):
        drawn.unwrapped.render_image(64, 64)  # type: ignore[attr-defined]
        ours, others = (env.step(np.ones(2, np.float32))[0] for env in (plain, drawn))
        assert np.array_equal(ours, others)
    plain.close()
    drawn.close()


@pytest.mark.deep
def test_the_example_is_a_suite_that_runs(cli: Callable[..., Any], tmp_path: Path) -> None:
    suite = registry.suite(str(EXAMPLE))
    assert [task.key for task in suite.tasks] == ["my_pendulum/pendulum"]
    budget = tmp_path / "tiny.py"
    budget.write_text("from covr_bench import Budget\nBUDGET = Budget('tiny', 20, 20, 1)\n")
    small = ("--set", "env.image_size=24")
    done = cli("run", "--suite", EXAMPLE, "--agent", "random", "--budget", budget, "--out", tmp_path, *small)
    assert done.code == 0, done.err
    assert "pendulum" in done.out


def test_a_threshold_below_0_is_no_score_range() -> None:
    assert from_gymnasium("Reacher-v5").score_range == (0.0, 1.0)
