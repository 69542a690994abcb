"""The driving suite without a server: an episode's reward, ends and measures; what a run makes of a lost episode."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from experiments import configure
from hypothesis import given
from hypothesis import strategies as st
from test_loop_seams import services

from analysis.statistics.intervals import wilson
from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.run.checkpoint import Checkpoints
from covr_bench.run.evaluate import evaluate
from covr_bench.run.player import ScriptedPlayer
from covr_bench.run.services import MOST_LOST
from covr_bench.run.train import Run
from covr_bench.run.worker import _reason
from results.store import RunWriter, read
from suites.base import EpisodeLost, SimulatorError
from suites.carla.task.episode import APART, EPISODE_STEPS, STUCK_STEPS, Contact, Episode, Tick
from suites.catch import make as make_catch
from suites.driving import SUITE

PICTURE = np.zeros((4, 4, 3), np.uint8)


def tick(speed: float = 10.0, on_road: bool = True, contacts: tuple[Contact, ...] = ()) -> Tick:
    return Tick(PICTURE, None, speed, abs(speed), abs(speed) * 0.05, on_road, contacts)


# An episode


@given(speed=st.floats(-40, 60), impulse=st.floats(0, 1e6), steer=st.floats(-1, 1))
def test_the_reward_is_progress_less_impulse_less_steering(speed: float, impulse: float, steer: float) -> None:
    contacts = (Contact("static", 0, impulse / 2), Contact("vehicle", 7, impulse / 2))
    reward = Episode(end_on_collision=True).add(tick(speed, contacts=contacts), steer, 1.0)
    assert reward == pytest.approx(speed * 0.05 - 1e-4 * impulse - abs(steer))


def test_ends() -> None:
    hit = (Contact("walker", 3, 100.0),)
    for strict, world, reason in (
        (True, tick(contacts=hit), "collision"),
        (False, tick(contacts=hit), ""),
        (True, tick(on_road=False), "off_road"),
        (True, tick(), ""),
    ):
        episode = Episode(strict)
        episode.add(world, 0.0, 0.0)
        assert episode.reason == reason
        assert [name for name, value in episode.metrics().items() if name.startswith("end_") and value] == (
            [f"end_{reason}"] if reason else []
        )


def test_stuck_is_hardly_moving_for_five_seconds() -> None:
    episode = Episode(True)
    for _ in range(50):
        episode.add(tick(10.0), 0.0, 0.0)
    rested = 0
    while not episode.reason:
        episode.add(tick(0.0), 0.0, 0.0)
        rested += 1
    assert episode.reason == "stuck" and STUCK_STEPS - 5 < rested <= STUCK_STEPS


def test_the_horizon_is_no_end_of_the_road() -> None:
    episode = Episode(True)
    for _ in range(EPISODE_STEPS):
        assert not episode.reason
        episode.add(tick(), 0.1, -0.5)
    measures = episode.metrics()
    assert episode.reason == "horizon" and measures["end_horizon"] == 1
    assert measures["driving_distance_m"] == pytest.approx(500)
    assert measures["mean_speed_mps"] == pytest.approx(10)
    assert (measures["mean_abs_steer"], measures["brake_use"]) == (pytest.approx(0.1), pytest.approx(0.5))


def test_a_long_contact_is_one_collision() -> None:
    episode = Episode(end_on_collision=False)
    for step in range(APART * 2):
        episode.add(tick(contacts=(Contact("vehicle", 5, 10.0),) if step % 3 == 0 else ()), 0.0, 0.0)
    episode.add(tick(contacts=(Contact("static", 0, 1.0),)), 0.0, 0.0)
    for _ in range(APART):
        episode.add(tick(), 0.0, 0.0)
    episode.add(tick(contacts=(Contact("vehicle", 5, 10.0), Contact("walker", 6, 1.0))), 0.0, 0.0)
    measures = episode.metrics()
    kinds = [measures[f"collisions_{kind}"] for kind in ("vehicle", "walker", "static")]
    assert kinds == [2, 1, 1] and measures["collisions"] == 4 and measures["collided"] == 1


# The suite and its agents


def test_suite_is_complete() -> None:
    assert [task.name for task in SUITE.tasks] == ["hw", "gp", "a"]
    assert SUITE.default_tasks == ("hw", "gp")
    for task in SUITE.tasks:
        assert task.instruction.startswith("You are a driving assistant. ")
        assert (task.action_repeat, task.max_episode_steps) == (1, 1000)
    paper = SUITE.budgets["paper"]
    assert (paper.env_steps, paper.eval_episodes, paper.seeds) == (100_000, 10, (0, 1, 2))


def test_the_driver_asks_for_the_state_and_others_for_pictures() -> None:
    specs = {name: registry.agent(name) for name in ("driver", "full_throttle")}
    planned = configure(SUITE, "carla", specs, SUITE.budgets["smoke"], tasks=("hw",))
    assert [config.env for config in planned] == [{"observation": "state"}, {}]


def test_scripted_agents_refuse_other_tasks() -> None:
    for name in ("driver", "full_throttle"):
        with pytest.raises(UserError, match=r"drives only|steers tasks"):
            registry.make_agent(name, {}, Context((9, 84, 84), 1, 1, 100, "cpu", 0))


def road(**ego: float) -> Any:
    obs = np.zeros((3, 25, 7), np.float32)
    obs[0, 0] = ego.get("speed", 10.0), ego.get("limit", 14.0), 2.4, 1.1, 1.2, 2.9, 0.0
    obs[0, 1:, 0] = 4.0 * np.arange(24)
    return obs


def act(obs: Any) -> Any:
    driver = registry.make_agent("driver", {}, Context((3 * 25 * 7,), 2, 1, 1000, "cpu", 0))
    return driver.act(obs.reshape(-1), 0, False)


def test_the_driver_steers_to_the_lane_and_keeps_its_distance() -> None:
    steer, pedal = act(road())
    assert abs(steer) < 1e-6 and pedal > 0.3
    aside = road()
    aside[0, 1:, 1] = 1.0  # the lane is to the right
    assert act(aside)[0] > 0.01
    standing = road()
    standing[1, 0] = 15.0, 0.0, 0.0, 0.0, 0.0, 2.4, 1.0
    assert act(standing)[1] < -0.3
    oncoming = road()
    oncoming[1, 0] = 15.0, -3.3, math.pi, -10.0, 0.0, 2.4, 1.0
    assert act(oncoming)[1] > 0.3


def test_the_driver_slows_for_people_beside_and_stops_for_people_ahead() -> None:
    waiting = road(speed=10.0)
    waiting[2, 0] = 12.0, 3.0, 0.0, 0.0, 0.0, 0.2, 0.2
    assert act(waiting)[1] < 0.0
    stepping_out = road(speed=6.0)
    stepping_out[2, 0] = 9.0, 2.0, 0.0, 0.0, -1.5, 0.2, 0.2
    assert act(stepping_out)[1] < -0.2
    walking_away = road(speed=6.0, limit=6.0)
    walking_away[2, 0] = 12.0, -3.6, 0.0, 0.0, -1.5, 0.2, 0.2
    assert act(walking_away)[1] > -0.1


@pytest.mark.skipif(importlib.util.find_spec("carla") is None, reason="no CARLA client for this Python")
def test_an_agent_that_is_shown_pictures_can_have_the_driver_beside_it() -> None:
    """What the driver is told there is what it would be shown, moment by moment."""
    shown, told = (SUITE.task("hw").make(0, image_size=16, observation=kind) for kind in ("pixels", "state"))
    try:
        shown.reset(seed=5)
        state, _ = told.reset(seed=5)
        player = ScriptedPlayer("driver", shown, 1)
        for _ in range(12):
            np.testing.assert_array_equal(shown.unwrapped.state(), state)
            action = player.act()
            np.testing.assert_array_equal(action, act(state))
            shown.step(action)
            state, *_ = told.step(action)
    finally:
        shown.close()
        told.close()


@pytest.mark.skipif(importlib.util.find_spec("carla") is not None, reason="the CARLA client is installed")
def test_without_the_client_the_message_says_what_to_install() -> None:
    with pytest.raises(ImportError, match="pip install carla"):
        SUITE.tasks[0].make(0)


@pytest.mark.skipif(importlib.util.find_spec("carla") is None, reason="no CARLA client for this Python")
@pytest.mark.parametrize(
    ("option", "valid"), [({"cameras": 2}, "1, 3, 5"), ({"observation": "depth"}, "pixels, state")]
)
def test_unknown_options_name_the_valid_ones(option: dict[str, Any], valid: str) -> None:
    with pytest.raises(ValueError, match=valid):
        SUITE.tasks[0].make(0, **option)


# Lost episodes


class Fragile:
    """The game catch whose simulator fails at the given calls of `step` and `reset`, counted together."""

    def __init__(self, failing: set[int]) -> None:
        self.env = make_catch(2, False, 0, image_size=20)
        self.failing, self.calls = failing, 0
        self.observation_space, self.action_space = self.env.observation_space, self.env.action_space
        self.unwrapped = self.env.unwrapped

    def _count(self) -> None:
        self.calls += 1
        if self.calls in self.failing:
            raise EpisodeLost("the server died")

    def reset(self, **options: Any) -> Any:
        self._count()
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        self._count()
        return self.env.step(action)


def at_random(context: Context) -> Any:
    return registry.make_agent("random", {}, context)


def train(out: Path, env: Any, eval_env: Any, warned: list[str], make_agent: Any = at_random) -> Any:
    config = RunConfig("catch@smoke/catch/random/0", "catch", 1, "catch", "random", 0, 200, 100, 2, 2, out=str(out))
    with RunWriter(out, config.run_id, action_repeat=2) as writer:
        run = Run(
            config,
            env,
            eval_env,
            make_agent,
            writer,
            Checkpoints(out / "checkpoint"),
            warn=warned.append,
        )
        run.train()
        writer.end()
    return run


def test_a_lost_episode_is_marked_and_the_run_goes_on(tmp_path: Path) -> None:
    warned: list[str] = []
    run = train(tmp_path, Fragile({30, 31, 70}), Fragile({10}), warned)
    rows = read(tmp_path, compact=False)
    assert run.counters.env_steps == 200
    assert (rows["metric"] == "lost").sum() == 4
    assert len(run.replay.abandoned) == 2
    again = Replay(run.replay.capacity, (9, 20, 20), 1, seed=0)
    Checkpoints(tmp_path / "kept").save(200, run.state(), run.replay)
    Checkpoints(tmp_path / "kept").load(again)
    assert again.abandoned == run.replay.abandoned
    returns = rows[(rows["kind"] == "episode") & (rows["metric"] == "length")]["value"]
    assert set(returns) == {40.0}  # no row of an episode cut short
    warned = [text for text in warned if "no update" not in text]
    assert len(warned) == 1 and "discarded" in warned[0] and "the server died" in warned[0]
    evaluations = rows[(rows["kind"] == "eval") & (rows["metric"] == "return")]
    assert len(evaluations) == 3 and all(len(episodes) == 2 for episodes in evaluations["episodes"])


def test_losses_with_steps_between_them_are_not_in_a_row(tmp_path: Path) -> None:
    """All in the first evaluation: the fifth, twelfth, ... call of the simulator."""
    run = train(tmp_path, Fragile(set()), Fragile(set(range(5, 5 + 7 * (MOST_LOST + 1), 7))), [])
    assert run.counters.env_steps == 200


def test_a_simulator_that_never_recovers_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=f"{MOST_LOST + 1} episodes in a row were lost.*the server died") as error:
        train(tmp_path, Fragile(set(range(30, 1000))), Fragile(set()), [])
    assert _reason(error.value) == str(error.value)  # no traceback for the user


def test_evaluation_without_a_listener_reports_the_loss() -> None:
    class Still:
        def act(self, obs: Any, step: int, explore: bool) -> Any:
            return np.zeros(1, np.float32)

    with pytest.raises(EpisodeLost):
        evaluate(Still(), Fragile({5}), [1], 0)  # type: ignore[arg-type]
    lost: list[EpisodeLost] = []
    again = evaluate(Still(), Fragile({5}), [1], 0, on_lost=lost.append)  # type: ignore[arg-type]
    assert again == evaluate(Still(), Fragile(set()), [1], 0) and len(lost) == 1  # type: ignore[arg-type]


def test_an_episode_that_is_lost_where_the_agent_draws_the_scene_is_discarded(tmp_path: Path) -> None:
    class Asks:
        """Shows a VLM more pixels than the replay holds."""

        def __init__(self, context: Context) -> None:
            self.random, self.services = at_random(context), context.services

        def __getattr__(self, name: str) -> Any:
            return getattr(self.random, name)

        def update(self, replay: Any, step: int) -> dict[str, Any]:
            assert self.services is not None
            self.services.render(84, 84)
            return {}

    class Scene:
        labels: ClassVar[dict[str, str]] = {}
        drawn = 0

        def render_image(self, height: int, width: int) -> Any:
            self.drawn += 1
            if self.drawn == 30:
                raise EpisodeLost("the server died")
            return np.zeros((height, width, 3), np.uint8)

    env, warned = Fragile(set()), list[str]()
    env.unwrapped = Scene()  # type: ignore[assignment]
    run = train(tmp_path, env, Fragile(set()), warned, Asks)
    assert run.counters.env_steps == 200 and len([text for text in warned if "no update" not in text]) == 1


class Tires:
    """Goes to the ball in its first eight decisions."""

    decisions = 0

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        self.decisions += 1
        ball = np.argwhere(obs[-3] > 150)[:, 1].mean() / obs.shape[2]
        return np.full(1, np.sign(ball - 0.5) * (self.decisions <= 8), np.float32)


def test_a_lost_episode_of_the_vlm_begins_again_with_a_policy_that_remembers_nothing() -> None:
    lost: list[EpisodeLost] = []

    def returns(env: Any) -> Any:
        ours = services(0, env)
        ours._tick = lambda: None
        ours._lost = SimpleNamespace(add=lost.append)  # type: ignore[assignment]
        return ours.play(lambda render: Tires(), 3)["return"]

    assert returns(Fragile({22})) == returns(Fragile({27})) == returns(Fragile(set())) and len(lost) == 2


def test_a_teacher_bears_a_lost_reset() -> None:
    lost: list[EpisodeLost] = []
    ours = services(0, Fragile({22}))
    ours._lost = SimpleNamespace(add=lost.append)  # type: ignore[assignment]
    shown = ours.demonstrate("scripted", 30, 0, lambda obs: obs)
    assert (len(shown.actions), len(lost)) == (40, 1)


# Rates


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 30, 0.0059, 0.1667)],
)
def test_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    from scipy.stats import binomtest

    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)
    assert wilson(successes, n) == pytest.approx(binomtest(successes, n).proportion_ci(method="wilson"), abs=1e-12)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_contains_the_rate(n: int, share: float) -> None:
    successes = round(share * n)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12 and successes / n - 1e-12 <= high <= 1


def test_wilson_refuses_more_successes_than_trials() -> None:
    assert all(math.isnan(bound) for bound in wilson(0, 0))
    with pytest.raises(ValueError, match="3 successes of 2 trials"):
        wilson(3, 2)


def test_measures_are_means_over_the_steps_of_an_episode() -> None:
    """The speed is the car's, not that along the lane; the throttle is no brake."""
    episode = Episode(True)
    for pedal, lane_speed in ((1.0, 6.0), (-0.5, -2.0)):
        episode.add(Tick(PICTURE, None, lane_speed, 10.0, 0.5, True, ()), -0.1, pedal)
    measures = episode.metrics()
    named = [measures[name] for name in ("mean_speed_mps", "brake_use", "mean_abs_steer", "driving_distance_m")]
    assert named == pytest.approx([10.0, 0.25, 0.1, 1.0])
