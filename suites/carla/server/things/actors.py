"""What lives in the world: vehicles, walkers, props, traffic lights, sensors and the spectator."""

from __future__ import annotations

import math
import struct
from typing import Any

from suites.carla.server.protocol.wire import (
    AckermannControl,
    AckermannSettings,
    ActorDescription,
    BoundingBox,
    PhysicsControl,
    Rotation,
    Transform,
    Vector,
    VehicleControl,
    WalkerControl,
)
from suites.carla.server.things.bodies import Bodies
from suites.carla.server.things.geometry import compose

UNION_BYTES = 54  # of a snapshot record: the state that depends on the kind of actor
_VEHICLE = struct.Struct("<3f???ifB?IB")
_WALKER = struct.Struct("<3ff?")
_LIGHT = struct.Struct("<32s4fI?B")
RED, YELLOW, GREEN, OFF, UNKNOWN = range(5)  # traffic light states
NO_STATE = bytes(UNION_BYTES)


class Actor:
    """Something with an id and a place.

    attributes: by name, as text; tags: CARLA's semantic labels; stream: of a sensor, else None; row: in the table of
    bodies, or -1. `place` is the world transform of an actor that is neither a body nor attached; an attached one is
    at `offset` in its parent's frame.
    """

    def __init__(
        self, actor_id: int, description: ActorDescription, attributes: dict[str, str], place: Transform
    ) -> None:
        self.id = actor_id
        self.type_id = description.id
        self.description = description
        self.attributes = attributes
        self.place = place
        self.offset = Transform()
        self.parent: Actor | None = None
        self.box = BoundingBox()
        self.tags = b""
        self.stream: int | None = None
        self.row = -1

    def transform(self, bodies: Bodies) -> Transform:
        """Where it is in the world."""
        if self.parent:
            return compose(self.parent.transform(bodies), self.offset)
        if self.row < 0:
            return self.place
        b = bodies.rows[self.row]
        location = Vector(float(b["x"]), float(b["y"]), float(b["z"]))
        return Transform(location, Rotation(float(b["pitch"]), float(b["yaw"]), float(b["roll"])))

    def state(self) -> bytes:
        """The part of the snapshot record that depends on the kind of actor."""
        return NO_STATE


class Vehicle(Actor):
    """A vehicle on its wheels.

    lights: VehicleLightState flags; speed_limit in km/h; light: the traffic light that it faces, if any; sticky:
    whether a control holds until the next one, and not for one tick; controlled: whether one came since the last tick;
    gear: of the gearbox, which clients are told, and not the one that was asked for.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.control = VehicleControl()
        self.physics = PhysicsControl()
        self.ackermann: AckermannControl | None = None
        self.ackermann_settings = AckermannSettings()
        self.lights = 0
        self.colour = (128, 128, 128)
        self.look = 0
        self.speed_limit = 30.0
        self.light: TrafficLight | None = None
        self.sticky = self.attributes.get("sticky_control", "true").lower() in ("true", "1")
        self.controlled = False
        self.gear = 0  # of the body
        self._sent: tuple[Any, ...] = ()
        self._state = NO_STATE

    def state(self) -> bytes:
        light = self.light
        control = self.control._replace(gear=self.gear, reverse=self.gear < 0)
        now = (control, self.speed_limit, light.state_now if light else GREEN, light.id if light else 0)
        if now != self._sent:
            self._sent = now
            control, limit, state, light_id = now
            packed = _VEHICLE.pack(*control, limit, state, light is not None, light_id, 0)
            self._state = packed.ljust(UNION_BYTES, b"\0")
        return self._state


class Walker(Actor):
    """A pedestrian; moved by its control, and by that of a client's controller until `led_until` (seconds)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.control = WalkerControl()
        self.led_until = math.inf
        self.colour = (128, 128, 128)
        self.look = 0

    def state(self) -> bytes:
        (x, y, z), speed, jump = self.control
        return _WALKER.pack(x, y, z, speed, jump).ljust(UNION_BYTES, b"\0")


class Prop(Actor):
    """A thing on the road."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.colour = (128, 128, 128)
        self.look = 0


class TrafficLight(Actor):
    """sign_id: of its OpenDRIVE signal; durations in seconds; elapsed: since the last change.

    box: the volume on the approach in which it concerns a vehicle; facing: where its lamps look away from.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sign_id = ""
        self.facing = Rotation()
        self.state_now = RED
        self.durations = {GREEN: 10.0, YELLOW: 3.0, RED: 2.0}
        self.elapsed = 0.0
        self.pole = 0
        self.frozen = False

    def state(self) -> bytes:
        green, yellow, red = (self.durations[state] for state in (GREEN, YELLOW, RED))
        sign = self.sign_id.encode()[:31]
        return _LIGHT.pack(sign, green, yellow, red, self.elapsed, self.pole, self.frozen, self.state_now)
