"""Starting and ending a server process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from carla_wire import RawClient

from suites.carla import launch as launching
from suites.carla.launch import launch

PARENT = """
import sys, time
from suites.carla.launch import start
server = start("highway", client_version="0.9.16")
print(server.pid, server.port, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int, within: float = 10.0) -> bool:
    until = time.monotonic() + within
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def test_a_server_ends_with_its_block_and_ports_do_not_clash() -> None:
    with launch("highway", client_version="0.9.15") as first, launch("suburb", client_version="0.9.16") as second:
        assert first.port != second.port
        one, two = RawClient(first.port), RawClient(second.port)
        assert (one.value("version"), two.value("version")) == ("0.9.15", "0.9.16")
        assert two.value("get_map_info")[0] == "Carla/Maps/suburb"
        with pytest.raises(RuntimeError, match=f"cannot listen on .*{first.port}"):
            launching.start("highway", port=first.port, client_version="0.9.16")
    assert gone(first.pid) and gone(second.pid)
    first.stop()  # a second time does nothing


def test_a_server_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=launching.child_environment()
    )
    assert parent.stdout
    pid, port = (int(word) for word in parent.stdout.readline().split())
    RawClient(port).close()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"Town04 is a map of CARLA's that this server lacks"):
        launching.start("Town04", client_version="0.9.16")
    with pytest.raises(RuntimeError, match=r"invalid choice: '0.8.4'"):
        launching.start("highway", client_version="0.8.4")


@pytest.mark.parametrize("port", ["-4", "65536", "80000"])
def test_a_port_that_does_not_exist_is_named(port: str) -> None:
    command = [sys.executable, "-m", "suites.carla.server", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, env=launching.child_environment())
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"port {port} is not between 0" in done.stderr


def test_streams_take_the_next_port_where_it_is_free() -> None:
    # Below the ports that the system gives to connections, and from another start in each process that tests.
    start = 20_000 + os.getpid() % 1_000 * 10
    free = next(port for port in range(start, 32_000) if both_free(port))
    with launch("highway", client_version="0.9.16") as other:
        with launch("highway", port=free, client_version="0.9.16") as server:
            assert RawClient(server.port).token(1) == (1, free + 1)
        with socket.create_server(("127.0.0.1", free + 1)), launch("street", free, "0.9.16") as server:
            _, port = RawClient(server.port).token(1)
            assert port not in (free + 1, other.port)


def both_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
            return True
    except OSError:
        return False


def test_clients_get_files_only_where_they_can_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library raises from its first tick when it cannot write into the home folder."""
    for home, expected in ((tmp_path, 1), (tmp_path / "missing", 0)):
        monkeypatch.setenv("HOME", str(home))
        with launch("street", client_version="0.9.16") as server:
            client = RawClient(server.port)
            names = client.value("get_required_files", "Nav")
            assert len(names) == expected and client.value("get_required_files", "") == []
            assert all(client.value("request_file", name).startswith(b"TESM") for name in names)
            assert "is not a file of this server" in str(client.call("request_file", "../../etc/passwd"))
            client.close()


def test_a_missing_client_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise launching.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(launching.importlib.metadata, "version", missing)
    with pytest.raises(RuntimeError, match=r"pip install carla"):
        launching.start()
