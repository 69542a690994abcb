"""The maps that a server offers, by the names that clients ask for."""

from __future__ import annotations

import logging
from typing import NamedTuple

from suites.carla.maps import FIRST_MAPS, MAPS, RoadMap, load_map
from suites.carla.maps.towns import NEAREST, nearest
from suites.carla.render.renderer import Renderer
from suites.carla.server.motion.obstacles import obstacles_of
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.things.bodies import Rows
from suites.carla.server.things.surroundings import Thing, surroundings

_log = logging.getLogger(__name__)
GENERATED = "OpenDriveMap"  # the name of a map that a client generated


class Site(NamedTuple):
    """A map with what belongs to it."""

    map: RoadMap
    renderer: Renderer
    obstacles: Rows
    things: list[Thing]


def site_of(road_map: RoadMap) -> Site:
    """The scenery and the obstacles of a map."""
    renderer = Renderer(road_map)
    obstacles = obstacles_of(road_map, renderer)
    return Site(road_map, renderer, obstacles, surroundings(obstacles, renderer.scenery.fixtures))


class Sites:
    """What is on offer.

    towns: whether the name of a town of CARLA's stands for the nearest of our maps; generated: a client's own map.
    """

    def __init__(self, towns: bool) -> None:
        self.towns = towns
        self.generated: Site | None = None
        self._ready: dict[str, Site] = {}
        self._said: set[str] = set()

    def names(self) -> list[str]:
        """The maps that a client may load."""
        return [*MAPS, *(NEAREST if self.towns else ())]

    def find(self, name: str) -> Site:
        """The map of that name, with or without a path before it. Raises CallError for an unknown one."""
        name = name.rsplit("/", 1)[-1]
        if name == GENERATED and self.generated:
            return self.generated
        ours = name if name in MAPS or name in FIRST_MAPS else self._stand_in(name)
        if ours not in self._ready:
            self._ready[ours] = site_of(load_map(ours))
        return self._ready[ours]

    def _stand_in(self, name: str) -> str:
        """Our map for a town of CARLA's."""
        ours = nearest(name)
        if ours is None:
            raise CallError(f"map not found: {name[:80]!r}; available: {', '.join(self.names())}")
        if not self.towns:
            raise CallError(
                f"map not found: {name} is a map of CARLA's that this server lacks; available: {', '.join(MAPS)}. "
                f"Start the server with --towns to have {ours!r} loaded in its place"
            )
        if name not in self._said:
            self._said.add(name)
            _log.warning("%s is asked for: %r is loaded in its place, under that name", name, ours)
        return ours
