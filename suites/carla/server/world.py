"""The simulated world: one map, its actors, and the tick that moves them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from suites.carla.server import snapshot
from suites.carla.server.motion import dynamics, pilot, rays
from suites.carla.server.motion.traffic import Traffic, driven_control
from suites.carla.server.protocol import geodesy
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.versions import Version
from suites.carla.server.protocol.wire import (
    ActorDescription,
    BoundingBox,
    EpisodeSettings,
    Transform,
    Vector,
    VehicleControl,
    WalkerControl,
    Weather,
)
from suites.carla.server.sites import Sites
from suites.carla.server.things.actors import Actor, TrafficLight, Vehicle, Walker
from suites.carla.server.things.bodies import CONTACT, Bodies
from suites.carla.server.things.signals import Signals

Floats = NDArray[np.float64]
Kind = TypeVar("Kind", bound=Actor)
MAX_CONTACTS = 256  # pairs that touch in one tick
MAX_GEAR = 100
MAX_DELTA = 10.0  # seconds of one tick
BOTTOMLESS = -1e6  # metres
LIMIT_EVERY = 5  # ticks between looks at the speed limit where a vehicle is


class Collision(NamedTuple):
    """actor was hit by other (None: an obstacle that is no actor) with an impulse in N s."""

    actor: Actor
    other: Actor | None
    impulse: Vector


class Hit(NamedTuple):
    """What a ray met: an actor, the ground, or (neither) an obstacle of the map. code: as in `rays`."""

    distance: float
    actor: Actor | None
    code: int

    @property
    def is_ground(self) -> bool:
        return self.code == rays.GROUND


FULL = 100.0  # intensity of a street lamp


class Lamp(NamedTuple):
    """A street lamp. active: whether it shines when it is dark."""

    intensity: float = FULL
    colour: tuple[int, int, int] = (255, 255, 255)
    active: bool = True


class World:
    """One episode on one map.

    Attributes:
        frame: ticks since the server started.
        time: simulated seconds of this episode.
        delta: simulated seconds of the last tick.
        next_id: of the actor that enters next.
        map_name: the name that the map was asked for by.
    """

    def __init__(self, version: Version, map_name: str, token: Callable[[int], bytes], towns: bool = False) -> None:
        self.version = version
        self.token = token  # of a stream
        self.frame = 1
        self.episode = 0
        self.settings = EpisodeSettings()
        self.sites = Sites(towns)
        self.next_id = 1
        self.load(map_name, reset_settings=True)

    def load(self, name: str, reset_settings: bool) -> None:
        """Begins a new episode on a map, see `Sites.find`; an empty name keeps the map.

        Raises CallError for an unknown map; the running episode then goes on.
        """
        if name:
            self._site = self.sites.find(name)
            self.map_name = name.rsplit("/", 1)[-1]
        self.map, self.renderer, self.obstacles, self.things = self._site
        self.map_origin = geodesy.map_origin(self.map.opendrive)
        self.episode += 1
        self.map_changed = True
        self.time, self.delta, self._ticks = 0.0, 0.0, 0
        if reset_settings:
            self.settings = EpisodeSettings()
        self.weather = Weather()
        self.bodies = Bodies()
        self._contacts = np.zeros(MAX_CONTACTS, CONTACT)
        self._near = np.zeros(len(self.obstacles), np.int64)
        self.collisions: list[Collision] = []
        self.actors: dict[int, Actor] = {}
        self.spectator = Actor(self.next_id, ActorDescription(0, "spectator"), {}, Transform())
        self.enter(self.spectator)
        self.signals = Signals(self.map, self._light)
        self.traffic = Traffic(self.map, self.signals)
        self.lamps = [Lamp()] * len(self.renderer.scenery.street_lamps)
        self.switch_lamps()

    def switch_lamps(self) -> None:
        """Lets the street lamps shine as `lamps` says, and clients ask for them anew."""
        shares = [lamp.intensity / FULL * lamp.active for lamp in self.lamps]
        colours = np.array([lamp.colour for lamp in self.lamps], np.float32).reshape(-1, 3) / 255.0
        self.renderer.switch_lamps(np.array(shares, np.float32), colours)
        self.lamps_changed = True

    def enter(self, actor: Actor) -> None:
        """Adds an actor, whose id is `next_id`. A vehicle whose attributes ask for it is driven from now on."""
        self.actors[actor.id] = actor
        self.next_id = actor.id + 1
        if isinstance(actor, Vehicle):
            self.traffic.join(actor, self.bodies)

    def _light(self, place: Transform) -> TrafficLight:
        light = TrafficLight(self.next_id, ActorDescription(0, "traffic.traffic_light"), {}, place)
        self.enter(light)
        return light

    def actor(self, actor_id: int) -> Actor:
        """The actor of that id. Raises CallError."""
        try:
            return self.actors[actor_id]
        except KeyError:
            raise CallError(f"actor {actor_id} not found: it was destroyed or never spawned") from None

    def of_kind(self, kind: type[Kind]) -> Iterator[Kind]:
        """The actors of a class, in the order of their ids."""
        return (actor for actor in self.actors.values() if isinstance(actor, kind))

    def destroy(self, actor_id: int) -> None:
        """Removes an actor; what is attached to it stays where it is. Raises CallError."""
        actor = self.actor(actor_id)
        if actor is self.spectator or isinstance(actor, TrafficLight):
            raise CallError(f"actor {actor_id} ({actor.type_id}) belongs to the map and cannot be destroyed")
        for child in self.actors.values():
            if child.parent is actor:
                child.place, child.parent = child.transform(self.bodies), None
        del self.actors[actor_id]
        if isinstance(actor, Vehicle):
            self.traffic.leave(actor)
        if actor.row >= 0:
            self.bodies.remove(actor.row)
            for other in self.actors.values():
                other.row -= other.row > actor.row

    def moved(self, actor: Actor) -> None:
        """Tells the traffic that an actor's body was put somewhere else."""
        if isinstance(actor, Vehicle) and self.traffic.drives(actor):
            self.traffic.leave(actor)
            self.traffic.join(actor, self.bodies)

    def control(self, vehicle: Vehicle, control: VehicleControl) -> None:
        """Sets the pedals and the wheel of a vehicle until the next call."""
        b = self.bodies.rows[vehicle.row]
        gear = min(max(control.gear, -1), MAX_GEAR)
        vehicle.control, vehicle.controlled = control._replace(gear=gear), True
        b["throttle"], b["brake"] = min(max(control.throttle, 0.0), 1.0), min(max(control.brake, 0.0), 1.0)
        b["steer"] = min(max(control.steer, -1.0), 1.0)
        b["hand_brake"], b["reverse"] = control.hand_brake, control.reverse
        b["manual"], b["wanted_gear"] = control.manual_gear_shift, gear

    def advance(self, delta: float) -> None:
        """Ticks once, by `delta` seconds."""
        self.frame += 1
        self._ticks += 1
        self.delta = delta
        self.time += delta
        self.signals.advance(delta)
        self.traffic.drive(self.bodies, delta)
        self._let_go()
        self._hold_speeds(delta)
        self._stop_left_walkers()
        self._survey()
        rows = self.bodies.rows
        count = dynamics.step(rows, self.obstacles, self._near, self._contacts, delta) if len(rows) else 0
        self._report(count)

    def _let_go(self) -> None:
        """Takes the foot off the pedals of vehicles whose control does not stick and was not sent for this tick."""
        for vehicle in self.of_kind(Vehicle):
            if not (vehicle.sticky or vehicle.controlled or self.traffic.drives(vehicle)):
                self.control(vehicle, VehicleControl())
            vehicle.controlled = False

    def _hold_speeds(self, delta: float) -> None:
        """Works the pedals and the wheel of vehicles under Ackermann control."""
        for vehicle in self.of_kind(Vehicle):
            if vehicle.ackermann:
                pilot.hold(self.bodies.rows, vehicle.row, *vehicle.ackermann, delta)
                vehicle.control = driven_control(self.bodies.rows[vehicle.row])

    def _stop_left_walkers(self) -> None:
        """Stops walkers whose controller has gone."""
        for walker in self.of_kind(Walker):
            if walker.led_until < self.time:
                walker.led_until, walker.control = math.inf, WalkerControl()
                self.bodies.rows["walk_speed"][walker.row] = 0.0

    def _survey(self) -> None:
        """Looks up the ground below each body, and the speed limit and traffic light of vehicles."""
        rows = self.bodies.rows
        for actor in self.actors.values():
            if actor.row < 0:
                continue
            b = rows[actor.row]
            self.ground_below(b)
            if isinstance(actor, Vehicle) and (self._ticks + actor.row) % LIMIT_EVERY == 0:
                lane, s, _ = self.map.nearest_lane(b["x"], b["y"], b["yaw"])
                if lane >= 0:
                    actor.speed_limit = self.map.lanes[lane].limit_at(s) * 3.6
                    actor.light = self.signals.ahead(lane, s)

    def ground_below(self, b: Any) -> None:
        """Notes what a body falls to: the ground, unless all of it is below the ground, as CARLA's is thin."""
        height = float(self.map.height(b["x"], b["y"]))
        above = b["z"] + b["box_z"] + b["half_z"] > height
        b["ground"] = height if above else BOTTOMLESS
        if self.map.ground.hilly:
            b["slope_x"], b["slope_y"] = self.map.slope(b["x"], b["y"]) if above else (0.0, 0.0)

    def _report(self, count: int) -> None:
        by_row = self.bodied() if count else []
        self.collisions = []
        for a, b, x, y, z in self._contacts[:count].tolist():
            other = by_row[b] if b >= 0 else None
            self.collisions.append(Collision(by_row[a], other, Vector(x, y, z)))
            if other:
                self.collisions.append(Collision(other, by_row[a], Vector(-x, -y, -z)))

    def bodied(self) -> list[Actor]:
        """The actors with a body, in the order of their rows."""
        return sorted((actor for actor in self.actors.values() if actor.row >= 0), key=lambda actor: actor.row)

    def cast(self, origin: Floats, ray: Floats, reach: float, skip: int) -> Hit | None:
        """What a unit ray meets first within `reach` metres; the body in row `skip` is unseen."""
        found = self.cast_all(origin, ray[None], reach, skip)[0]
        code = int(found[1])
        if code == rays.NOTHING:
            return None
        return Hit(float(found[0]), self.bodied()[code] if code >= 0 else None, code)

    def cast_all(self, origin: Floats, directions: Floats, reach: float, skip: int) -> Floats:
        """(N, 4): distance, code, cosine of incidence and kind of ground, for (N, 3) unit rays."""
        hits = rays.empty_hits(len(directions))
        directions = np.ascontiguousarray(directions)
        rows = self.bodies.rows
        rays.cast_all(origin, directions, reach, rows, self.obstacles, self._near, skip, self.map.ground, hits)
        return hits

    def as_sent(self, actor: Actor | None) -> list[Any]:
        """An actor as CARLA sends it; None stands for a part of the map."""
        if actor is None:
            return [0, 0, [0, "static.unknown", []], self.box_as_sent(BoundingBox()), b"", b""]
        base = self.version.attribute_base
        attributes = [[name, kind + base, value] for name, kind, value in actor.description.attributes]
        parent = actor.parent.id if actor.parent else 0
        token = b"" if actor.stream is None else self.token(actor.stream)
        description = [actor.description.uid, actor.type_id, attributes]
        return [actor.id, parent, description, self.box_as_sent(actor.box), actor.tags, token]

    def box_as_sent(self, box: BoundingBox) -> list[Any]:
        """A box as CARLA sends it, in the layout of the client's release."""
        return list(box) if self.version.box_has_actor else list(box[:3])

    def snapshot(self) -> bytes:
        """The payload of the world's stream."""
        changes = snapshot.MAP_CHANGED * self.map_changed | snapshot.LAMPS_CHANGED * self.lamps_changed
        head = snapshot.episode_header(self.episode, time.time(), self.delta, changes)
        return head + snapshot.actor_records(list(self.actors.values()), self.bodies)
