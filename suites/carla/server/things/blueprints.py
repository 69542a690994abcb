"""The blueprint library: what can be spawned, with which attributes."""

from __future__ import annotations

from typing import Any, NamedTuple

from suites.carla.server.protocol.versions import Version
from suites.carla.server.protocol.wire import ActorDescription
from suites.carla.server.things.catalogue import MODELS, PEOPLE, PROPS
from suites.carla.server.things.sensor_blueprints import SENSORS

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


def _fixed(name: str, kind: str, value: object) -> Attribute:
    return Attribute(name, kind, str(value), modifiable=False)


def _role(*recommended: str) -> Attribute:
    return Attribute("role_name", "str", recommended[0], recommended)


def _library() -> list[tuple[str, str, tuple[Attribute, ...]]]:
    entries: list[tuple[str, str, tuple[Attribute, ...]]] = []
    for model in MODELS:
        lights = model.wheels == 4
        entries.append((
            model.id, ",".join(model.id.split(".")), (
                Attribute("color", "colour", model.colours[0], model.colours),
                _role("autopilot", "scenario", "ego_vehicle"),
                Attribute("sticky_control", "bool", "true"),
                _fixed("number_of_wheels", "int", model.wheels),
                _fixed("object_type", "str", ""), _fixed("base_type", "str", model.base_type),
                _fixed("special_type", "str", model.special_type), _fixed("generation", "int", model.generation),
                _fixed("has_lights", "bool", str(lights).lower()), _fixed("has_dynamic_doors", "bool", "false"),
                *DRIVER,
            ),
        ))  # fmt: skip
    for person in PEOPLE:
        name = f"walker.pedestrian.{person.number:04d}"
        speeds = ("0.0", "0.9", "1.8") if person.age == "child" else ("0.0", "1.4", "3.0")
        entries.append((
            name, ",".join(name.split(".")), (
                Attribute("is_invincible", "bool", "false"), _role("pedestrian"),
                Attribute("speed", "float", speeds[1], speeds),
                _fixed("age", "str", person.age), _fixed("gender", "str", person.gender),
                _fixed("generation", "int", 1), _fixed("can_use_wheelchair", "bool", "false"),
                Attribute("use_wheelchair", "bool", "false"),
            ),
        ))  # fmt: skip
    for prop in PROPS:
        entries.append((prop.id, ",".join(prop.id.split(".")), (_role("prop"), _fixed("size", "str", "small"))))
    entries.append(("controller.ai.walker", "controller,ai,walker", (_role("default"),)))
    for sensor, attributes in SENSORS.items():
        typed = tuple(Attribute(name, kind, value) for name, kind, value in attributes)
        entries.append((sensor, ",".join(sensor.split(".")), (_role("front", "back", "left", "right"), *typed)))
    return entries


BLUEPRINTS = {
    name: Blueprint(uid, name, tags, attributes) for uid, (name, tags, attributes) in enumerate(_library(), 1)
}
