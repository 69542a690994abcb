"""The driving environment on real servers: its contract, its repeatability, and what it does when they fail."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covr_bench.run.evaluate import evaluate
from suites.base import EpisodeLost, SimulatorError
from suites.carla.launch import ServerProcess, launch
from suites.carla.task import session
from suites.driving import make

pytestmark = pytest.mark.skipif(importlib.util.find_spec("carla") is None, reason="no CARLA client for this Python")
AHEAD = np.array([0.0, 0.6], np.float32)


@pytest.fixture(scope="module")
def own() -> Iterator[Any]:
    """An environment with a server of its own."""
    env = make("hw", 0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server as a user starts one."""
    with launch("highway") as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


def ask(server: ServerProcess, script: str) -> str:
    """What another client of the server prints; `client` and `world` are given.

    A client knows of no actor before the first snapshot reached it, which nothing in `get_world` waits for.
    """
    head = "import carla, time\n"
    head += f"client = carla.Client('127.0.0.1', {server.port}); client.set_timeout(10.0); world = client.get_world()\n"
    head += "while not world.get_snapshot().frame: time.sleep(0.02)\n"
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def frames(env: Any, seed: int, count: int) -> list[Any]:
    found = [env.reset(seed=seed)[0]]
    for step in range(count):
        found.append(env.step(np.array([0.01 * (step % 3), 0.7], np.float32))[0])
    return found


def test_contract(own: Any) -> None:
    obs, _ = own.reset(seed=3)
    assert own.observation_space.contains(obs) and obs.shape == (9, 84, 84)
    assert own.action_space.shape == (2,) and own.unwrapped.labels == {"backend": "embedded"}
    assert np.array_equal(obs[:3], obs[6:]) and obs.std() > 10
    moved, reward, terminated, truncated, info = own.step(AHEAD)
    assert own.observation_space.contains(moved) and np.array_equal(moved[:6], obs[3:])
    assert isinstance(reward, float) and not (terminated or truncated) and info == {"env_steps": 1}
    assert np.array_equal(own.render().transpose(2, 0, 1), moved[6:])


def test_same_seed_same_traffic_same_pixels(own: Any) -> None:
    first = frames(own, 5, 40)
    frames(own, 6, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, frames(own, 5, 40), strict=True))
    assert not np.array_equal(first[0], own.reset(seed=6)[0])


def test_a_picture_of_another_size_is_of_the_same_moment(own: Any) -> None:
    expected = frames(own, 5, 12)
    own.reset(seed=5)
    for step in range(12):
        obs = own.step(np.array([0.01 * (step % 3), 0.7], np.float32))[0]
        if step == 7:
            large = own.unwrapped.render_image(168, 168)  # a new camera, in mid-episode
    assert np.array_equal(obs, expected[-1])
    assert large.shape == (168, 168, 3) and large.dtype == np.uint8
    small = expected[8][6:].transpose(1, 2, 0).astype(float)
    halved = large.reshape(84, 2, 84, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 6.0


def test_the_state_says_what_the_pictures_show(server: ServerProcess) -> None:
    env = make("hw", 0, observation="state", host="127.0.0.1", port=server.port)
    obs, _ = env.reset(seed=2)
    assert obs.shape == (525,) and obs.dtype == np.float32
    for _ in range(30):
        obs, *_ = env.step(np.array([0.0, 1.0], np.float32))
    road, others, _ = obs.reshape(3, 25, 7)
    ego, way, vehicles = road[0], road[1:], others[others.any(axis=1)]
    assert 3.0 < ego[0] < 15.0 and ego[1] == pytest.approx(25.0, abs=0.1)
    assert np.allclose(np.hypot(*np.diff(way[:, :2], axis=0).T), 4.0, atol=0.4) and abs(way[0, 1]) < 1.0
    assert 3 <= len(vehicles) <= 10 and (vehicles[:, 0] > 0).all() and (vehicles[:, 3] > 0).all()
    env.close()


def test_cameras_stand_side_by_side(server: ServerProcess) -> None:
    env = make("hw", 0, cameras=3, image_size=42, frame_stack=1, host="127.0.0.1", port=server.port)
    obs, _ = env.reset(seed=1)
    assert obs.shape == (3, 42, 126) and env.unwrapped.labels["cameras"] == "3"  # type: ignore[attr-defined]
    left, ahead, right = np.split(obs.astype(int), 3, axis=2)
    assert np.abs(left - ahead).mean() > 5 and np.abs(right - ahead).mean() > 5
    env.close()


def test_a_crash_costs_what_its_momentum_is_worth(server: ServerProcess) -> None:
    """A car of 1845 kg that meets a thing at rest loses at most 1.1 times its momentum: 2.8 from 50 km/h."""
    env: Any = make("hw", 0, end_on_collision=False, host="127.0.0.1", port=server.port)
    contacts: Any = ()
    for seed in (1, 2, 3, 4, 5, 6):  # straight on in the lane, until one runs into the vehicle ahead
        env.reset(seed=seed)
        speed, before, terminated = 0.0, 0.0, False
        while not (contacts or terminated):
            _, reward, terminated, _, _ = env.step(np.array([0.0, 1.0], np.float32))
            tick = env.unwrapped._tick
            contacts, before, speed = tick.contacts, speed, tick.speed
        if contacts:
            break
    impulse = sum(contact.impulse for contact in contacts)
    assert [contact.kind for contact in contacts] == ["vehicle"]
    assert tick.lane_speed * 0.05 - reward == pytest.approx(1e-4 * impulse)
    assert 1845 * (before - speed) == pytest.approx(impulse, rel=0.25)  # the tyres have a share in it
    assert impulse < 1.1 * 1845 * before
    env.close()


# Faults


def test_a_killed_server_costs_an_episode(own: Any) -> None:
    own.reset(seed=1)
    os.kill(own.unwrapped._session._server.pid, signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(EpisodeLost, match="embedded CARLA server"):
        own.step(AHEAD)
    assert time.monotonic() - begun < session.ANSWER
    assert own.reset(seed=1)[0].shape == (9, 84, 84)
    own.step(AHEAD)


def test_a_tick_that_never_comes_ends_the_server(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER", 3.0)
    own.reset(seed=1)
    own.unwrapped._session._call("patience", (3.0,), 30.0)
    stopped = own.unwrapped._session._server.pid
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(EpisodeLost, match=r"time-out|did not answer"):
        own.step(AHEAD)
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)
    own.reset(seed=1)
    own.step(AHEAD)


@pytest.mark.parametrize("name", ["SIGSTOP", "SIGABRT"])
def test_a_client_library_that_hangs_or_aborts_costs_an_episode(
    own: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.reset(seed=1)
    monkeypatch.setattr(session, "ANSWER", 1.0)
    monkeypatch.setattr(session, "SPARE", 1.0)
    os.kill(own.unwrapped._session._process.pid, getattr(signal, name))
    with pytest.raises(EpisodeLost, match=r"did not answer 'step'|died during 'step'"):
        own.step(AHEAD)
    monkeypatch.undo()
    own.reset(seed=1)


def test_an_evaluation_survives_its_server(own: Any) -> None:
    killed = []

    class Killer:
        """Drives off the road; kills the server once."""

        def act(self, obs: Any, step: int, explore: bool) -> Any:
            if not killed:
                killed.append(own.unwrapped._session._server.pid)
                os.kill(killed[0], signal.SIGKILL)
            return np.array([0.5, 1.0], np.float32)

    lost: list[EpisodeLost] = []
    measured = evaluate(Killer(), own, [4], 0, on_lost=lost.append)
    assert len(lost) == 1 and len(measured["return"]) == 1
    assert measured["end_off_road"] == [1.0] or measured["end_collision"] == [1.0]


def test_a_named_server_is_tidied_and_left_as_it_was(server: ServerProcess) -> None:
    left = "b = world.get_blueprint_library().find('vehicle.audi.a2')\n"
    left += "car = world.spawn_actor(b, world.get_map().get_spawn_points()[0])\n"
    left += "s = world.spawn_actor(world.get_blueprint_library().find('sensor.other.imu'), carla.Transform(), car)\n"
    left += (
        "s = world.get_settings(); s.synchronous_mode, s.fixed_delta_seconds = False, 0.1; world.apply_settings(s)\n"
    )
    ask(server, left + "import os; os._exit(0)")  # an earlier client that died
    env = make("hw", 0, host="127.0.0.1", port=server.port)
    env.reset(seed=1)
    show = "print(len(world.get_actors().filter('vehicle.audi.a2')) , len(world.get_actors().filter('sensor.*')))"
    cars, sensors = ask(server, show).split()
    assert int(sensors) == 2  # a camera and the collision sensor; the leftover is gone
    assert int(cars) <= 10
    env.step(AHEAD)
    env.close()
    settings = "s = world.get_settings(); print(s.synchronous_mode, round(s.fixed_delta_seconds, 3))\n"
    kinds = "print(sum(len(world.get_actors().filter(k)) for k in ('vehicle.*', 'walker.*', 'sensor.*')))"
    assert ask(server, settings + kinds).split() == ["False", "0.1", "0"]


def test_another_environment_takes_a_named_server_over(server: ServerProcess) -> None:
    first, second = (make("hw", i, host="127.0.0.1", port=server.port) for i in range(2))
    first.reset(seed=1)
    second.reset(seed=1)
    second.step(AHEAD)
    with pytest.raises(EpisodeLost, match="another client took the world"):
        first.step(AHEAD)
    first.reset(seed=2)
    first.step(AHEAD)
    for env in (first, second):
        env.close()


def test_an_ego_that_others_destroy_is_a_lost_episode(server: ServerProcess) -> None:
    env = make("hw", 0, host="127.0.0.1", port=server.port)
    env.reset(seed=1)
    env.step(AHEAD)
    ask(server, "[a.destroy() for a in world.get_actors() if a.attributes.get('role_name') == 'hero']")
    with pytest.raises(EpisodeLost, match="the ego vehicle is gone"):
        env.step(AHEAD)
    env.reset(seed=2)
    env.step(AHEAD)
    env.close()


def test_an_environment_that_nobody_has_any_more_leaves_no_server() -> None:
    env: Any = make("hw", 0)
    env.reset(seed=1)
    pid = env.unwrapped._session._server.pid
    assert Path(f"/proc/{pid}").exists()
    del env
    gc.collect()
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_is_not_up_is_awaited_then_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SERVER_WAIT", 1.0)
    begun = time.monotonic()
    with pytest.raises(
        SimulatorError, match=r"no CARLA server answers at 127\.0\.0\.1:1 .*covr-bench carla serve --port 1"
    ):
        make("hw", 0, host="127.0.0.1", port=1)
    assert time.monotonic() - begun >= 1.0


def test_another_release_is_refused_by_name() -> None:
    with launch("highway", client_version="0.9.15") as old:
        with pytest.raises(SimulatorError, match=r"server is release 0\.9\.15, the installed client 0\.9\.16"):
            make("hw", 0, host="127.0.0.1", port=old.port)
        assert old.alive


def test_several_environments_on_one_host(own: Any) -> None:
    other = make("hw", 9)
    try:
        own.reset(seed=1)
        other.reset(seed=1)
        ports = {env.unwrapped._session._server.port for env in (own, other)}
        assert len(ports) == 2
        for _ in range(3):
            mine, theirs = own.step(AHEAD)[0], other.step(AHEAD)[0]
        assert np.array_equal(mine, theirs)
    finally:
        other.close()


@pytest.mark.deep
def test_nothing_outlives_its_owner() -> None:
    code = "from suites.driving import make; import os, signal\n"
    code += "env = make('hw', 0); env.reset(seed=1); s = env.unwrapped._session\n"
    code += "print(s._server.pid, s._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    until = time.monotonic() + 20.0
    while time.monotonic() < until and any(alive(pid) for pid in pids):
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
