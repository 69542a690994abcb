"""Typical scripts of CARLA's users, run as they are against the embedded server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.carla.launch import ServerProcess, launch

SCRIPTS = Path(__file__).resolve().parents[1] / "examples" / "carla"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("carla") is None, reason="no CARLA client for this Python")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with launch("street") as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


def run(server: ServerProcess, script: str, *arguments: object) -> str:
    command = [sys.executable, str(SCRIPTS / script), "--port", str(server.port), *map(str, arguments)]
    home = {"HOME": str(Path(tempfile.gettempdir()) / "carla-examples-home")}  # the client keeps files there
    Path(home["HOME"]).mkdir(exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_spawn_traffic(server: ServerProcess) -> None:
    said = run(server, "spawn_traffic.py", "--vehicles", 8, "--walkers", 5, "--seconds", 6)
    vehicles, walkers, moving = (int(number) for number in re.findall(r"\d+", said))
    assert vehicles >= 6 and walkers >= 3 and moving >= 5


def test_follow_waypoints(server: ServerProcess) -> None:
    said = run(server, "follow_waypoints.py", "--metres", 350, "--speed", 30)
    metres, off = (float(number) for number in re.findall(r"[\d.]+", said))
    assert metres >= 350 and off < 1.5


def test_record_camera(server: ServerProcess, tmp_path: Path) -> None:
    run(server, "record_camera.py", "--frames", 5, "--size", "64x48", "--out", tmp_path)
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(pictures) == 10 and sum(name.startswith("rgb") for name in pictures) == 5
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in tmp_path.glob("*.png"))
