"""The methods that clients call, by subject; importing a module registers its methods."""

from __future__ import annotations


def load() -> None:
    """Registers all methods."""
    from suites.carla.server.api import actors, batch, episode, lights, managers, queries, vehicles, walkers  # noqa: F401
