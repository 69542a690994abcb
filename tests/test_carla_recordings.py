"""Recordings of the embedded CARLA server: what is played is what was recorded, and a recording has one map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from carla_worlds import DELTA, place, put, row, speed

from suites.carla.server import recording
from suites.carla.server.api.episode import load_new_episode
from suites.carla.server.api.recorder import (
    replay_file,
    set_replayer_time_factor,
    start_recorder,
    stop_recorder,
    stop_replayer,
)
from suites.carla.server.protocol.versions import version
from suites.carla.server.service import Service
from suites.carla.server.things.actors import Vehicle

TICKS = 40
SPEED = 20.0  # m/s


@pytest.fixture
def server() -> Iterator[Service]:
    """A server in this process, in synchronous mode."""
    running = Service(version("0.9.16"), "highway", "127.0.0.1", 0)
    running.world.settings = running.settings._replace(synchronous=True, fixed_delta=DELTA)
    yield running
    running.close()


def tick(server: Service, count: int = 1) -> None:
    for _ in range(count):
        server.request_tick(None)


def pose(server: Service, car: Any) -> list[float]:
    return [float(row(server.world, car)[name]) for name in ("x", "y", "z", "yaw")]


def record(server: Service, path: Path) -> list[list[float]]:
    """Where a car that turns was at each tick from the start on; it is gone afterwards."""
    car = put(server.world, "vehicle.tesla.model3", place(server.world))
    tick(server)
    start_recorder(server, str(path))
    b = row(server.world, car)
    b["vx"], b["steer"] = SPEED, 0.2
    poses = [pose(server, car)]
    for _ in range(TICKS):
        tick(server)
        poses.append(pose(server, car))
    stop_recorder(server)
    server.world.destroy(car.id)
    return poses


def played(server: Service) -> Vehicle:
    (car,) = server.world.of_kind(Vehicle)
    return car


def test_bodies_are_played_where_they_were_recorded(server: Service, tmp_path: Path) -> None:
    """Physics moved what had just been put in its place: everything was shown a tick too far."""
    poses = record(server, tmp_path / "drive.log")
    replay_file(server, str(tmp_path / "drive.log"), 0.0, 0.0, 0)
    for there in poses[1:]:
        tick(server)
        assert pose(server, played(server)) == pytest.approx(there, abs=1e-3)
    tick(server, 2)
    assert server.replayer is None and row(server.world, played(server))["simulated"]


def test_the_time_factor_holds_for_what_is_being_played(server: Service, tmp_path: Path) -> None:
    """A new factor counted from the next recording on, and a slow one had the speeds of a fast one."""
    poses = record(server, tmp_path / "drive.log")
    replay_file(server, str(tmp_path / "drive.log"), 0.0, 0.0, 0)
    tick(server, 10)
    fast = speed(server.world, played(server))
    set_replayer_time_factor(server, 0.5)
    tick(server, 10)
    car = played(server)
    assert pose(server, car) == pytest.approx(poses[15], abs=1e-3)
    assert speed(server.world, car) == pytest.approx(fast / 2.0, rel=0.05)
    set_replayer_time_factor(server, 0.0)
    tick(server, 10)
    assert pose(server, car) == pytest.approx(poses[15], abs=1e-3) and speed(server.world, car) == 0.0
    stop_replayer(server)
    assert not list(server.world.of_kind(Vehicle))


def test_a_recording_ends_with_its_episode(server: Service, tmp_path: Path) -> None:
    """It went on over the next map, with times below 0."""
    path = str(tmp_path / "drive.log")
    start_recorder(server, path)
    tick(server, 5)
    load_new_episode(server, "street", reset_settings=False)
    tick(server, 5)
    assert server.recorder is None
    head, frames = recording.read(path)
    assert head.map == "highway" and [frame.time for frame in frames] == pytest.approx([DELTA * i for i in range(6)])


def test_a_recording_ends_where_another_map_is_played(server: Service, tmp_path: Path) -> None:
    record(server, tmp_path / "drive.log")
    load_new_episode(server, "street", reset_settings=False)
    start_recorder(server, str(tmp_path / "other.log"))
    tick(server, 3)
    replay_file(server, str(tmp_path / "drive.log"), 0.0, 0.0, 0)
    tick(server, 3)
    head, frames = recording.read(str(tmp_path / "other.log"))
    assert head.map == "street" and len(frames) == 4 and len(list(server.world.of_kind(Vehicle))) == 1


def test_what_is_played_ends_with_its_episode(server: Service, tmp_path: Path) -> None:
    """Actors that a recording brings in later entered the next map."""
    record(server, tmp_path / "drive.log")
    replay_file(server, str(tmp_path / "drive.log"), 0.0, 0.0, 0)
    load_new_episode(server, "street", reset_settings=False)
    tick(server, 3)
    assert server.replayer is None and not list(server.world.of_kind(Vehicle))
