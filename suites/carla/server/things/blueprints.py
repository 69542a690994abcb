"""The blueprint library: what can be spawned, with which attributes."""

from __future__ import annotations

from typing import Any, NamedTuple

from suites.carla.server.protocol.versions import Version
from suites.carla.server.protocol.wire import ActorDescription
from suites.carla.server.things.catalogue import MODELS, Model, has_doors, has_lights
from suites.carla.server.things.props import MESH, PROPS
from suites.carla.server.things.sensor_blueprints import SENSORS, sensor_choices
from suites.carla.server.things.walkers import PEOPLE, SPEEDS, Person

TYPES = ("bool", "int", "float", "str", "colour")


class Attribute(NamedTuple):
    """One attribute of a blueprint. type: one of `TYPES`; recommended: values that a script may choose from."""

    id: str
    type: str
    value: str
    recommended: tuple[str, ...] = ()
    modifiable: bool = True
    restricted: bool = False  # to the recommended values


class Blueprint(NamedTuple):
    """One blueprint. uid: its number on the wire."""

    uid: int
    id: str
    tags: str
    attributes: tuple[Attribute, ...]

    def as_sent(self, version: Version) -> list[Any]:
        """The blueprint as CARLA sends it, an ActorDefinition."""
        attributes = [
            [
                a.id,
                TYPES.index(a.type) + version.attribute_base,
                a.value,
                list(a.recommended),
                a.modifiable,
                a.restricted,
            ]
            for a in self.attributes
        ]
        return [self.uid, self.id, self.tags, attributes]

    def values(self, description: ActorDescription) -> dict[str, str]:
        """Every attribute's value: the client's where it sent one that may be modified, else the default."""
        values = {attribute.id: attribute.value for attribute in self.attributes}
        modifiable = {attribute.id for attribute in self.attributes if attribute.modifiable}
        return values | {a.id: a.value for a in description.attributes if a.id in modifiable}


# Attributes of ours, which a real server lacks (`blueprint.has_attribute("driver")` tells): the server drives.
DRIVER = (
    Attribute("driver", "str", "client", ("client", "server"), restricted=True),
    Attribute("driver_speed", "float", "0.0"),  # km/h; 0 keeps the speed limit
    Attribute("driver_gap", "float", "1.5"),  # seconds behind the vehicle ahead
    Attribute("driver_lane_changes", "float", "0.0"),  # a minute, on average, beside those needed to overtake
    Attribute("driver_seed", "int", "0"),
)


PLACES = ("front", "back", "left", "right", "front_left", "front_right", "back_left", "back_right")  # of sensors
ROS_NAME = Attribute("ros_name", "str", "")  # every blueprint's; there is no ROS to take notice of it


def _fixed(name: str, kind: str, value: object) -> Attribute:
    return Attribute(name, kind, str(value), modifiable=False)


def _role(*recommended: str) -> Attribute:
    return Attribute("role_name", "str", recommended[0], recommended)


# Without effect: a mesh is a box of a metre, and a trigger changes no friction.
_MESH = (Attribute("mesh_path", "str", ""), Attribute("mass", "float", "0.0"), Attribute("scale", "float", "1.0"))
_FRICTION = (
    Attribute("friction", "float", "3.5", ("3.5",)),
    *(Attribute(f"extent_{axis}", "float", "1.0", ("1.0",)) for axis in "xyz"),
)


def _vehicle(model: Model) -> tuple[Attribute, ...]:
    riders = () if model.wheels == 4 else (Attribute("driver_id", "int", "0", ("0", "1", "2"), restricted=True),)
    return (
        Attribute("color", "colour", model.colours[0], model.colours),
        *riders,
        _role("autopilot", "scenario", "ego_vehicle"),
        Attribute("sticky_control", "bool", "true", ("true",)),
        Attribute("terramechanics", "bool", "false", ("false",)),
        _fixed("number_of_wheels", "int", model.wheels),
        _fixed("object_type", "str", ""),
        _fixed("base_type", "str", model.base_type),
        _fixed("special_type", "str", model.special_type),
        _fixed("generation", "int", model.generation),
        _fixed("has_lights", "bool", str(has_lights(model)).lower()),
        _fixed("has_dynamic_doors", "bool", str(has_doors(model)).lower()),
        *DRIVER,
    )


def _walker(person: Person) -> tuple[Attribute, ...]:
    speeds = SPEEDS[person.age]
    return (
        Attribute("is_invincible", "bool", "true", ("true",)),
        _role("pedestrian"),
        Attribute("speed", "float", speeds[0], speeds),
        _fixed("age", "str", person.age),
        _fixed("gender", "str", person.gender),
        _fixed("generation", "int", person.generation),
        _fixed("can_use_wheelchair", "bool", "false"),
        Attribute("use_wheelchair", "bool", "false", ("false",)),
    )


def _sensor(entries: tuple[tuple[str, str, str], ...]) -> tuple[Attribute, ...]:
    typed = (Attribute(name, kind, value, *sensor_choices(name, value)) for name, kind, value in entries)
    return (_role(*PLACES), *typed)


def _library() -> list[tuple[str, tuple[Attribute, ...]]]:
    """Ids and attributes."""
    return [
        *((model.id, _vehicle(model)) for model in MODELS),
        *((person.id, _walker(person)) for person in PEOPLE),
        *((prop.id, (_role("prop"), _fixed("size", "str", prop.size))) for prop in PROPS),
        (MESH.id, (_role("prop"), *_MESH)),
        ("static.trigger.friction", (_role("default"), *_FRICTION)),
        ("controller.ai.walker", (_role("default"),)),
        ("util.actor.empty", (_role("default"),)),
        *((sensor, _sensor(entries)) for sensor, entries in SENSORS.items()),
    ]


BLUEPRINTS = {
    name: Blueprint(uid, name, ",".join(name.split(".")), (*attributes, ROS_NAME))
    for uid, (name, attributes) in enumerate(_library(), 1)
}
