"""What the cameras of one tick see: the scene from the world's bodies, and the pictures from the renderer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.render.scene import Look, Scene, Weather
from suites.carla.server.sensors import Camera
from suites.carla.server.things.actors import Prop, TrafficLight, Vehicle, Walker
from suites.carla.server.things.geometry import into_frame
from suites.carla.server.things.signals import POST
from suites.carla.server.world import World

BRAKE_LIGHT, REVERSE_LIGHT = 8, 64
LAMP_COLOUR = (40, 40, 40)


def take(world: World, cameras: list[Camera]) -> list[NDArray[np.uint8]]:
    """A picture (height, width, 4) BGRA for each camera. A camera inside its carrier's box does not see it."""
    scene = picture_of(world)
    groups: dict[int, list[int]] = {}
    for index, camera in enumerate(cameras):
        groups.setdefault(_hidden_row(world, camera), []).append(index)
    pictures: dict[int, NDArray[np.uint8]] = {}
    for row, members in groups.items():
        seen = scene if row < 0 else without(scene, row)
        views = [(cameras[i].picture, cameras[i].view(world.bodies)) for i in members]
        pictures.update(zip(members, world.renderer.render(seen, views), strict=True))
    return [pictures[i] for i in range(len(cameras))]


def _hidden_row(world: World, camera: Camera) -> int:
    carrier = camera.parent
    if carrier is None or carrier.row < 0:
        return -1
    at = into_frame(carrier.transform(world.bodies), camera.transform(world.bodies).location)
    centre, extent = carrier.box.location, carrier.box.extent
    inside = all(abs(at[i] - centre[i]) < extent[i] for i in range(3))
    return carrier.row if inside else -1


def picture_of(world: World) -> Scene:
    """The renderer's scene: bodies first, in the order of their rows, then traffic lights."""
    rows, actors = world.bodies.rows, world.bodied()
    signals = list(world.of_kind(TrafficLight))
    scene = Scene.empty(len(actors) + len(signals), Weather(*world.weather), world.time)
    yaw = np.radians(rows["yaw"])
    n = len(actors)
    for column, name in enumerate(("x", "y", "z", "roll", "pitch", "yaw")):
        scene.pose[:n, column] = rows[name]
    scene.pose[:n, 0] += rows["box_x"] * np.cos(yaw)
    scene.pose[:n, 1] += rows["box_x"] * np.sin(yaw)
    scene.pose[:n, 2] += rows["box_z"]
    for column, name in enumerate(("half_x", "half_y", "half_z")):
        scene.half_extents[:n, column] = rows[name]
    scene.steer[:n] = np.degrees(rows["wheel"])
    scene.walked[:n] = rows["travelled"]
    for i, actor in enumerate((*actors, *signals)):
        scene.actor_id[i], scene.tag[i] = actor.id, actor.tags[0]
        if isinstance(actor, (Vehicle, Walker, Prop)):
            scene.look[i], scene.colour[i] = actor.look, actor.colour
        if isinstance(actor, Vehicle):
            scene.lights[i] = lights_of(actor)
        elif isinstance(actor, TrafficLight):
            scene.look[i], scene.lights[i], scene.colour[i] = Look.TRAFFIC_LIGHT, actor.state_now, LAMP_COLOUR
            (x, y, z), rotation = actor.place.location, actor.facing
            offset, extent = POST.location, POST.extent
            scene.pose[i] = (x, y, z + offset.z, rotation.roll, rotation.pitch, rotation.yaw)
            scene.half_extents[i] = extent
    return scene


def lights_of(vehicle: Vehicle) -> int:
    """The VehicleLightState flags of a vehicle, with the lamps that its pedals switch on."""
    braking = BRAKE_LIGHT if vehicle.control.brake > 0.02 else 0
    return vehicle.lights | braking | (REVERSE_LIGHT if vehicle.control.reverse else 0)


def without(scene: Scene, row: int) -> Scene:
    """The scene without one actor."""
    keep = np.arange(len(scene.look)) != row
    fields = ("pose", "half_extents", "look", "colour", "lights", "tag", "actor_id", "steer", "walked")
    arrays = {name: getattr(scene, name)[keep] for name in fields}
    return Scene(**arrays, weather=scene.weather, time=scene.time)
