"""The methods that clients call, by subject."""

from __future__ import annotations

from collections.abc import Mapping

from suites.carla.server.api import (
    actors,
    batch,
    episode,
    lamps,
    lights,
    managers,
    queries,
    recorder,
    vehicles,
    walkers,
)
from suites.carla.server.protocol.rpc import Method

METHODS: Mapping[str, Method] = {
    name: method
    for module in (actors, batch, episode, lamps, lights, managers, queries, recorder, vehicles, walkers)
    for name, method in module.METHODS.items()
}
