"""The real CARLA client against the embedded server: every check of `carla_contract` is a test here.

The installed client is tested, and any other whose Python the environment variable CARLA_CLIENT_PYTHONS names (paths
separated as in PATH): 0.9.15 has no wheel for Python 3.11, so it needs an environment of its own, with `carla` alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import carla_contract
import pytest

from suites.carla.launch import launch

INSTALLED = [sys.executable] if importlib.util.find_spec("carla") else []
NAMED = [python for python in os.environ.get("CARLA_CLIENT_PYTHONS", "").split(os.pathsep) if python]
RELEASE = "import importlib.metadata; print(importlib.metadata.version('carla'))"
pytestmark = pytest.mark.skipif(not INSTALLED + NAMED, reason="no CARLA client for this Python")


@pytest.fixture(scope="module", params=INSTALLED + NAMED)
def results(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """What each check found; one client process makes them all."""
    python = shutil.which(request.param) or request.param
    release = subprocess.run([python, "-c", RELEASE], capture_output=True, text=True, check=True).stdout.strip()
    with launch("highway", client_version=release) as server:
        program = Path(carla_contract.__file__)
        run = subprocess.run([python, str(program), str(server.port)], capture_output=True, text=True, timeout=300)
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        found = {line["name"]: line for line in lines}
        found["exit"] = {"ok": run.returncode == 0, "detail": f"exit code {run.returncode}\n{run.stderr}"}
        found["server"] = {"ok": server.alive and "Traceback" not in server.log(), "detail": server.log()}
    return found


@pytest.mark.parametrize("name", [*carla_contract.CHECKS, "exit", "server"])
def test_client(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results.get(name, {"ok": False, "detail": f"the client died before: {results['exit']['detail']}"})
    assert result["ok"], result["detail"]
