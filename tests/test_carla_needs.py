"""What CARLA's own scripts need, by the real client: every check of `carla_needs` is a test here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import carla_needs
import pytest

from suites.carla.launch import launch

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("carla"), reason="no CARLA client for this Python")


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """What each check found; one client process makes them all."""
    with launch("street", towns=True) as server:
        command = [sys.executable, str(Path(carla_needs.__file__)), str(server.port)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        found = {line["name"]: line for line in lines}
        found["exit"] = {"ok": run.returncode == 0, "detail": f"exit code {run.returncode}\n{run.stderr}"}
        found["server"] = {"ok": server.alive and "Traceback" not in server.log(), "detail": server.log()}
    return found


@pytest.mark.parametrize("name", [*carla_needs.CHECKS, "exit", "server"])
def test_need(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results.get(name, {"ok": False, "detail": f"the client died before: {results['exit']['detail']}"})
    assert result["ok"], result["detail"]
