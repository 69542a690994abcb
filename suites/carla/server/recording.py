"""Recordings of a world: written tick by tick, read again, and reported on as CARLA's recorder does.

A recording is a gzip file of JSON lines: a head, then a line for each tick. Names without a folder lie in the folder in
which the server runs.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.things.actors import Actor, TrafficLight, Vehicle
from suites.carla.server.world import World

FORMAT = "covr-bench recording 1"
KINDS = {"vehicle": "v", "walker": "w", "traffic": "t"}  # CARLA's letters; others are "o", and "h" is the hero


class Head(NamedTuple):
    """What a recording begins with. date: as text."""

    map: str
    date: str


class Frame(NamedTuple):
    """One tick.

    new: actors that entered, (id, type, parent, attributes, place); gone: ids; places: (id, x, y, z, pitch, yaw, roll)
    of all with a body, and of the spectator; controls: (id, throttle, steer, brake, reverse, lights) of vehicles;
    signals: (id, state) of traffic lights; hits: pairs of ids, 0 for the map. A place lists numbers as above.
    """

    number: int
    time: float
    new: list[Any]
    gone: list[int]
    places: list[list[float]]
    controls: list[list[float]]
    signals: list[list[int]]
    hits: list[list[int]]


class Recorder:
    """Writes a recording until it is closed. Raises CallError where the file cannot be written."""

    def __init__(self, name: str, world: World) -> None:
        path = Path(name)
        if path.exists() and not _is_recording(path):
            raise CallError(f"{name[:200]!r} exists and is no recording; name another file")
        try:
            self._file: IO[str] = gzip.open(path, "wt", compresslevel=1, encoding="utf-8")  # noqa: SIM115 (`close`)
        except OSError as error:
            raise CallError(f"cannot record to {name[:200]!r}: {error.strerror or error}") from error
        self._known: set[int] = set()
        self._begun = world.time
        head = [FORMAT, world.map_name, time.strftime("%m/%d/%y %H:%M:%S")]
        self._file.write(json.dumps(head) + "\n")
        self.add(world)

    def add(self, world: World) -> None:
        """Writes the present tick."""
        present = {actor.id for actor in world.actors.values()}
        new = [_entry(actor, world) for actor in world.actors.values() if actor.id not in self._known]
        gone = sorted(self._known - present)
        self._known = present
        placed = [world.spectator, *world.bodied()]
        vehicles = list(world.of_kind(Vehicle))
        frame = Frame(
            number=world.frame,
            time=round(world.time - self._begun, 6),
            new=new,
            gone=gone,
            places=[_place(actor, world) for actor in placed],
            controls=[_control(vehicle) for vehicle in vehicles],
            signals=[[light.id, light.state_now] for light in world.of_kind(TrafficLight)],
            hits=[[hit.actor.id, hit.other.id if hit.other else 0] for hit in world.collisions],
        )
        self._file.write(json.dumps(frame) + "\n")

    def close(self) -> None:
        """Ends the recording."""
        self._file.close()


def _entry(actor: Actor, world: World) -> list[Any]:
    values = [[a.id, a.value] for a in actor.description.attributes]
    return [actor.id, actor.type_id, actor.parent.id if actor.parent else 0, values, _place(actor, world)[1:]]


def _place(actor: Actor, world: World) -> list[float]:
    location, rotation = actor.transform(world.bodies)
    return [actor.id, *(round(float(part), 4) for part in (*location, *rotation))]


def _control(vehicle: Vehicle) -> list[float]:
    control = vehicle.control
    pedals = (control.throttle, control.steer, control.brake)
    return [vehicle.id, *(round(float(part), 4) for part in pedals), int(control.reverse), vehicle.lights]


def _is_recording(path: Path) -> bool:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return bool(json.loads(file.readline())[0] == FORMAT)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read(name: str) -> tuple[Head, list[Frame]]:
    """A recording; one that was cut off is read as far as it goes. Raises CallError for a file that is none."""
    path = Path(name)
    if not path.is_file() or not _is_recording(path):
        raise CallError(f"{name[:200]!r} is not a recording of this server")
    frames = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        _, map_name, date = json.loads(file.readline())
        for line in _whole_lines(file):
            frames.append(Frame(*json.loads(line)))
    return Head(map_name, date), frames


def _whole_lines(file: IO[str]) -> Iterator[str]:
    try:
        yield from (line for line in file if line.endswith("\n"))
    except (EOFError, OSError):
        return


def info(name: str, everything: bool) -> str:
    """What is in a recording. everything: also where the actors are in each tick."""
    head, frames = read(name)
    lines = _heading(head)
    for frame in frames:
        events = [f" Create {e[0]}: {e[1]} ({KINDS.get(e[1].split('.')[0], 'o')}) at {_at(e[4])}" for e in frame.new]
        events += [f" Destroy {actor}" for actor in frame.gone]
        events += [f" Collision between {a} and {b}" for a, b in frame.hits]
        if everything:
            events += [f" Id: {int(place[0])} Location: {_at(place[1:])}" for place in frame.places]
        if events:
            lines += [f"Frame {frame.number} at {frame.time:g} seconds", *events]
    return "\n".join([*lines, *_ending(frames)])


def collisions(name: str, first: str, second: str) -> str:
    """The collisions between two kinds of actors: `v`, `w`, `t`, `o`, `h` for the hero, `a` for any."""
    head, frames = read(name)
    lines = [*_heading(head), f"{'Time':>8}  {'Types':<5} {'Id':>6} {'Actor 1':<35} {'Id':>6} {'Actor 2'}"]
    types, letters = _types(frames)
    last: set[tuple[int, int]] = set()
    for frame in frames:
        pairs = {(a, b) for a, b in frame.hits}
        for a, b in sorted(pairs - last):
            if first in ("a", letters.get(a, "o")) and second in ("a", letters.get(b, "o")):
                kinds = f"{letters.get(a, 'o')} {letters.get(b, 'o')}"
                lines.append(f"{frame.time:8.1f}  {kinds:<5} {a:>6} {types.get(a, ''):<35} {b:>6} {types.get(b, '')}")
        last = pairs
    return "\n".join([*lines, *_ending(frames)])


def blocked(name: str, least: float, distance: float) -> str:
    """The actors that moved less than `distance` metres during at least `least` seconds, longest first."""
    head, frames = read(name)
    types, _ = _types(frames)
    since: dict[int, tuple[float, list[float]]] = {}
    found: list[tuple[float, float, int]] = []  # duration, begin, actor
    for frame in frames:
        for place in frame.places:
            actor, at = int(place[0]), place[1:4]
            begun, anchor = since.setdefault(actor, (frame.time, at))
            if sum((p - q) ** 2 for p, q in zip(at, anchor, strict=True)) > distance**2:
                found.append((frame.time - begun, begun, actor))
                since[actor] = (frame.time, at)
    end = frames[-1].time if frames else 0.0
    found += [(end - begun, begun, actor) for actor, (begun, _) in since.items()]
    kept = [entry for entry in found if entry[0] >= least and types.get(entry[2], "").startswith(("vehicle", "walker"))]
    lines = [*_heading(head), f"{'Time':>8} {'Id':>6} {'Actor':<35} {'Duration':>10}"]
    lines += [f"{begun:8.0f} {actor:>6} {types[actor]:<35} {d:10.0f}" for d, begun, actor in sorted(kept, reverse=True)]
    return "\n".join([*lines, *_ending(frames)])


def _types(frames: list[Frame]) -> tuple[dict[int, str], dict[int, str]]:
    """The type and CARLA's letter of each actor."""
    entries = [entry for frame in frames for entry in frame.new]
    heroes = {entry[0] for entry in entries if ["role_name", "hero"] in entry[3]}
    types = {entry[0]: entry[1] for entry in entries}
    return types, {i: "h" if i in heroes else KINDS.get(t.split(".")[0], "o") for i, t in types.items()}


def _heading(head: Head) -> list[str]:
    return ["Version: 1", f"Map: {head.map}", f"Date: {head.date}", ""]


def _ending(frames: list[Frame]) -> list[str]:
    return ["", f"Frames: {len(frames)}", f"Duration: {frames[-1].time if frames else 0.0:g} seconds"]


def _at(place: list[float]) -> str:
    return f"({', '.join(f'{part:g}' for part in place[:3])})"
