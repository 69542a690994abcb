"""The process that talks to a CARLA server: the only one that loads the client library.

`python -m suites.carla.task.simulator FD` answers requests on a socket; `session` is the other end. The library can hang
with Python's lock held, or abort; here that costs an episode, not the run. Should it hang after its owner died, the
kernel's alarm ends it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import queue
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

from suites.carla.task.episode import DT, KINDS, Contact, Tick
from suites.carla.task.privileged import Privileged
from suites.carla.task.scenarios import SCENARIOS
from suites.carla.task.stages import STAGES, Stage, Walk

EGO = "vehicle.tesla.model3"
FOV = 60.0  # degrees across the shorter side of a picture
CAMERA = carla.Transform(carla.Location(x=1.6, z=1.7))  # in front of the windscreen, roof high
SETTLE = 10  # ticks before the first picture: vehicles come to rest on their wheels, traffic sets off
CLOCK = 3  # ticks of an empty embedded world, so that every episode begins at the same simulated time
MANAGER_PORT = 8000
RELEASES = ("0.9.15", "0.9.16")
GROUND = ("static.road", "static.sidewalk", "static.terrain", "static.ground")  # a bump, not a collision
Size = tuple[int, int]  # height and width of a picture


class Simulator:
    """Episodes of one scenario on a server, tick by tick.

    cameras: 1, 3 or 5 side by side, `size` pixels square each. private: whether ticks have the state observation.
    timeout: seconds after which a call to the server fails. Raises RuntimeError for a release we do not know.
    """

    def __init__(
        self, host: str, port: int, scenario: str, *, cameras: int, size: int, private: bool, timeout: float
    ) -> None:
        self._scenario, self._cameras, self._private, self._timeout = SCENARIOS[scenario], cameras, private, timeout
        self._begin, self._populate = STAGES[scenario]
        # One thread for all streams: a collision is then heard before the picture that was taken after it.
        self._client = carla.Client(host, port, 1)
        self._client.set_timeout(timeout)
        self.release = _checked_release(self._client.get_server_version())
        self._world = self._client.get_world()
        library = self._world.get_blueprint_library()
        self.embedded = bool(library.find(EGO).has_attribute("driver"))
        wanted = self._scenario.map if self.embedded else self._scenario.real_map
        if not self._world.get_map().name.endswith(wanted):
            self._world = self._client.load_world(wanted)
        self._before = self._world.get_settings()
        settings = self._world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, DT
        self._world.apply_settings(settings)
        self._obs_size: Size = (size, cameras * size)
        self._sizes = [self._obs_size]
        self._ego: Any = None
        self._spawned: list[int] = []

    def describe(self) -> tuple[str, bool]:
        """(release of the server, whether it is an embedded one)."""
        return self.release, self.embedded

    def reset(self, seed: int) -> Tick:
        """Begins the episode of a seed."""
        self._clear()
        rng = np.random.default_rng(seed)
        if self.embedded:
            self._world = self._client.reload_world(False)  # rain and indicators follow the clock
            for _ in range(CLOCK):
                self._world.tick()
        self._map = self._world.get_map()
        self._world.set_weather(carla.WeatherParameters(**self._scenario.weather))
        for light in self._world.get_actors().filter("traffic.traffic_light*"):
            light.set_state(carla.TrafficLightState.Green)
            light.freeze(True)
        self._people(rng)
        self._last = self._ego.get_location()
        return self._look()

    def step(self, steer: float, pedal: float) -> Tick:
        """One control step. pedal: throttle where positive, brake where negative; both in -1..1."""
        self._ego.apply_control(
            carla.VehicleControl(throttle=max(pedal, 0.0), brake=max(-pedal, 0.0), steer=float(steer))
        )
        if not self._ego.is_alive:
            raise RuntimeError("the ego vehicle is gone: another client took the world")
        speed = self._ego.get_velocity().length()
        for walk in self._walks:
            walk.go_on(self._last, speed)
        return self._look()

    def picture(self, height: int, width: int) -> NDArray[np.uint8] | None:
        """The present view at another size, uint8 (height, width, 3); None if no camera of that size looks yet."""
        return self._join((height, width)) if (height, width) in self._pictures else None

    def watch(self, height: int, width: int) -> None:
        """From the next episode on, also keep a camera of that size."""
        if (height, width) not in self._sizes:
            self._sizes.append((height, width))

    def patience(self, timeout: float) -> None:
        """Seconds after which a call to the server fails, from now on."""
        self._timeout = timeout
        self._client.set_timeout(timeout)

    def close(self) -> None:
        """Leaves the world as it was found, less what others had left in it."""
        self._clear()
        self._world.apply_settings(self._before)

    def _clear(self) -> None:
        """Destroys every vehicle, pedestrian and sensor, those of earlier clients too; sensors are stopped first."""
        if not self.embedded and self._ego:
            self._client.get_trafficmanager(MANAGER_PORT).set_synchronous_mode(False)
        left = self._world.get_actors()
        kinds = ("sensor.*", "controller.*", "vehicle.*", "walker.*", "static.prop.*")
        actors = [actor for kind in kinds for actor in left.filter(kind)]
        for actor in actors:
            if isinstance(actor, carla.Sensor) and actor.is_listening():
                actor.stop()
        for sensor in getattr(self, "_sensors", []):
            if sensor.is_listening():
                sensor.stop()
        if actors:
            self._batch([carla.command.DestroyActor(actor) for actor in actors])
        self._sensors: list[Any] = []
        self._heard: dict[Size, list[queue.SimpleQueue[Any]]] = {}
        self._pictures: dict[Size, list[Any]] = {}
        self._contacts: list[tuple[int, Contact]] = []
        self._walks: list[Walk] = []
        self._ego = None

    def _people(self, rng: np.random.Generator) -> None:
        """Spawns the ego, the others and the sensors; ends with the first pictures."""
        stage = Stage(self._world, self._map, rng, self.embedded)
        start = self._begin(stage)
        place = start.transform
        place.location.z += 0.3
        blueprint = stage.library.find(EGO)
        blueprint.set_attribute("role_name", "hero")
        self._ego = self._world.spawn_actor(blueprint, place)
        self._ego.apply_control(carla.VehicleControl(brake=1.0))
        self._populate(stage, start)
        others = self._spawn(stage)
        for _ in range(SETTLE):
            self._world.tick()
        self._view = None
        if self._private:
            self._view = Privileged(self._map, self._ego, others, rng)
        self._attach(stage.library)

    def _spawn(self, stage: Stage) -> list[Any]:
        """What the stage planned, in one batch; what finds no room is left out."""
        manager = None if self.embedded else self._client.get_trafficmanager(MANAGER_PORT)
        if manager:
            manager.set_synchronous_mode(True)
            manager.set_random_device_seed(int(stage.rng.integers(2**31)))
        commands = []
        for number, planned in enumerate(stage.vehicles):
            blueprint = planned.blueprint
            if self.embedded and planned.drives:
                blueprint.set_attribute("driver", "server")
                blueprint.set_attribute("driver_speed", f"{planned.kph:.2f}")
                blueprint.set_attribute("driver_lane_changes", f"{planned.changes:.2f}")
                blueprint.set_attribute("driver_seed", str(number))
            commands.append(carla.command.SpawnActor(blueprint, planned.place))
        commands += [carla.command.SpawnActor(walk.blueprint, walk.stands) for walk in stage.walkers]
        answers = self._batch(commands)
        ids = [0 if answer.error else answer.actor_id for answer in answers]
        actors = {actor.id: actor for actor in self._world.get_actors([i for i in ids if i])}
        for planned, actor_id in zip(stage.vehicles, ids, strict=False):
            if manager and planned.drives and actor_id:
                actors[actor_id].set_autopilot(True, MANAGER_PORT)
                manager.set_desired_speed(actors[actor_id], planned.kph or 30.0)
                manager.random_left_lanechange_percentage(actors[actor_id], planned.changes)
                manager.random_right_lanechange_percentage(actors[actor_id], planned.changes)
        walking = zip(stage.walkers, ids[len(stage.vehicles) :], strict=True)
        self._walks = [walker.begin(actors[actor_id]) for walker, actor_id in walking if actor_id]
        return [actors[i] for i in ids if i]

    def _batch(self, commands: list[Any]) -> Any:
        """Carries out commands and ticks. The library's own tick would keep Python's lock and starve the sensors."""
        answers = self._client.apply_batch_sync(commands, False)
        self._world.tick()
        return answers

    def _attach(self, library: Any) -> None:
        """Cameras and the collision sensor; ticks until each camera has taken a picture."""
        sensor = self._world.spawn_actor(library.find("sensor.other.collision"), carla.Transform(), attach_to=self._ego)
        self._sensors.append(sensor)
        sensor.listen(self._hit)
        for height, width in self._sizes:
            blueprint = library.find("sensor.camera.rgb")
            side = width // self._cameras
            fov = math.degrees(2 * math.atan(math.tan(math.radians(FOV / 2)) * max(1.0, side / height)))
            for name, value in (("image_size_x", side), ("image_size_y", height), ("fov", fov)):
                blueprint.set_attribute(name, str(value))
            queues: list[queue.SimpleQueue[Any]] = []
            for index in range(self._cameras):
                place = carla.Transform(CAMERA.location, carla.Rotation(yaw=FOV * (index - self._cameras // 2)))
                camera = self._world.spawn_actor(blueprint, place, attach_to=self._ego)
                self._sensors.append(camera)
                heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
                camera.listen(heard.put)
                queues.append(heard)
            self._heard[(height, width)] = queues

    def _hit(self, event: Any) -> None:
        """Called by the library's thread."""
        if event.other_actor.type_id in GROUND:
            return
        kind = event.other_actor.type_id.split(".")[0]
        impulse = event.normal_impulse.length()
        if impulse > 0.0:
            contact = Contact(kind if kind in KINDS else "static", event.other_actor.id, impulse)
            self._contacts.append((event.frame, contact))

    def _look(self) -> Tick:
        """Ticks, and gathers what there is to see."""
        frame = self._world.tick()
        for size, queues in self._heard.items():
            self._pictures[size] = [self._image(heard, frame) for heard in queues]
        contacts = tuple(contact for at, contact in self._contacts if at <= frame)
        self._contacts = [entry for entry in self._contacts if entry[0] > frame]
        place, velocity = self._ego.get_transform(), self._ego.get_velocity()
        here = place.location
        moved, self._last = here.distance(self._last), here
        lane = self._map.get_waypoint(here, False)
        # Lanes cross in a junction; there the car's own heading says where it is going.
        ahead = place.get_forward_vector() if lane is None or lane.is_junction else lane.transform.get_forward_vector()
        return Tick(
            picture=self._join(self._obs_size),
            state=self._view.look() if self._view else None,
            lane_speed=velocity.x * ahead.x + velocity.y * ahead.y,
            speed=math.hypot(velocity.x, velocity.y),
            moved=moved,
            on_road=lane is not None,
            contacts=contacts,
        )

    def _image(self, heard: queue.SimpleQueue[Any], frame: int) -> Any:
        """The picture of a frame; older ones are dropped."""
        while True:
            try:
                image = heard.get(timeout=self._timeout)
            except queue.Empty:
                raise RuntimeError(f"no picture of frame {frame} came within {self._timeout:g} s") from None
            if image.frame >= frame:
                return image

    def _join(self, size: Size) -> NDArray[np.uint8]:
        images = []
        for image in self._pictures[size]:
            pixels = np.frombuffer(image.raw_data, np.uint8).reshape(image.height, image.width, 4)
            images.append(pixels[:, :, 2::-1])  # BGRA to RGB
        return np.ascontiguousarray(images[0] if len(images) == 1 else np.concatenate(images, axis=1))


def _checked_release(server: str) -> str:
    """The server's release, if it is the client's."""
    client = importlib.metadata.version("carla")
    if server != client or server not in RELEASES:
        raise RuntimeError(
            f"the CARLA server is release {server}, the installed client {client}; both must be one of "
            f"{', '.join(RELEASES)}. Start that server, or install its client: pip install carla=={server}"
        )
    return server


def main() -> None:
    channel = Connection(int(sys.argv[1]))
    simulator: Simulator | None = None
    while True:
        try:
            name, arguments, limit = channel.recv()
        except EOFError:  # the owner died
            signal.setitimer(signal.ITIMER_REAL, 30.0)
            if simulator:
                with contextlib.suppress(RuntimeError):
                    simulator.patience(2.0)  # an embedded server may have died with its owner
                    simulator.close()
            break
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            if name == "open":
                simulator = Simulator(*arguments[0], **arguments[1])
                answer = simulator.describe()
            else:
                answer = getattr(simulator, name)(*arguments)
            channel.send((True, answer))
        except Exception as error:  # told to the owner, who decides
            channel.send((False, f"{error}" if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if name == "close":
            break
    sys.stdout.flush()
    os._exit(0)  # the library's own threads have been seen to crash at exit


if __name__ == "__main__":
    main()
