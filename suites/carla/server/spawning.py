"""From a blueprint to an actor with a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from suites.carla.render.scene import Look
from suites.carla.server.motion import physics
from suites.carla.server.motion.contacts import touches
from suites.carla.server.protocol.refusal import CallError
from suites.carla.server.protocol.wire import ActorDescription, AttributeValue, BoundingBox, Transform, Vector
from suites.carla.server.sensors import SENSOR_CLASSES
from suites.carla.server.things.actors import Actor, Prop, Vehicle, Walker
from suites.carla.server.things.blueprints import BLUEPRINTS, TYPES, Blueprint
from suites.carla.server.things.bodies import PROP, VEHICLE, WALKER
from suites.carla.server.things.catalogue import MODELS
from suites.carla.server.things.props import MESH, PROPS
from suites.carla.server.things.walkers import PEOPLE
from suites.carla.server.world import World

Extent = tuple[float, float, float]  # half sizes in metres
MAX_DISTANCE = 1e6  # metres from the origin
WALKER_MASS = 75.0  # kg
COLLIDES = "Spawn failed because of collision at spawn position"
INVALID = "Spawn failed because of invalid actor description"

_MODELS = {model.id: model for model in MODELS}
_PEOPLE = {person.id: person for person in PEOPLE}
_PROPS = {prop.id: prop for prop in (*PROPS, MESH)}
# CARLA's CityObjectLabel.
_TAGS = {"car": 14, "van": 14, "truck": 15, "bus": 16, "motorcycle": 18, "bicycle": 19}
_PEDESTRIAN, _DYNAMIC = 12, 21


def spawn(
    world: World, sent: ActorDescription, place: Transform, parent: Actor | None, new_stream: Callable[[], int]
) -> Actor:
    """Adds the actor that a description asks for; `place` is in the frame of `parent` where there is one.

    new_stream: an unused stream id, for a sensor. Raises CallError for a wrong description or an occupied place.
    """
    if sent.id in world.version.lacks:
        raise CallError(f"{INVALID}: CARLA {world.version.name} has no {sent.id!r}")
    actor = _build(world.next_id, sent, place, parent, new_stream)
    _embody(world, actor)
    world.enter(actor)
    return actor


def _build(
    actor_id: int, sent: ActorDescription, place: Transform, parent: Actor | None, new_stream: Callable[[], int]
) -> Actor:
    """The actor that a description asks for, without a body. Raises CallError."""
    blueprint = BLUEPRINTS.get(sent.id)
    if blueprint is None:
        raise CallError(f"{INVALID}: {sent.id[:60]!r} is not in the blueprint library")
    if max(map(abs, place.location)) > MAX_DISTANCE:
        raise CallError(f"Spawn failed: {tuple(place.location)} lies more than {MAX_DISTANCE:.0f} m from the origin")
    values = blueprint.values(sent)
    _check_values(blueprint, values)
    kept = tuple(AttributeValue(a.id, TYPES.index(a.type), values[a.id]) for a in blueprint.attributes)
    description = ActorDescription(blueprint.uid, blueprint.id, kept)
    whole = {a.id: str(int(float(values[a.id]))) for a in blueprint.attributes if a.type == "int"}
    try:
        actor = _class(blueprint.id)(actor_id, description, values | whole, place)
    except ValueError as error:
        raise CallError(f"{INVALID}: {error}") from error
    if parent:
        actor.parent, actor.offset = parent, place
    if blueprint.id in SENSOR_CLASSES:
        actor.stream = None if blueprint.id == "sensor.other.lane_invasion" else new_stream()
    return actor


def _class(name: str) -> type[Actor]:
    if name in SENSOR_CLASSES:
        return SENSOR_CLASSES[name]
    return {"vehicle": Vehicle, "walker": Walker, "static": Prop}.get(name.split(".")[0], Actor)


_CHECKS = {
    "bool": lambda value: value.lower() in ("true", "false", "1", "0"),
    "int": lambda value: abs(float(value)) < 2**31,  # scripts send "64.0", which CARLA cuts to 64
    "float": lambda value: abs(float(value)) < 1e9,
    "colour": lambda value: len([part for part in value.split(",") if 0 <= int(part) <= 255]) == 3,
    "str": lambda value: len(value) < 256,
}


def _check_values(blueprint: Blueprint, values: dict[str, str]) -> None:
    for attribute in blueprint.attributes:
        value = values[attribute.id]
        try:
            fine = _CHECKS[attribute.type](value)
        except ValueError:
            fine = False
        if attribute.restricted and value not in attribute.recommended:
            raise CallError(f"{INVALID}: {attribute.id}={value!r}; valid: {', '.join(attribute.recommended)}")
        if not fine:
            raise CallError(f"{INVALID}: {attribute.id}={value[:40]!r} is no {attribute.type}")


def _embody(world: World, actor: Actor) -> None:
    """Puts the actor's body into the world. Raises CallError where something stands already."""
    if not isinstance(actor, (Vehicle, Walker, Prop)):
        return
    place = actor.transform(world.bodies)
    actor.row = world.bodies.add()
    b = world.bodies.rows[actor.row]
    if isinstance(actor, Vehicle):
        _vehicle(actor, b)
    elif isinstance(actor, Walker):
        _walker(actor, b)
    else:
        _prop(actor, b)
    actor.parent = None  # a body moves by itself
    (b["x"], b["y"], b["z"]), (b["pitch"], b["yaw"], b["roll"]) = place
    world.ground_below(b)
    b["z"] = max(b["z"], b["ground"] + b["stand"])
    b["collides"] = b["gravity"] = True
    if touches(world.bodies.rows, world.obstacles, actor.row):
        world.bodies.remove(actor.row)
        raise CallError(COLLIDES)


def _shape(actor: Actor, b: Any, extent: Extent, stand: float, hull: Extent | None = None) -> None:
    """stand: height of the actor's origin above the ground; the box reaches from the ground upwards.

    extent: of the box that clients are told of; hull: of what collides, where that is another.
    """
    b["half_x"], b["half_y"], b["half_z"] = hull or extent
    b["stand"], b["box_z"] = stand, b["half_z"] - stand
    actor.box = BoundingBox(Vector(0.0, 0.0, extent[2] - stand), Vector(*extent), actor_id=actor.id)


def _vehicle(actor: Vehicle, b: Any) -> None:
    model = _MODELS[actor.type_id]
    _shape(actor, b, model.extent, 0.0, model.hull)
    actor.physics = physics.factory_physics(model)
    actor.tags = bytes([_TAGS[model.base_type]])
    actor.look = int(Look[model.look])
    red, green, blue = (int(part) for part in actor.attributes["color"].split(","))
    actor.colour = (red, green, blue)
    b["kind"], b["simulated"] = VEHICLE, True
    physics.install(b, actor.physics)


def _walker(actor: Walker, b: Any) -> None:
    person = _PEOPLE[actor.type_id]
    _shape(actor, b, person.extent, stand=person.extent[2])
    actor.tags = bytes([_PEDESTRIAN])
    actor.look = int(Look.CHILD if person.age == "child" else Look.ADULT)
    actor.colour = person.colour
    b["kind"], b["simulated"], b["mass"], b["inertia"] = WALKER, True, WALKER_MASS, 5.0


def _prop(actor: Prop, b: Any) -> None:
    prop = _PROPS[actor.type_id]
    _shape(actor, b, prop.extent, stand=0.0)
    actor.tags = bytes([_DYNAMIC])
    actor.look, actor.colour = int(Look[prop.look]), prop.colour
    b["kind"], b["mass"] = PROP, prop.mass
    b["inertia"] = prop.mass * (prop.extent[0] ** 2 + prop.extent[1] ** 2) / 3.0
