"""Sensors that report events."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from suites.carla.server.protocol import versions
from suites.carla.server.protocol.codec import pack
from suites.carla.server.protocol.streams import Part
from suites.carla.server.sensors.base import Sensor
from suites.carla.server.things.actors import Actor
from suites.carla.server.things.geometry import matrix
from suites.carla.server.world import Hit, World


class LaneInvasion(Actor):
    """A lane invasion sensor: the client works its events out from the map, the server only keeps the actor."""


class CollisionSensor(Sensor):
    """One event for each pair of bodies and tick."""

    number = versions.COLLISION

    def measure(self, world: World) -> Iterable[list[Part]]:
        for actor, other, impulse in world.collisions:
            if actor is self.parent:
                yield [pack([world.as_sent(actor), world.as_sent(other), impulse])]


class Obstacle(Sensor):
    """An event for the nearest thing ahead within `distance`, looked for in a tube of radius `hit_radius`."""

    number = versions.OBSTACLE

    def measure(self, world: World) -> Iterable[list[Part]]:
        pose = self.transform(world.bodies)
        axes, radius, reach = matrix(pose.rotation), self.number_of("hit_radius"), self.number_of("distance")
        only_actors = self.attributes["only_dynamics"].lower() in ("true", "1")
        nearest: Hit | None = None
        for right, up in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
            origin = np.array(pose.location) + radius * (right * axes[:, 1] + up * axes[:, 2])
            hit = world.cast(origin, axes[:, 0], reach, self.carrier_row)
            if hit and not hit.is_ground and (hit.actor or not only_actors):
                nearest = min(nearest or hit, hit, key=lambda found: found.distance)
        if nearest:
            yield [pack([world.as_sent(self.parent or self), world.as_sent(nearest.actor), nearest.distance])]
