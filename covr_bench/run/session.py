"""What a process that executes a run is told beside the run's configuration, and what it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FINISHED, FAILED, INTERRUPTED = 0, 1, 75
"""Outcomes of a run, and exit statuses of its process."""


@dataclass(frozen=True)
class Session:
    """What only the process that launches runs knows of them, for their provenance.

    Attributes:
        command: What the user typed.
        facts: What was found out before the start, JSON values, such as the OpenGL renderer.
    """

    command: str
    facts: Mapping[str, Any] = field(default_factory=dict)
