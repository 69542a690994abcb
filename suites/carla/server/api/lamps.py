"""Street lamps, which the client's light manager lists and switches."""

from __future__ import annotations

from typing import NamedTuple

from suites.carla.server.api.server import Server
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.wire import Vector

METHODS = Methods()
STREET = 2  # CARLA's group of lights


class LampState(NamedTuple):
    """A lamp as CARLA sends it. active: whether it shines when it is dark; colour: red, green, blue, 0 to 255."""

    id: int
    location: Vector
    intensity: float
    group: int
    colour: tuple[int, ...]
    active: bool


@METHODS.add
def query_lights_state(server: Server, client: str = "") -> list[LampState]:
    world = server.world
    heads = world.renderer.scenery.street_lamps
    return [
        LampState(number, Vector(*map(float, head)), lamp.intensity, STREET, lamp.colour, lamp.active)
        for number, (head, lamp) in enumerate(zip(heads, world.lamps, strict=True), 1)
    ]


@METHODS.add
def update_lights_state(server: Server, client: str, lamps: tuple[LampState, ...], discard: bool = False) -> None:
    """Switches lamps by their ids; what names no lamp of the map is passed over."""
    if any(len(sent.colour) < 3 for sent in lamps):
        raise CallError("a lamp's colour is red, green and blue")
    world = server.world
    for sent in lamps:
        if 1 <= sent.id <= len(world.lamps):
            lamp = world.lamps[sent.id - 1]
            red, green, blue = (min(max(part, 0), 255) for part in sent.colour[:3])
            world.lamps[sent.id - 1] = lamp._replace(
                active=sent.active, intensity=min(max(sent.intensity, 0.0), 1e6), colour=(red, green, blue)
            )
    world.switch_lamps()


@METHODS.add
def update_day_night_cycle(server: Server, client: str, active: bool) -> None:
    """Accepted: lamps shine when it is dark."""
