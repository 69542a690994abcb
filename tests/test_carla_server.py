"""The server under clients that misbehave, die, fall behind or come in numbers; and that its runs repeat."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from carla_fuzz import fuzz
from carla_wire import RawClient, read_message

from suites.carla.launch import ServerProcess, launch
from suites.carla.server import service
from suites.carla.server.api.server import Manager
from suites.carla.server.protocol import streams
from suites.carla.server.protocol.rpc import Session
from suites.carla.server.protocol.versions import version
from suites.carla.server.service import Service

HEAD = 48 + 36  # bytes of a snapshot before its actors
RECORD = 119


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with launch("highway", client_version="0.9.16") as running:
        yield running
        assert running.alive and "Traceback" not in running.log(), running.log()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RawClient]:
    """A client of a new episode in synchronous mode."""
    raw = RawClient(server.port)
    raw.value("load_new_episode", "", True, 65535)
    raw.synchronous()
    yield raw
    raw.close()


def spawn(client: RawClient, type_id: str, index: int = 0, parent: int | None = None, **attributes: object) -> int:
    values = [[name, 3, str(value)] for name, value in attributes.items()]
    if parent is not None:
        offset = [[1.5, 0.0, 2.0], [0.0, 0.0, 0.0]]
        return client.value("spawn_actor_with_parent", [0, type_id, values], offset, parent, 0, "")[0]
    place = client.value("get_map_info")[1][index]
    return client.value("spawn_actor", [0, type_id, values], place)[0]


def stream_of(client: RawClient, actor: int) -> int:
    (sent,) = client.value("get_actors_by_id", [actor])
    return struct.unpack_from("<I", sent[5])[0]


def records(message: bytes) -> np.ndarray:
    return np.frombuffer(message[HEAD:], np.uint8).reshape(-1, RECORD)


def test_only_this_machine_may_connect(server: ServerProcess) -> None:
    for port in (server.port, RawClient(server.port).token(1)[1]):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 2.0)  # a listener on all addresses would accept


def test_malformed_messages_disturb_nobody(server: ServerProcess) -> None:
    seen = fuzz(server.port, 1200, seed=7)
    assert seen["internal errors"] == 0 and seen["errors"] > 200
    assert server.alive


@pytest.mark.parametrize("lamps", [True, [7], [[1, [0.0, 0.0, 0.0], 50.0, 2, [255], True]]])
def test_senseless_lamps_are_refused(client: RawClient, lamps: object) -> None:
    ((kind, (message,)),) = client.call("update_lights_state", "", lamps)
    assert kind == 0 and "internal error" not in message


def test_every_request_is_answered_in_the_same_order(client: RawClient) -> None:
    numbers = [client.send("version") for _ in range(200)]
    assert [client.answer(number) for number in numbers] == [[[1, "0.9.16"]]] * 200
    assert client.call("no_such_method") == [[0, ["no_such_method is not supported by this server"]]]
    assert client.call("destroy_actor")[0][1] == ["destroy_actor takes (actor), but 0 were given"]


def test_clients_that_die_leave_nothing_behind(server: ServerProcess, client: RawClient) -> None:
    car = spawn(client, "vehicle.tesla.model3")
    camera = stream_of(client, spawn(client, "sensor.camera.rgb", parent=car, image_size_x=32, image_size_y=32))
    before = open_files(server.pid)
    for index in range(50):
        other = RawClient(server.port)
        socks = [other.sock, other.subscribe(1), other.subscribe(camera)]
        other.send("tick_cue")
        for sock in socks:  # a reset, as when a process is killed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        if index % 10 == 0:
            client.value("tick_cue")
    client.value("add_traffic_manager_running", ["127.0.0.1", 8000])
    client.value("tick_cue")
    assert open_files(server.pid) <= before + 2
    client.close()
    again = RawClient(server.port)
    assert again.value("is_traffic_manager_running", 8000) is False
    again.close()


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd")) if Path("/proc").exists() else 0


def test_two_clients_see_the_same_frames(server: ServerProcess, client: RawClient) -> None:
    other = RawClient(server.port)
    mine, theirs = client.subscribe(1), other.subscribe(1)
    assert read_message(mine)[:48] == read_message(theirs)[:48]  # the state at once, before any tick
    car = spawn(client, "vehicle.tesla.model3")
    for ticker in (client, other, client):
        frame = ticker.value("tick_cue")
        messages = read_message(mine), read_message(theirs)
        assert messages[0][48:] == messages[1][48:]
        assert [struct.unpack_from("<Q", message, 8)[0] for message in messages] == [frame, frame]
        assert car in records(messages[0])[:, :4].copy().view("<u4").ravel()
    for sock in (mine, theirs):
        sock.close()
    other.close()


def run_scenario(client: RawClient) -> str:
    """Traffic, a walker, a crash: what the stream says, less ids and the time of day.

    Synchronous before the episode begins: a slow machine would otherwise tick between the two.
    """
    client.synchronous()
    client.value("load_new_episode", "", False, 65535)
    for index in range(8):
        spawn(client, "vehicle.audi.a2", 40 * index, driver="server", driver_seed=index, driver_lane_changes=6)
    ego, walker = spawn(client, "vehicle.tesla.model3", 5), spawn(client, "walker.pedestrian.0001", 100)
    client.call("apply_control_to_vehicle", ego, [1.0, 0.05, 0.0, False, False, False, 0])
    client.call("apply_control_to_walker", walker, [[0.0, 1.0, 0.0], 1.5, False])
    stream, digest = client.subscribe(1), hashlib.sha256()
    read_message(stream)
    for _ in range(300):
        client.value("tick_cue")
        digest.update(records(read_message(stream))[:, 4:].tobytes())
    stream.close()
    return digest.hexdigest()


def test_a_seeded_scenario_repeats_to_the_bit(server: ServerProcess, client: RawClient) -> None:
    first = run_scenario(client)
    assert run_scenario(client) == first
    with launch("highway", client_version="0.9.16") as another:
        fresh = RawClient(another.port)
        assert run_scenario(fresh) == first
        fresh.close()


def test_long_runs_and_many_episodes_do_not_grow(server: ServerProcess, client: RawClient) -> None:
    def episode(ticks: int) -> None:
        ids = [spawn(client, "vehicle.audi.a2", 9 * index, driver="server", driver_seed=index) for index in range(6)]
        camera = spawn(client, "sensor.camera.rgb", parent=ids[0], image_size_x=24, image_size_y=24)
        sock, world = client.subscribe(stream_of(client, camera)), client.subscribe(1)
        read_message(world)
        for _ in range(ticks):
            client.value("tick_cue")
            read_message(world), read_message(sock)
        sock.close()
        world.close()
        answers = client.call("apply_batch", [[[1, [actor]]] for actor in [camera, *ids]], False)
        assert all(answer[0] == 1 for (answer,) in answers)
        frame = client.value("tick_cue")
        world = client.subscribe(1)
        message = read_message(world)
        world.close()
        assert struct.unpack_from("<Q", message, 8)[0] == frame and len(records(message)) == 1  # the spectator

    for _ in range(5):
        episode(10)
    begin = resident(server.pid)
    for _ in range(20):
        episode(10)
    episode(300)
    assert resident(server.pid) - begin < 6.0


def resident(pid: int) -> float:
    """MiB."""
    statm = Path(f"/proc/{pid}/statm")
    return int(statm.read_text().split()[1]) * 4096 / 2**20 if statm.exists() else 0.0


def test_a_tick_waits_for_a_sensor_about_to_be_read(client: RawClient) -> None:
    car = spawn(client, "vehicle.tesla.model3")
    sensor = stream_of(client, spawn(client, "sensor.other.imu", parent=car))
    number, port = client.token(sensor)
    pending = client.send("tick_cue")  # before the stream is connected
    sock = socket.create_connection(("127.0.0.1", port), 10.0)
    sock.sendall(struct.pack("<I", number))
    frame = client.answer(pending)[0][1]
    assert struct.unpack_from("<Q", read_message(sock), 8)[0] == frame
    sock.close()


def test_a_tick_in_asynchronous_mode_is_the_next_one(client: RawClient) -> None:
    client.value("load_new_episode", "", True, 65535)  # ends synchronous mode
    settings = client.value("get_episode_settings")
    settings[2] = [True, 1.5]  # seconds, for which nobody has to wait
    client.value("set_episode_settings", settings)
    begin = time.monotonic()
    frames = [client.value("tick_cue") for _ in range(4)]
    assert frames == sorted(set(frames)) and time.monotonic() - begin < 1.5


def test_a_tick_waits_for_a_manager_to_sleep_but_not_for_one_that_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """In asynchronous mode a Traffic Manager reads the settings all the time, and sleeps never."""
    now = [100.0]
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: now[0]))
    running = Service(version("0.9.16"), "highway", "127.0.0.1", 0)
    running.world.settings = running.settings._replace(synchronous=True, fixed_delta=0.05)
    running.managers[8000] = Manager("127.0.0.1", 8000, cast(Session, None))
    frames = []
    running.answered_settings()
    running.request_tick(None)
    for _ in range(80):
        now[0] += 1e-4
        running.answered_settings()
        running.step(0.0)
        frames.append(running.world.frame)
    running.close()
    assert frames[17] == frames[0] and frames[-1] == frames[0] + 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A server in this process that loses patience with slow readers soon."""
    monkeypatch.setattr(streams, "BACKLOG", 200_000)
    monkeypatch.setattr(service, "CONGESTION", 0.3)
    running = Service(version("0.9.16"), "highway", "127.0.0.1", 0)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            running.step(0.05)
        running.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield running
    ended.set()
    thread.join()


def test_a_client_that_stops_reading_is_waited_for_then_dropped(impatient: Service) -> None:
    client = RawClient(impatient.port)
    client.synchronous()
    car = spawn(client, "vehicle.tesla.model3")
    camera = stream_of(client, spawn(client, "sensor.camera.depth", parent=car, image_size_x=600, image_size_y=300))
    idle = client.subscribe(camera)
    busy = client.subscribe(camera)
    frames = []
    for _ in range(40):
        frames.append(client.value("tick_cue"))
        assert struct.unpack_from("<Q", read_message(busy), 8)[0] == frames[-1]
    assert frames == list(range(frames[0], frames[0] + 40))  # nobody else lost a picture
    while idle.recv(1 << 20):  # what was sent before the server hung up
        pass
    for sock in (idle, busy):
        sock.close()
    client.close()
