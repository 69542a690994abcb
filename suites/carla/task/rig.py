"""The ego's sensors: its cameras side by side, in one or several sizes, and what it collides with."""

from __future__ import annotations

import math
import queue
from collections.abc import Iterable
from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

from suites.carla.task.episode import KINDS, Contact

FOV = 60.0  # degrees across the shorter side of a picture
CAMERA = carla.Transform(carla.Location(x=1.6, z=1.7))  # in front of the windscreen, roof high
GROUND = ("static.road", "static.sidewalk", "static.terrain", "static.ground")  # a bump, not a collision
Size = tuple[int, int]  # height and width of a picture


class Rig:
    """The sensors of one episode. cameras: 1, 3 or 5 side by side in every picture."""

    def __init__(self, cameras: int) -> None:
        self._cameras = cameras
        self._sensors: list[Any] = []
        self._queues: dict[Size, list[queue.SimpleQueue[Any]]] = {}
        self._images: dict[Size, list[Any]] = {}
        self._contacts: list[tuple[int, Contact]] = []  # with the frame of each

    def attach(self, world: Any, ego: Any, sizes: Iterable[Size]) -> None:
        """Mounts the collision sensor and the cameras of every size on the ego."""
        library = world.get_blueprint_library()
        sensor = world.spawn_actor(library.find("sensor.other.collision"), carla.Transform(), attach_to=ego)
        self._sensors.append(sensor)
        sensor.listen(self._hit)
        for size in sizes:
            self._queues[size] = [
                self._mount(world, ego, self._blueprint(library, size), FOV * (index - self._cameras // 2))
                for index in range(self._cameras)
            ]

    def _blueprint(self, library: Any, size: Size) -> Any:
        height, width = size
        blueprint = library.find("sensor.camera.rgb")
        side = width // self._cameras
        fov = math.degrees(2 * math.atan(math.tan(math.radians(FOV / 2)) * max(1.0, side / height)))
        for name, value in (("image_size_x", side), ("image_size_y", height), ("fov", fov)):
            blueprint.set_attribute(name, str(value))
        if blueprint.has_attribute("textures"):  # of our servers: the tasks' pictures are those of their version
            blueprint.set_attribute("textures", "false")
        return blueprint

    def _mount(self, world: Any, ego: Any, blueprint: Any, yaw: float) -> queue.SimpleQueue[Any]:
        """A camera that looks `yaw` degrees to the right; its pictures arrive in the queue."""
        place = carla.Transform(CAMERA.location, carla.Rotation(yaw=yaw))
        camera = world.spawn_actor(blueprint, place, attach_to=ego)
        self._sensors.append(camera)
        images: queue.SimpleQueue[Any] = queue.SimpleQueue()
        camera.listen(images.put)
        return images

    def stop(self) -> None:
        """Stops the sensors, before they are destroyed."""
        for sensor in self._sensors:
            if sensor.is_listening():
                sensor.stop()

    def _hit(self, event: Any) -> None:
        """Called by the library's thread."""
        if event.other_actor.type_id in GROUND:
            return
        kind = event.other_actor.type_id.split(".")[0]
        impulse = event.normal_impulse.length()
        if impulse > 0.0:
            contact = Contact(kind if kind in KINDS else "static", event.other_actor.id, impulse)
            self._contacts.append((event.frame, contact))

    def await_images(self, frame: int, timeout: float) -> None:
        """Waits for every camera's picture of a frame. Raises RuntimeError after `timeout` seconds without one."""
        for size, queues in self._queues.items():
            self._images[size] = [_image(images, frame, timeout) for images in queues]

    def contacts(self, frame: int) -> tuple[Contact, ...]:
        """What the ego touched up to a frame; each contact is returned once."""
        found = tuple(contact for at, contact in self._contacts if at <= frame)
        self._contacts = [entry for entry in self._contacts if entry[0] > frame]
        return found

    def picture(self, size: Size) -> NDArray[np.uint8] | None:
        """The newest picture of a size, uint8 (height, width, 3); None if no camera of that size has looked yet."""
        if size not in self._images:
            return None
        views = []
        for image in self._images[size]:
            pixels = np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)
            views.append(pixels[:, :, 2::-1])  # BGRA to RGB
        return np.ascontiguousarray(views[0] if len(views) == 1 else np.concatenate(views, axis=1))


def _image(images: queue.SimpleQueue[Any], frame: int, timeout: float) -> Any:
    """The picture of a frame; older ones are dropped."""
    while True:
        try:
            image = images.get(timeout=timeout)
        except queue.Empty:
            raise RuntimeError(f"no picture of frame {frame} came within {timeout:g} s") from None
        if image.frame >= frame:
            return image
