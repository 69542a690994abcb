"""What the driving environment tells Gymnasium and the simulator, with a simulator whose ticks the test writes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from suites.carla.task.env import Driving
from suites.carla.task.episode import EPISODE_STEPS, STUCK_STEPS, Contact, Tick
from suites.driving import make

pytestmark = pytest.mark.skipif(importlib.util.find_spec("carla") is None, reason="no CARLA client for this Python")
AHEAD = np.array([0.0, 0.6], np.float32)
DRIVING = Tick(np.zeros((8, 8, 3), np.uint8), None, 10.0, 10.0, 0.5, True, ())
CRASH = DRIVING._replace(contacts=(Contact("vehicle", 7, 900.0),))
OFF_ROAD = DRIVING._replace(on_road=False)
STANDING = DRIVING._replace(lane_speed=0.0, speed=0.0, moved=0.0)


class Script:
    """A session whose steps are the given ticks. controls: what it was told."""

    embedded, release = True, "0.9.16"

    def __init__(self, ticks: Iterable[Tick]) -> None:
        self._ticks: Iterator[Tick] = iter(ticks)
        self.controls: list[tuple[float, float]] = []

    def reset(self, seed: int) -> Tick:
        return DRIVING._replace(state=np.ones((3, 25, 7), np.float32))

    def step(self, steer: float, pedal: float) -> Tick:
        self.controls.append((steer, pedal))
        return next(self._ticks)

    def close(self) -> None:
        pass


def started(session: Script, monkeypatch: pytest.MonkeyPatch, scenario: str = "hw", **options: Any) -> Any:
    """An environment as agents get it, at the first observation of an episode of this session."""
    monkeypatch.setattr(Driving, "_open", lambda self: session)
    env = make(scenario, 0, image_size=8, **options)
    env.reset(seed=1)
    return env


def test_the_horizon_truncates_and_does_not_terminate(monkeypatch: pytest.MonkeyPatch) -> None:
    env = started(Script(repeat(DRIVING)), monkeypatch)
    flags = [env.step(AHEAD)[2:4] for _ in range(EPISODE_STEPS)]
    assert EPISODE_STEPS == 1000
    assert flags == [(False, False)] * 999 + [(False, True)]


@pytest.mark.parametrize(
    ("last", "steps", "reason"),
    [(CRASH, 1, "collision"), (OFF_ROAD, 1, "off_road"), (STANDING, STUCK_STEPS, "stuck")],
)
def test_other_ends_terminate_and_do_not_truncate(
    last: Tick, steps: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = started(Script(repeat(last)), monkeypatch)
    for _ in range(steps - 1):
        assert env.step(AHEAD)[2:4] == (False, False)
    *_, terminated, truncated, info = env.step(AHEAD)
    assert (terminated, truncated) == (True, False)
    assert info["episode_metrics"][f"end_{reason}"] == 1.0


def test_a_collision_that_does_not_end_the_episode_sets_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    env = started(Script(repeat(CRASH)), monkeypatch, end_on_collision=False)
    assert env.step(AHEAD)[2:4] == (False, False)


@pytest.mark.parametrize(
    ("action", "control"),
    [((-3.0, 7.0), (-1.0, 1.0)), ((1.004, -1.0001), (1.0, -1.0)), ((0.25, -0.5), (0.25, -0.5))],
)
def test_actions_are_clipped_before_they_reach_the_simulator(
    action: tuple[float, float], control: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Script(repeat(DRIVING))
    reward = started(session, monkeypatch).step(np.array(action, np.float32))[1]
    assert session.controls == [control]
    assert reward == pytest.approx(0.5 - abs(control[0]))  # the reward charges the steering that was done


@pytest.mark.parametrize(("pedal", "given"), [(1.0, 0.3), (0.0, 0.1), (-0.5, 0.0), (-0.75, -0.5), (-2.0, -1.0)])
def test_gentle_controls_give_what_the_lanes_need(pedal: float, given: float, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Script(repeat(DRIVING._replace(state=np.ones((3, 25, 7), np.float32))))
    env = started(session, monkeypatch, controls="gentle", observation="state")
    told, reward = env.step(np.array([-3.0, pedal], np.float32))[:2]
    assert session.controls == [pytest.approx((-0.04, given))]
    assert reward == pytest.approx(0.5 - 0.04)  # what the wheels do is charged
    assert env.unwrapped.labels["controls"] == "gentle"
    expected = np.ones((3, 25, 7), np.float32)
    expected[0, 0, [4, 6]] = 0.04, 0.1  # what a driver goes by: the wheels' angle at an action of 1, neutral throttle
    np.testing.assert_array_equal(told, expected.reshape(-1))


@pytest.mark.parametrize("scenario", ["gp", "a"])
def test_where_one_stops_the_pedal_stays_as_it_is(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Script(repeat(DRIVING))
    env = started(session, monkeypatch, scenario, controls="gentle")
    for pedal in (0.0, 1.0, -0.25):
        env.step(np.array([1.0, pedal], np.float32))
    assert session.controls == [pytest.approx((0.2, pedal)) for pedal in (0.0, 1.0, -0.25)]


def test_other_controls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"controls is '0\.1'; valid: full, gentle"):
        make("hw", 0, controls="0.1")
