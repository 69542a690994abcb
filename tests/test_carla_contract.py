"""The real CARLA client against the embedded server: every check of `carla_contract` is a test here.

The installed client is tested, and any other whose Python the environment variable CARLA_CLIENT_PYTHONS names (paths
separated as in PATH): 0.9.15 has no wheel for Python 3.11, so it needs an environment of its own, with `carla` alone.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
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
    """What each check found."""
    python = shutil.which(request.param) or request.param
    release = subprocess.run([python, "-c", RELEASE], capture_output=True, text=True, check=True).stdout.strip()
    with launch("highway", client_version=release) as server:
        return carla_contract.ask(server, carla_contract.__file__, carla_contract.CHECKS, python)


@pytest.mark.parametrize("name", [*carla_contract.CHECKS, "exit", "server"])
def test_client(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results.get(name, {"ok": False, "detail": f"the client died before: {results['exit']['detail']}"})
    assert result["ok"], result["detail"]
