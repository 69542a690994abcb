"""What CARLA's own scripts need, by the real client: every check of `carla_needs` is a test here."""

from __future__ import annotations

import importlib.util
from typing import Any

import carla_contract
import carla_needs
import pytest

from suites.carla.launch import launch

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("carla"), reason="no CARLA client for this Python")


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """What each check found."""
    with launch("street", towns=True) as server:
        return carla_contract.ask(server, carla_needs.__file__, carla_needs.CHECKS)


@pytest.mark.parametrize("name", [*carla_needs.CHECKS, "exit", "server"])
def test_need(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results.get(name, {"ok": False, "detail": f"the client died before: {results['exit']['detail']}"})
    assert result["ok"], result["detail"]
