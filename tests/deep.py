"""What `make test` leaves to `make deep`: cases that take long and of whose kind it has others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


def a_few_of(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of which only those that are kept belong to every run of the tests."""
    return [case if case in kept else pytest.param(case, marks=pytest.mark.deep) for case in cases]
