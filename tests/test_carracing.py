"""CarRacing: Gymnasium's own episodes and pixels, the measures of an episode, and how evaluation reports them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.run.evaluate import evaluate
from suites.carracing import SUITE, CarRacing

TASK = SUITE.tasks[0]
FULL_GAS = np.array([0.0, 1.0, -1.0], np.float32)
STILL = np.array([0.0, -1.0, -1.0], np.float32)


class Touch:
    """A wheel, or a tile of that index, as the counters see them."""

    def __init__(self, idx: int = 0, tiles: tuple[int, ...] = ()) -> None:
        self.idx, self.tiles = idx, [Touch(tile) for tile in tiles]


class Game:
    """Stands for the simulator: after each step the wheels touch what the script says."""

    def __init__(self, tiles: int, script: list[tuple[int, ...]]) -> None:
        self.track, self.script, self.visited = range(tiles), script, set[int]()
        self.actions: list[Any] = []
        self.car: Any = type("Car", (), {})()
        self.car.hull = type("Hull", (), {"position": (0, 0), "angle": 0, "linearVelocity": (0, 0)})()
        self.car.hull.angularVelocity = 0

    @property
    def tile_visited_count(self) -> int:
        return len(self.visited)

    def step(self, action: Any) -> tuple[None, float, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        touched = self.script.pop(0)
        self.car.wheels = [Touch(tiles=touched), Touch(tiles=touched[:1])]
        self.visited |= set(touched)
        return None, -0.1, not self.script, False, {}


def measures(tiles: int, script: list[tuple[int, ...]]) -> dict[str, float]:
    env: Any = CarRacing(0)
    env._game = Game(tiles, list(script))
    for _ in script:
        *_, info = env.step(STILL)
    metrics: dict[str, float] = info["episode_metrics"]
    return metrics


def drive(env: Any) -> Any:
    """An action that follows the road's centre line, from the simulator's own state."""
    game = env.unwrapped._game
    hull, road = game.car.hull, np.array([tile[2:4] for tile in game.track])
    nearest = int(np.argmin(((road - np.array(hull.position)) ** 2).sum(1)))

    def turn(vector: Any) -> float:
        return float((np.arctan2(-vector[0], vector[1]) - hull.angle + np.pi) % (2 * np.pi) - np.pi)

    ahead = [road[(nearest + n) % len(road)] for n in (3, 5, 8)]
    limit = 60.0 if abs(turn(ahead[2] - ahead[1])) < 0.5 else 36.0
    speed = float(np.hypot(*hull.linearVelocity))
    steer = np.clip(-2 * turn(ahead[0] - np.array(hull.position)), -1, 1)
    return np.array([steer, 0.2 if speed < limit else -1.0, -0.4 if speed > 1.2 * limit else -1.0], np.float32)


# The task


def test_suite_is_complete() -> None:
    assert (SUITE.name, TASK.action_repeat, TASK.max_episode_steps) == ("carracing", 4, 1000)
    assert set(SUITE.budgets) == {"smoke", "short", "paper"}
    for name, budget in SUITE.budgets.items():
        assert budget.name == name
        assert budget.env_steps % budget.eval_every == 0
        assert budget.eval_every % TASK.action_repeat == 0
    assert TASK.instruction.endswith(".")
    assert SUITE.task(TASK.name) is TASK


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version.*")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes.*")
def test_gymnasium_contract() -> None:
    env: Any = TASK.make(0)
    check_env(env)
    env.close()


def test_spaces_and_accounting() -> None:
    env = pickle.loads(pickle.dumps(TASK)).make(3, image_size=32, frame_stack=2)
    assert env.observation_space == Box(0, 255, (6, 32, 32), np.uint8)
    assert env.action_space == Box(-1.0, 1.0, (3,), np.float32)
    assert TASK.make(0).observation_space == Box(0, 255, (9, 84, 84), np.uint8)
    obs, _ = env.reset()
    assert np.array_equal(obs[:3], obs[3:])
    moved, reward, _, _, info = env.step(FULL_GAS)
    assert moved.dtype == np.uint8
    assert np.array_equal(moved[:3], obs[3:])
    assert isinstance(reward, float)
    assert info == {"env_steps": 4}
    assert np.array_equal(env.render().transpose(2, 0, 1), moved[3:])
    assert env.unwrapped.labels == {}
    env.close()


@pytest.mark.parametrize("seed", [0, 11, 2**32 - 1])
def test_episodes_frames_and_rewards_are_gymnasiums(seed: int) -> None:
    """Also: drawing on demand and the tracks driven before change nothing."""
    plain: Any = gymnasium.make("CarRacing-v3", lap_complete_percent=1.0)
    ours = CarRacing(0, image_size=96)
    ours.reset()
    for _ in range(20):
        ours.step(FULL_GAS)
    frame, _ = plain.reset(seed=seed)
    ours.reset(seed=seed)
    assert ours._game.track == plain.unwrapped.track
    rng = np.random.default_rng(seed)
    for step in range(60):
        if step % 20 == 0:
            assert np.array_equal(ours.render(), plain.unwrapped._render("state_pixels"))
            assert np.array_equal(ours.render()[:84], frame[:84])  # its score below is drawn before the step's -0.1
        action = rng.uniform(-1, 1, 3).astype(np.float32)
        action[2] = -1.0 if step < 50 else action[2]
        frame, reward, *_ = plain.step((action * [1, 0.5, 0.5] + [0, 0.5, 0.5]).astype(np.float32))
        state, our_reward, *_ = ours.step(action)
        assert our_reward == reward
        assert tuple(state[:2]) == tuple(plain.unwrapped.car.hull.position)
    assert np.array_equal(ours.render(), plain.unwrapped._render("state_pixels"))


def test_seed_determines_frames_whatever_came_before() -> None:
    def frames(env: Any, seed: int) -> list[Any]:
        return [env.reset(seed=seed)[0]] + [env.step(FULL_GAS)[0] for _ in range(6)]

    one: Any = TASK.make(0, image_size=32)
    other: Any = TASK.make(9, image_size=32)
    frames(other, 2)
    expected = frames(one, 5)
    assert np.array_equal(frames(other, 5), expected)
    assert np.array_equal(frames(one, 5), expected)
    assert not np.array_equal(frames(one, 6), expected)


def test_unseeded_resets_continue_one_stream() -> None:
    one, other = CarRacing(4), CarRacing(0)
    tracks = []
    for seed in (4, None):
        one.reset()
        other.reset(seed=seed)
        assert one._game.track == other._game.track
        tracks.append(one._game.track)
    assert tracks[0] != tracks[1]


def test_the_picture_is_drawn_at_any_size() -> None:
    env = CarRacing(0)
    env.reset()
    for _ in range(50):  # the opening zoom lasts one second
        env.step(FULL_GAS)
    small, large = env.render(), env.render_image(400, 500)
    assert (small.shape, large.shape) == ((84, 84, 3), (400, 500, 3))
    assert large.dtype == np.uint8
    for frame in (small, large):
        height, width = frame.shape[:2]
        red, green, blue = frame[round(height * 0.75), width // 2].astype(int)
        assert red > green + 50 and red > blue + 50  # the car
        assert (frame[: height * 7 // 8, :, 1] > 190).any()  # grass


@given(action=st.tuples(*[st.floats(-3, 3, width=32)] * 3))
@settings(deadline=None, max_examples=30)
def test_actions_are_clipped_and_mapped_affinely(action: tuple[float, float, float]) -> None:
    env: Any = CarRacing(0)
    env._game = Game(10, [(0,)])
    env.step(np.array(action, np.float32))
    given = env._game.actions[0]
    low, high = np.array([-1, 0, 0]), np.ones(3)
    scaled = np.array([action[0], (action[1] + 1) / 2, (action[2] + 1) / 2])
    assert given == pytest.approx(np.clip(scaled, low, high), abs=1e-6)
    assert given.dtype == np.float32


def test_gentle_controls_roll_where_an_action_is_neutral() -> None:
    env: Any = CarRacing(0, controls="gentle")
    env._game = Game(10, [(0,)] * 3)
    for action in ((0, 0, 0), (-1, 1, 1), (1, -1, -1)):
        env.step(np.array(action, np.float32))
    expected = [[0, 0.05, 0], [-0.4, 0.1, 0.1], [0.4, 0, 0]]
    assert np.array(env._game.actions) == pytest.approx(np.array(expected), abs=1e-6)
    assert env.labels == {"controls": "gentle"}


def test_who_finds_no_new_tile_is_lost_if_that_is_asked_for() -> None:
    for ends, last in ((True, 103), (False, 200)):
        env: Any = CarRacing(0, end_when_lost=ends)
        env._game = Game(10, [(tile,) for tile in (0, 1, 2, 2, 2)] + [()] * 195)
        over = [env.step(STILL)[2] for _ in range(last - 1)]
        _, _, terminated, truncated, info = env.step(STILL)
        assert not any(over) and terminated and not truncated and info["episode_metrics"]["tiles_visited"] == 3
        assert env.labels == ({"ends": "lost"} if ends else {})


def test_other_controls_are_refused() -> None:
    with pytest.raises(ValueError, match="controls is 'soft'; valid: full, gentle"):
        CarRacing(0, controls="soft")


# What an episode is measured by


def test_laps_need_the_tiles_and_the_start_line() -> None:
    lap = [(tile,) for tile in range(1, 20)]
    assert measures(20, [(0,), *lap[:-1]])["laps"] == 0  # 19 of 20, not back yet
    assert measures(20, [(0,), *lap])["laps"] == 1  # every tile: Gymnasium ends the episode there
    assert measures(20, [(0,), *lap, (0,)])["laps"] == 1
    assert measures(20, [(0,), *lap[1:], (0,), (1,), (0,)])["laps"] == 1  # 95%, then to and fro over the line
    assert measures(20, [(0,), *lap[1:], (0,), *lap[1:], (0,)])["laps"] == 2
    assert measures(20, [(0,), *lap[2:], (0,)])["laps"] == 0  # 90%
    assert measures(20, [(0,), (1,), (0,), (19,), (0,)] * 3)["laps"] == 0


def test_a_lap_is_of_one_episode() -> None:
    env: Any = CarRacing(0)
    env._game = game = Game(20, [(tile,) for tile in (*range(1, 20), 0)])
    game.reset = game.visited.clear  # type: ignore[attr-defined]
    for _ in range(19):
        env.step(STILL)
    env.reset()
    *_, info = env.step(STILL)  # over the start line, with the tiles of the episode before
    assert info["episode_metrics"]["laps"] == 0


def test_off_track_is_no_wheel_on_the_road() -> None:
    metrics = measures(20, [(0,), (), (3, 4), ()])
    assert metrics == {"off_track_share": 0.5, "tiles_visited": 3, "tiles_visited_share": 0.15, "laps": 0}


def test_a_driver_on_the_road_finishes_a_lap() -> None:
    env: Any = CarRacing(0, image_size=8)
    env.reset(seed=1)
    total, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(drive(env))
        total += reward
    assert terminated and info["lap_finished"]
    assert total == pytest.approx(1000 - 0.1 * env._steps)
    metrics = info["episode_metrics"]
    assert (metrics["laps"], metrics["tiles_visited_share"]) == (1, 1)
    assert metrics["tiles_visited"] == len(env._game.track)
    assert metrics["off_track_share"] < 0.02
    env.reset()
    assert (env._steps, env._laps, env._off_track) == (0, 0, 0)


def test_leaving_the_field_costs_100_and_terminates() -> None:
    env: Any = TASK.make(0, image_size=8)
    env.reset(seed=0)
    straight_on, over = np.array([0.0, -0.2, -1.0], np.float32), False
    while not over:
        _, reward, terminated, truncated, info = env.step(straight_on)
        over = terminated or truncated
    assert (terminated, truncated) == (True, False)
    assert -100.4 < reward <= -100
    assert info["episode_metrics"]["off_track_share"] > 0.3
    assert 1 <= info["env_steps"] <= 4


def test_the_time_limit_truncates() -> None:
    env: Any = CarRacing(0)
    env.reset()
    env._steps = 998
    assert env.step(STILL)[2:] == (False, False, {})
    _, _, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated) == (False, True)
    assert info["episode_metrics"]["laps"] == 0


# Evaluation


class Idle:
    def act(self, obs: Any, step: int, explore: bool) -> Any:
        return np.zeros(1, np.float32)


class TwoSteps(gymnasium.Env[Any, Any]):
    """Ends after two steps and reports `crashes`, where told to."""

    action_space = Box(-1, 1, (1,), np.float32)
    observation_space = Box(0, 1, (1,), np.float32)

    def __init__(self, reports: bool) -> None:
        self.reports, self.count, self.episode = reports, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.count, self.episode = 0, self.episode + 1
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        metrics = {"episode_metrics": {"crashes": self.episode}} if self.reports and self.count == 2 else {}
        return np.zeros(1, np.float32), 1.5, self.count == 2, False, {"env_steps": 4, **metrics}


def test_evaluation_passes_an_environments_own_measures_on() -> None:
    plain = {"return": [3.0, 3.0, 3.0], "length": [8.0, 8.0, 8.0]}
    for reports, extra in ((False, {}), (True, {"crashes": [1.0, 2.0, 3.0]})):
        env = TwoSteps(reports)
        assert evaluate(Idle(), env, (1, 2, 3), 0) == plain | extra


def test_evaluation_refuses_measures_that_are_not_in_every_episode() -> None:
    env = TwoSteps(True)
    original = env.reset

    def reset(**options: Any) -> Any:
        env.reports = env.episode == 0
        return original(**options)

    env.reset = reset  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="crashes"):
        evaluate(Idle(), env, (1, 2), 0)


def test_an_evaluation_episode_without_an_end_is_named() -> None:
    class Endless(TwoSteps):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return np.zeros(1, np.float32), 1.0, False, False, {"env_steps": 1_000}

    with pytest.raises(ValueError, match="goes on after 200,000 environment steps: return truncated"):
        evaluate(Idle(), Endless(False), (1,), 0)


# A machine without Box2D, and no noise


@pytest.mark.parametrize("missing", ["Box2D", "pygame"])
def test_a_missing_package_is_one_clear_error(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    message = rf"carracing needs Box2D and pygame: pip install 'gymnasium\[box2d\]' \(.*{missing}"
    with pytest.raises(ImportError, match=message) as error:
        TASK.make(0)
    assert error.value.__suppress_context__


def test_no_window_no_display_no_print() -> None:
    code = "from suites.carracing import SUITE; import sys; assert 'pygame' not in sys.modules\n"
    code += "env = SUITE.tasks[0].make(0); env.reset(); env.step(env.action_space.sample()); env.close()\n"
    code += "import pygame; assert not pygame.display.get_init()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_measure_that_is_called_as_ours_does_not_take_its_place() -> None:
    """CarRacing has no `return` of its own; another environment may."""
    env = TwoSteps(False)
    step = env.step

    def measured(action: Any) -> Any:
        *rest, info = step(action)
        return *rest, info | {"episode_metrics": {"return": 99.0, "length": 99.0}}

    env.step = measured  # type: ignore[method-assign]
    assert evaluate(Idle(), env, (1, 2), 0) == {"return": [3.0, 3.0], "length": [8.0, 8.0]}
