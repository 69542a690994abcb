"""Plays a recording: its actors enter the world, and are put where they were at each moment."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Any, NamedTuple

from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.wire import ActorDescription, AttributeValue, Rotation, Transform, Vector
from suites.carla.server.recording import Frame, read
from suites.carla.server.spawning import spawn
from suites.carla.server.things.actors import Actor, TrafficLight, Vehicle
from suites.carla.server.things.geometry import compose
from suites.carla.server.world import World

MOVING = ("vehicle", "walker", "static")  # first parts of the types that have a body
BEHIND = Transform(Vector(-8.0, 0.0, 4.0), Rotation(-15.0, 0.0, 0.0))  # where the spectator follows from


class Settings(NamedTuple):
    """time_factor: recorded seconds in a simulated one. The hero and the spectator may be left where they are."""

    time_factor: float = 1.0
    ignore_hero: bool = False
    ignore_spectator: bool = True


class Replayer:
    """A recording that is being played.

    begin: seconds of the recording to start at, from its end if negative; duration: seconds, 0 for all; follow: the
    recorded id of the actor that the spectator follows, 0 for none; settings: may change while it plays. Raises
    CallError for a file that is no recording.
    """

    def __init__(self, name: str, world: World, begin: float, duration: float, follow: int, settings: Settings) -> None:
        self.head, self.frames = read(name)
        if not self.frames:
            raise CallError(f"{name[:200]!r} holds no tick")
        if world.map_name != self.head.map:
            world.load(self.head.map, reset_settings=False)
        end = self.frames[-1].time
        self.time = max(0.0, end + begin) if begin < 0.0 else min(begin, end)
        self.end = min(end, self.time + duration) if duration > 0.0 else end
        self._times = [frame.time for frame in self.frames]
        self.settings, self._follow = settings, follow
        self._actors: dict[int, Actor] = {}  # by recorded id
        self._entered = 0  # frames whose arrivals and departures have happened

    @property
    def over(self) -> bool:
        """Whether the last moment has been played."""
        return self.time >= self.end

    def advance(self, world: World, delta: float, new_stream: Callable[[], int]) -> None:
        """Puts everything where it was `delta` simulated seconds later; after the world's own tick, which moves it."""
        self.time = min(self.end, self.time + delta * self.settings.time_factor)
        now = max(0, bisect.bisect_right(self._times, self.time + 1e-6) - 1)
        for frame in self.frames[self._entered : now + 1]:
            self._change_cast(world, frame, new_stream)
        self._entered = max(self._entered, now + 1)
        self._place(world, now)

    def _change_cast(self, world: World, frame: Frame, new_stream: Callable[[], int]) -> None:
        for recorded, type_id, _, values, place in frame.new:
            if type_id.split(".")[0] in MOVING and not self._left_alone(values):
                actor = self._found(world, type_id, place) or self._entry(world, type_id, values, place, new_stream)
                if actor:
                    self._actors[recorded] = actor
                    world.bodies.rows[actor.row]["simulated"] = False
        for recorded in frame.gone:
            gone = self._actors.pop(recorded, None)
            if gone and gone.id in world.actors:
                world.destroy(gone.id)

    def _left_alone(self, values: list[Any]) -> bool:
        return self.settings.ignore_hero and ["role_name", "hero"] in values

    def _found(self, world: World, type_id: str, place: list[float]) -> Actor | None:
        """An actor of that type that stands there already."""
        taken = {actor.id for actor in self._actors.values()}
        for actor in world.bodied():
            at = actor.transform(world.bodies).location
            if actor.type_id == type_id and actor.id not in taken and max(map(abs, _less(at, place))) < 1.0:
                return actor
        return None

    def _entry(
        self, world: World, type_id: str, values: list[Any], place: list[float], new_stream: Callable[[], int]
    ) -> Actor | None:
        kept = tuple(AttributeValue(name, 0, value) for name, value in values if not name.startswith("driver"))
        try:
            return spawn(world, ActorDescription(0, type_id, kept), _transform(place), None, new_stream)
        except CallError:  # its place is taken: it is left out, as CARLA does
            return None

    def _place(self, world: World, now: int) -> None:
        frame, later = self.frames[now], self.frames[min(now + 1, len(self.frames) - 1)]
        gap = later.time - frame.time
        share = (self.time - frame.time) / gap if gap > 0.0 else 0.0
        rate = self.settings.time_factor / gap if gap > 0.0 else 0.0
        after = {int(place[0]): place[1:] for place in later.places}
        for recorded, *place in frame.places:
            actor = self._actors.get(int(recorded))
            if actor and actor.id in world.actors and actor.row >= 0:
                _put(world.bodies.rows[actor.row], place, after.get(int(recorded), place), share, rate)
        self._show(world, frame)

    def _show(self, world: World, frame: Frame) -> None:
        """Pedals, lamps, traffic lights and the spectator."""
        for recorded, throttle, steer, brake, reverse, lights in frame.controls:
            actor = self._actors.get(int(recorded))
            if isinstance(actor, Vehicle):
                pedals = actor.control._replace(throttle=throttle, steer=steer, brake=brake, reverse=bool(reverse))
                actor.control, actor.controlled, actor.lights = pedals, True, int(lights)
        lamps = list(world.of_kind(TrafficLight))
        for (_, state), light in zip(frame.signals, lamps, strict=False):
            light.state_now, light.frozen = state, True
        followed = self._actors.get(self._follow)
        if followed:
            world.spectator.place = compose(followed.transform(world.bodies), BEHIND)
        elif not self.settings.ignore_spectator:
            world.spectator.place = _transform(frame.places[0][1:])

    def stop(self, world: World, keep_actors: bool) -> None:
        """Gives the actors back to physics, or removes them; traffic lights go on."""
        for light in world.of_kind(TrafficLight):
            light.frozen = False
        for actor in self._actors.values():
            if actor.id not in world.actors:
                continue
            if keep_actors:
                world.bodies.rows[actor.row]["simulated"] = True
            else:
                world.destroy(actor.id)


def _transform(place: list[float]) -> Transform:
    return Transform(Vector(*place[:3]), Rotation(*place[3:]))


def _less(at: Vector, place: list[float]) -> list[float]:
    return [a - b for a, b in zip(at, place[:3], strict=True)]


def _put(body: Any, place: list[float], after: list[float], share: float, rate: float) -> None:
    """Puts a body between two places, with the speed that leads from one to the other `rate` times a second."""
    for name, a, b in zip(("x", "y", "z"), place, after, strict=False):
        body[name] = a + share * (b - a)
        body[f"v{name}"] = (b - a) * rate
    for name, a, b in zip(("pitch", "yaw", "roll"), place[3:], after[3:], strict=True):
        body[name] = a + share * ((b - a + 180.0) % 360.0 - 180.0)
