"""Starting and ending a server process."""

from __future__ import annotations

import os
import signal
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
    root = str(Path(launching.__file__).resolve().parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout
    pid, port = (int(word) for word in parent.stdout.readline().split())
    RawClient(port).close()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"invalid choice: 'Town04'"):
        launching.start("Town04", client_version="0.9.16")
    with pytest.raises(RuntimeError, match=r"invalid choice: '0.8.4'"):
        launching.start("highway", client_version="0.8.4")


def test_a_missing_client_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise launching.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(launching.importlib.metadata, "version", missing)
    with pytest.raises(RuntimeError, match=r"pip install carla"):
        launching.start()
